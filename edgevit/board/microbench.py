"""A second of arithmetic and memory copies: what one core does, measured and not derived.

Python 3.8 and standard library only; numpy where the board has it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GEMM_SIZE = 384
COPY_BYTES = 32 << 20
BENCH_SECONDS = 0.4


def gemm_gflops(clock: Callable[[], float] = time.perf_counter) -> float | None:
    """10^9 fp32 operations a second of one core in a matrix product of numpy's; None without numpy.

    The best of the products: the least disturbed one. A multiply-accumulate counts as two operations.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # read when numpy is imported, which nothing before has done here
    try:
        import numpy
    except ImportError:
        return None
    left = numpy.ones((GEMM_SIZE, GEMM_SIZE), numpy.float32)
    best_s = best_seconds(lambda: left @ left, clock)
    return 2.0 * GEMM_SIZE**3 / best_s / 1e9 if best_s > 0 else None


def copy_gb_s(clock: Callable[[], float] = time.perf_counter) -> float | None:
    """GB a second that one core copies between buffers larger than its caches: bytes read and bytes written."""
    source, target = memoryview(bytearray(COPY_BYTES)), memoryview(bytearray(COPY_BYTES))

    def copy() -> None:
        target[:] = source

    best_s = best_seconds(copy, clock)
    return 2.0 * COPY_BYTES / best_s / 1e9 if best_s > 0 else None


def best_seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """The shortest of at least three turns and BENCH_SECONDS."""
    began, best_s, turns = clock(), float("inf"), 0
    while turns < 3 or clock() - began < BENCH_SECONDS:
        start = clock()
        work()
        best_s, turns = min(best_s, clock() - start), turns + 1
    return best_s
