from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from edgevit.board.timer import measure, warm_up

TICK = 1 / 64  # seconds; exact in binary, so that sums are


class FakeClock:
    """A clock that stands still until somebody lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passing(self, *seconds: float) -> FakeRun:
        return FakeRun(self, seconds)


class FakeRun:
    """Takes the given seconds, one after the other, and the last of them for ever."""

    def __init__(self, clock: FakeClock, seconds: tuple[float, ...]) -> None:
        self.clock = clock
        self.seconds = seconds
        self.calls = 0

    def __call__(self) -> None:
        self.clock.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def garbage_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    yield
    gc.enable() if was_on else gc.disable()


def test_a_steady_run_is_warmed_up_for_two_windows_and_measured_for_three_seconds(clock: FakeClock) -> None:
    run = clock.passing(TICK)
    measured = measure(run, clock)
    assert measured == {"samples_ms": [15.625] * 192, "warmup_runs": 16, "is_steady": True, "wall_s": 3.0}
    assert run.calls == 16 + 192


def test_a_slow_run_is_measured_sixty_four_times(clock: FakeClock) -> None:
    measured = measure(clock.passing(0.5), clock)
    assert measured["samples_ms"] == [500.0] * 64


def test_a_fast_run_is_measured_until_its_runs_add_up_to_three_seconds(clock: FakeClock) -> None:
    assert len(measure(clock.passing(1 / 1024), clock)["samples_ms"]) == 3072


def test_a_fast_run_is_warmed_up_for_a_tenth_of_a_second_per_window(clock: FakeClock) -> None:
    runs, is_steady = warm_up(clock.passing(1 / 1024), clock)
    assert is_steady
    assert runs == 2 * 103  # 103/1024 s is the first multiple from 0.1 s


def test_slow_first_runs_belong_to_the_warm_up(clock: FakeClock) -> None:
    measured = measure(clock.passing(*[TICK * 4] * 8, TICK), clock)
    assert set(measured["samples_ms"]) == {15.625}
    assert measured["warmup_runs"] == 24  # the slow window, and two that agree


def test_warm_up_that_never_comes_to_rest_ends_after_ten_seconds_and_says_so(clock: FakeClock) -> None:
    growing = clock.passing(*[TICK * 1.05**i for i in range(1000)])
    _, is_steady = warm_up(growing, clock)
    assert not is_steady
    assert 10.0 <= clock.now < 20.0


def test_one_very_slow_run_ends_the_warm_up(clock: FakeClock) -> None:
    assert warm_up(clock.passing(30.0), clock) == (1, False)


def test_measuring_ends_after_max_seconds_with_fewer_runs_than_asked_for(clock: FakeClock) -> None:
    measured = measure(clock.passing(4.0), clock, max_seconds=20.0)
    assert measured["samples_ms"] == [4000.0] * 5


def test_half_time_is_called_once_between_runs_and_is_not_timed(clock: FakeClock) -> None:
    run = clock.passing(TICK)
    calls = []

    def look() -> None:
        calls.append(run.calls)
        clock.now += 1000.0

    measured = measure(run, clock, max_seconds=1e6, at_half_time=look)
    assert calls == [16 + 96]  # 96 of 192 runs
    assert measured["samples_ms"] == [15.625] * 192


def test_a_clock_that_goes_in_coarse_steps_gives_zeros_and_still_ends(clock: FakeClock) -> None:
    assert measure(clock.passing(0.0, *[0.0] * 7, 1.0), clock)["samples_ms"] == [1000.0] * 64


@pytest.mark.usefixtures("garbage_collector")
@pytest.mark.parametrize("before", [True, False])
def test_garbage_collector_is_off_while_timing_and_then_as_it_was(clock: FakeClock, before: bool) -> None:
    gc.enable() if before else gc.disable()
    seen = set()
    run = clock.passing(TICK)
    measure(lambda: (seen.add(gc.isenabled()), run()), clock)
    assert seen == {False}
    assert gc.isenabled() is before


@pytest.mark.usefixtures("garbage_collector")
def test_garbage_collector_is_on_again_after_a_run_that_fails(clock: FakeClock) -> None:
    gc.enable()

    def run() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        measure(run, clock)
    assert gc.isenabled()


def test_progress_is_told_once_a_second_between_runs(clock: FakeClock) -> None:
    told: list[tuple[int, float]] = []
    measured = measure(clock.passing(0.25), clock, on_progress=lambda runs, seconds: told.append((runs, seconds)))
    assert told[:3] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    assert len(measured["samples_ms"]) == 64
    assert told[-1] == (60, 15.0)  # the last second ends with the last run, and that is no progress any more
