"""Streams by runs that are events, and by a clock that each run moves."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import pytest

from edgevit.board import streams
from edgevit.board.streams import measure_streams


class Clock:
    """Each run moves it on by `step` seconds, whoever runs."""

    def __init__(self, step: float) -> None:
        self.now, self._step, self._lock = 0.0, step, threading.Lock()

    def __call__(self) -> float:
        return self.now

    def run(self) -> None:
        with self._lock:
            self.now += self._step


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_INTERVAL_S", 0.0005)


def test_streams_run_side_by_side_and_all_their_runs_count() -> None:
    clock, together = Clock(0.01), threading.Barrier(3, timeout=10)
    first = [True, True, True]

    def stream(number: int) -> Callable[[], None]:
        def run() -> None:
            if first[number]:
                first[number] = False
                together.wait()  # would never end if one waited for another
            clock.run()

        return run

    found = measure_streams([stream(number) for number in range(3)], clock, min_seconds=1.0, min_runs=64)
    assert len(found["samples_ms"]) >= 64
    assert found["wall_s"] >= 1.0
    assert all(sample >= 10.0 - 1e-6 for sample in found["samples_ms"])
    assert found["warmup_runs"] >= 3 * 16  # two windows of eight runs each


def test_one_stream_alone_has_the_latency_of_its_runs() -> None:
    clock = Clock(0.25)
    found = measure_streams([clock.run], clock, min_seconds=4.0, min_runs=4)
    assert set(found["samples_ms"]) == {250.0}
    assert found["wall_s"] == pytest.approx(0.25 * len(found["samples_ms"]))


def test_it_goes_on_until_there_are_enough_runs_or_the_time_is_over() -> None:
    clock = Clock(1.0)
    assert len(measure_streams([clock.run] * 2, clock, min_seconds=0.0, min_runs=50)["samples_ms"]) >= 50
    clock = Clock(1.0)
    found = measure_streams([clock.run] * 2, clock, min_seconds=0.0, min_runs=10**9, max_seconds=30.0)
    assert found["wall_s"] >= 29.0


def test_the_half_time_look_comes_once_and_the_start_before_the_first_run() -> None:
    clock, calls = Clock(0.05), []
    measure_streams(
        [clock.run] * 2,
        clock,
        min_seconds=2.0,
        min_runs=1,
        at_start=lambda: calls.append("start"),
        at_half_time=lambda: calls.append("half"),
    )
    assert calls[0] == "start"
    assert calls.count("half") <= 1


def test_a_stream_that_fails_stops_the_others_and_is_told() -> None:
    clock, runs = Clock(0.01), [0]

    def fails() -> None:
        runs[0] += 1
        clock.run()
        if runs[0] > 500:
            raise ValueError("the model went away")

    with pytest.raises(ValueError, match="the model went away"):
        measure_streams([clock.run, fails], clock, min_seconds=1e9, min_runs=10**9, max_seconds=1e9)
    assert not [thread for thread in threading.enumerate() if thread.name == "stream"]


def test_a_stream_that_fails_in_its_warm_up_ends_all() -> None:
    clock = Clock(0.01)

    def fails() -> None:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        measure_streams([clock.run, fails], clock, min_seconds=1e9, min_runs=1, max_seconds=1e9)
    assert not [thread for thread in threading.enumerate() if thread.name == "stream"]


def test_the_garbage_collector_is_on_again_afterwards() -> None:
    clock = Clock(0.5)
    measure_streams([clock.run], clock, min_seconds=0.0, min_runs=1)
    assert gc.isenabled()
