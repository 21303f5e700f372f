"""Histogram: the distribution of a stream of values whose range nobody knows beforehand, in constant memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 16_384  # a bin is at most 1/4096 of the largest magnitude: 16 bins to a step of 8 bits
FIRST_LIMIT = 2.0**-100
HALVINGS = BINS.bit_length() - 2  # of the number of bins, until one is left on either side of zero
CHUNK = 65_536  # values at a time: what they become stays in the processor's cache (2.1 ns a value instead of 4.9)


class Histogram:
    """Counts in BINS equal bins over [-limit, limit), where `limit` is a power of two above every magnitude seen.

    When a value does not fit, neighbouring bins are merged in pairs until it does: a bin's edges are then multiples of
    its new width as well, so the counts are those of one pass with the final limit, whatever the order of the values.
    `low`, `high`: the extremes. `zeros`: how many values are exactly zero (they are counted in a bin as well).
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = FIRST_LIMIT
        self.low = math.inf
        self.high = -math.inf
        self.zeros = 0

    @property
    def edges(self) -> NDArray[np.float64]:
        """(BINS + 1,) rising, exact; bin i holds values in [edges[i], edges[i + 1])."""
        return np.arange(-BINS // 2, BINS // 2 + 1, dtype=np.float64) * (2 * self.limit / BINS)

    def observe(self, values: NDArray[np.floating]) -> None:
        """values: finite float32 of any shape, at least one."""
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.zeros += values.size - int(np.count_nonzero(values))
        self._grow_beyond(max(-low, high))
        bins_per_unit = np.float32(BINS / (2 * self.limit))  # a power of two: the product below is exact
        flat = values.ravel()
        for start in range(0, flat.size, CHUNK):
            indices = np.floor(flat[start : start + CHUNK] * bins_per_unit).astype(np.intp)
            self.counts += np.bincount(indices + BINS // 2, minlength=BINS)

    def _grow_beyond(self, magnitude: float) -> None:
        if magnitude < self.limit:
            return
        limit = 2.0 ** math.frexp(magnitude)[1]
        halvings = min(round(math.log2(limit / self.limit)), HALVINGS)
        merged = self.counts.reshape(-1, 1 << halvings).sum(axis=1)
        self.counts = np.pad(merged, (BINS - merged.size) // 2)
        self.limit = limit
