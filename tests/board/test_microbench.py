from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from edgevit.board import microbench
from edgevit.board.microbench import COPY_BYTES, GEMM_SIZE, best_seconds, copy_gb_s, gemm_gflops


def ticking(step_s: float) -> Callable[[], float]:
    """A clock that moves by step_s at each look."""

    def times() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += step_s

    stream = times()
    return lambda: next(stream)


def test_the_best_turn_counts() -> None:
    times = iter([0.0, 0.0, 0.3, 0.3, 0.4, 0.4, 0.9, 0.9])
    assert best_seconds(lambda: None, lambda: next(times)) == pytest.approx(0.1)


def test_a_product_of_n_takes_two_n_cubed_operations() -> None:
    assert gemm_gflops(ticking(0.25)) == pytest.approx(2 * GEMM_SIZE**3 / 0.25 / 1e9)


def test_a_copy_reads_and_writes_every_byte() -> None:
    assert copy_gb_s(ticking(0.25)) == pytest.approx(2 * COPY_BYTES / 0.25 / 1e9)


def test_without_numpy_there_is_no_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert gemm_gflops() is None


def test_a_clock_that_stands_still_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbench, "BENCH_SECONDS", 0.0)
    assert (gemm_gflops(lambda: 1.0), copy_gb_s(lambda: 1.0)) == (None, None)
