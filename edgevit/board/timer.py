"""How a run is timed: warm-up until steady, then long enough and often enough.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import gc
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_SECONDS = 3.0
MIN_RUNS = 64
MAX_SECONDS = 180.0
MAX_RUNS = 2_000_000  # what a report can hold: some 30 MB of samples
WARMUP_WINDOW_RUNS = 8
WARMUP_WINDOW_SECONDS = 0.1
WARMUP_TOLERANCE = 0.02
WARMUP_MAX_SECONDS = 10.0
PROGRESS_SECONDS = 1.0


def measure(
    run: Callable[[], object],
    clock: Callable[[], float],
    *,
    min_seconds: float = MIN_SECONDS,
    min_runs: int = MIN_RUNS,
    max_seconds: float = MAX_SECONDS,
    at_start: Callable[[], object] | None = None,
    at_half_time: Callable[[], object] | None = None,
    on_progress: Callable[[int, float], object] | None = None,
) -> dict[str, Any]:
    """samples_ms of single runs, warmup_runs before them, and is_steady: whether the warm-up came to rest.

    wall_s: what the runs add up to. clock: seconds, monotonic. Measuring ends when that reaches min_seconds and the
    runs are min_runs, or when max_seconds have passed since the first of them or there are MAX_RUNS; then there may be
    fewer than min_runs, for the caller to judge.
    at_start is called between the warm-up and the first run that counts;
    at_half_time is called once between two runs, outside of what is timed, when half of min_seconds is measured.
    on_progress is told once a second, between two runs, how many there are and how many seconds they add up to.
    Python's garbage collector is off meanwhile: its pauses are not the model's.
    """
    collects_garbage = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        warmup_runs, is_steady = warm_up(run, clock)
        if at_start is not None:
            at_start()
        samples_ms = _timed_runs(
            run,
            clock,
            min_seconds=min_seconds,
            min_runs=min_runs,
            max_seconds=max_seconds,
            at_half_time=at_half_time,
            on_progress=on_progress,
        )
    finally:
        if collects_garbage:
            gc.enable()
    wall_s = sum(samples_ms) / 1000.0
    return {"samples_ms": samples_ms, "warmup_runs": warmup_runs, "is_steady": is_steady, "wall_s": wall_s}


def warm_up(run: Callable[[], object], clock: Callable[[], float]) -> tuple[int, bool]:
    """How many runs it took until two windows in a row had the same median within 2 %, and whether that came at all.

    A window is at least 8 runs and 0.1 s, so that a model of microseconds also outlasts the clock's ramp-up.
    After 10 s the warm-up ends as it is.
    """
    began = clock()
    runs = 0
    previous_ms = None
    while True:
        window_ms = _timed_runs(
            run,
            clock,
            min_seconds=WARMUP_WINDOW_SECONDS,
            min_runs=WARMUP_WINDOW_RUNS,
            max_seconds=WARMUP_MAX_SECONDS,
            at_half_time=None,
        )
        runs += len(window_ms)
        median_ms = statistics.median(window_ms)
        if previous_ms is not None and abs(median_ms - previous_ms) <= WARMUP_TOLERANCE * previous_ms:
            return runs, True
        if clock() - began >= WARMUP_MAX_SECONDS:
            return runs, False
        previous_ms = median_ms


def to_ms(seconds: float) -> float:
    """Milliseconds to the nanosecond, in which clocks count: what a float has beyond is not measured."""
    return round(seconds * 1000.0, 6)


def _timed_runs(
    run: Callable[[], object],
    clock: Callable[[], float],
    *,
    min_seconds: float,
    min_runs: int,
    max_seconds: float,
    at_half_time: Callable[[], object] | None,
    on_progress: Callable[[int, float], object] | None = None,
) -> list[float]:
    """Latencies in ms, one or more."""
    samples_ms: list[float] = []
    measured_s = 0.0
    began = told = clock()
    while True:
        start = clock()
        run()
        end = clock()
        samples_ms.append(to_ms(end - start))
        measured_s += end - start
        is_enough = measured_s >= min_seconds and len(samples_ms) >= min_runs
        if is_enough or end - began >= max_seconds or len(samples_ms) >= MAX_RUNS:
            return samples_ms
        if at_half_time is not None and measured_s >= min_seconds / 2:
            at_half_time()
            at_half_time = None
        if on_progress is not None and end - told >= PROGRESS_SECONDS:
            on_progress(len(samples_ms), measured_s)
            told = end
