"""Several streams at a time: each thread runs a session of its own, back to back, as several cameras would.

Threads of one process, not processes: a runtime gives Python's lock away while it computes. On two cores of an AMD
EPYC, which other work shared, two threads and two processes with a model of 8 ms gave the same: 12.5 ms each, 138 runs
a second together. Only with one of 0.01 ms the threads' median was longer, by some 10 %: there the lock begins to count
(tests/benchmarks/measure_streams.py).
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

from edgevit.board.timer import MAX_RUNS, MAX_SECONDS, MIN_RUNS, MIN_SECONDS, PROGRESS_SECONDS, to_ms, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOK_INTERVAL_S = 0.02


def measure_streams(
    runs: Sequence[Callable[[], object]],
    clock: Callable[[], float],
    *,
    min_seconds: float = MIN_SECONDS,
    min_runs: int = MIN_RUNS,
    max_seconds: float = MAX_SECONDS,
    at_start: Callable[[], object] | None = None,
    at_half_time: Callable[[], object] | None = None,
    on_progress: Callable[[int, float], object] | None = None,
) -> dict[str, Any]:
    """What timer.measure gives, of all streams together: samples_ms in the order in which the runs ended.

    wall_s: from the first run's start to the last one's end, in which all of them came. All streams warm up at the same
    time, and begin together. min_runs: of all of them. at_half_time is called beside the streams, which do not pause.
    Raises what a stream raised, after the others have stopped.
    """
    streams = _Streams(runs, clock)
    collects_garbage = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        streams.start()
        streams.wait_until_warm()
        if at_start is not None:
            at_start()
        began = told = clock()
        streams.go.set()
        while not streams.has_failed:
            seconds, count = clock() - began, streams.count
            if (seconds >= min_seconds and count >= min_runs) or seconds >= max_seconds or count >= MAX_RUNS:
                break
            if at_half_time is not None and seconds >= min_seconds / 2:
                at_half_time()
                at_half_time = None
            if on_progress is not None and seconds - (told - began) >= PROGRESS_SECONDS:
                on_progress(count, seconds)
                told = clock()
            streams.stop.wait(LOOK_INTERVAL_S)
    finally:
        streams.end()
        if collects_garbage:
            gc.enable()
    return streams.result(began)


class _Streams:
    """The threads. `go`: measuring begins. `stop`: it ends, or one has failed."""

    def __init__(self, runs: Sequence[Callable[[], object]], clock: Callable[[], float]) -> None:
        self.go, self.stop = threading.Event(), threading.Event()
        self._clock = clock
        self._warm = threading.Semaphore(0)
        self._warmups: list[tuple[int, bool]] = []
        self._ended: list[list[tuple[float, float]]] = [[] for _ in runs]  # of each stream: (when, ms)
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._stream, args=(run, ended), name="stream", daemon=True)
            for run, ended in zip(runs, self._ended)
        ]

    @property
    def count(self) -> int:
        return sum(map(len, self._ended))

    @property
    def has_failed(self) -> bool:
        return bool(self._errors)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_until_warm(self) -> None:
        for _ in self._threads:
            self._warm.acquire()

    def end(self) -> None:
        self.stop.set()
        self.go.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def result(self, began: float) -> dict[str, Any]:
        if self._errors:
            raise self._errors[0]
        ended = sorted(sample for stream in self._ended for sample in stream)
        return {
            "samples_ms": [ms for _, ms in ended],
            "warmup_runs": sum(runs for runs, _ in self._warmups),
            "is_steady": all(is_steady for _, is_steady in self._warmups),
            "wall_s": ended[-1][0] - began,
        }

    def _stream(self, run: Callable[[], object], ended: list[tuple[float, float]]) -> None:
        try:
            try:
                self._warmups.append(warm_up(run, self._clock))
            finally:
                self._warm.release()
            self.go.wait()
            while not ended or not self.stop.is_set():
                start = self._clock()
                run()
                end = self._clock()
                ended.append((end, to_ms(end - start)))
        except BaseException as error:  # is raised again where the streams were started
            self._errors.append(error)
            self.stop.set()
