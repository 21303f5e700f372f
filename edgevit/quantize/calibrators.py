"""Calibrators: from the values that a tensor takes to the range that its 8 bits cover."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgevit.quantize.histogram import BINS, Histogram
from edgevit.recipe import Calibrator

LEVELS = 256
DECAY = 0.99
ONE_IN = 10_000  # the 99.99th percentile: so many values to one that is cut off, at either end
# Candidates for a threshold: the extreme, and down to 1/1024 of it in steps of 4 %.
CANDIDATES = 2.0 ** (-np.arange(161) / 16)
# TensorRT looks for the divergence in 2,048 bins: with more, the chance fluctuations of their counts outweigh it.
ENTROPY_BINS = 2048

Array = NDArray[np.float64]
Range = tuple[float, float]


class Distribution(Histogram):
    """All that a calibrator asks for: how a tensor's values lie, and where each picture's extremes do on average.

    The averages weigh the picture k back by DECAY**k. They are divided by the sum of the weights; otherwise the first
    of 128 pictures alone would weigh 0.99^127 = 28 %.
    """

    def __init__(self) -> None:
        super().__init__()
        self._low = self._high = self._weight = 0.0

    def observe(self, values: NDArray[np.floating]) -> None:
        """One picture's values, finite float32 of any shape, at least one."""
        super().observe(values)
        self._low = DECAY * self._low + float(values.min())
        self._high = DECAY * self._high + float(values.max())
        self._weight = DECAY * self._weight + 1.0

    @property
    def mean_extremes(self) -> Range:
        return self._low / self._weight, self._high / self._weight


def minmax_range(distribution: Distribution) -> Range:
    """The smallest and the largest value of all."""
    return distribution.low, distribution.high


def moving_average_range(distribution: Distribution) -> Range:
    """The means of each picture's smallest and largest value, the last pictures weighing most."""
    return distribution.mean_extremes


def percentile_range(histogram: Histogram) -> Range:
    """The quantiles that leave one value in ONE_IN out below and as many above."""
    total = float(histogram.counts.sum())
    low, high = _quantile(histogram, total / ONE_IN), _quantile(histogram, total - total / ONE_IN)
    return max(low, histogram.low), min(high, histogram.high)


def _quantile(histogram: Histogram, rank: float) -> float:
    """The value that `rank` of all values do not exceed, above 0 and below their number; linear within a bin."""
    total = np.cumsum(histogram.counts)
    index = int(np.searchsorted(total, rank))
    count = int(histogram.counts[index])
    low, high = histogram.edges[index : index + 2]
    return float(low + (rank - (total[index] - count)) / count * (high - low))


def mse_range(histogram: Histogram) -> Range:
    """The range [l, h] around zero with the least expected squared error of 8 asymmetric bits, of CANDIDATES.

    Beyond a threshold the error is the distance to it; between the two, rounding to steps of (h - l)/255 errs by
    step²/12 on average. Exact zeros err nowhere: zero has its own code.
    Source: step²/12, Widrow and Kollár, Quantization Noise, 2008; clipping against rounding, Banner et al. 2019.
    """
    centers = (histogram.edges[:-1] + histogram.edges[1:]) / 2
    counts = _counts_without_zeros(histogram)
    highs, lows = max(histogram.high, 0.0) * CANDIDATES, min(histogram.low, 0.0) * CANDIDATES
    above, clipped_above = _beyond(centers, counts, highs)
    below, clipped_below = _beyond(-centers[::-1], counts[::-1], -lows)
    steps = (highs[None, :] - lows[:, None]) / (LEVELS - 1)
    inside = counts.sum() - below[:, None] - above[None, :]
    error = clipped_below[:, None] + clipped_above[None, :] + inside * steps**2 / 12
    low, high = np.unravel_index(error.argmin(), error.shape)
    return float(lows[low]), float(highs[high])


def _beyond(centers: Array, counts: Array, thresholds: Array) -> tuple[Array, Array]:
    """How many values lie above each threshold (T,), and the sum of their squared distances to it (T,)."""
    first = np.searchsorted(centers, thresholds, side="right")
    zeroth, once, twice = (
        np.concatenate([np.cumsum((counts * centers**power)[::-1])[::-1], [0.0]])[first] for power in range(3)
    )
    return zeroth, np.maximum(twice - 2 * thresholds * once + thresholds**2 * zeroth, 0.0)


def entropy_range(histogram: Histogram) -> Range:
    """The range around zero whose 256 levels lose the least information on the distribution (KL divergence).

    P: the counts, those beyond a threshold added to the last bin within. Q: each level's mean over its bins that hold
    anything. Both thresholds are searched, so one-sided and skewed data keep their shape. Exact zeros lose nothing and
    are left out.
    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017, there for one threshold of |x|.
    """
    counts, edges = _coarse(histogram)
    zero = int(np.searchsorted(edges, 0.0))
    lasts = zero + _bins_kept(counts[zero:])
    firsts = zero - _bins_kept(counts[:zero][::-1])
    sums = _Sums(counts)
    best, chosen = math.inf, (firsts[0], lasts[0])
    for first, last in itertools.product(firsts, lasts):
        # With fewer bins than levels each bin would have its own level, and nothing would seem lost.
        if last - first >= LEVELS and (divergence := sums.divergence(first, last)) < best:
            best, chosen = divergence, (first, last)
    return max(float(edges[chosen[0]]), histogram.low), min(float(edges[chosen[1]]), histogram.high)


def _bins_kept(counts: Array) -> NDArray[np.int64]:
    """How many bins to keep on one side of zero, falling: all, and down to 1/16 in steps of 9 %.

    The last one kept always holds something: a level cannot stand for what is clipped to an empty bin.
    """
    filled = np.flatnonzero(counts) + 1
    if not filled.size:
        return np.zeros(1, np.int64)
    wanted = np.ceil(filled[-1] * CANDIDATES[:65:2])
    found = np.searchsorted(filled, wanted, side="right") - 1
    return np.unique(filled[found[found >= 0]])[::-1]


def _counts_without_zeros(histogram: Histogram) -> Array:
    counts = histogram.counts.astype(np.float64)
    counts[BINS // 2] -= histogram.zeros
    return counts


def _coarse(histogram: Histogram) -> tuple[Array, Array]:
    """Counts and edges of the bins from the lowest value (or zero) to the highest, merged to about ENTROPY_BINS."""
    counts, edges = _counts_without_zeros(histogram), histogram.edges
    first = int(np.searchsorted(edges, min(histogram.low, 0.0), side="right")) - 1
    last = int(np.searchsorted(edges, max(histogram.high, 0.0), side="right"))  # at least one bin
    factor = 1 << max(0, math.ceil(math.log2((last - first) / ENTROPY_BINS)))
    first, last = first // factor, -(-last // factor)
    merged = counts.reshape(-1, factor).sum(axis=1)
    return merged[first:last], edges[::factor][first : last + 1]


class _Sums:
    """Prefix sums of a histogram's counts, from which the divergence of a range takes time for its levels alone."""

    def __init__(self, counts: Array) -> None:
        self._counts = counts
        self._total = counts.sum()
        self._mass = np.concatenate([[0.0], np.cumsum(counts)])
        self._filled = np.concatenate([[0], np.cumsum(counts > 0)])
        logarithms = np.log(counts, out=np.zeros_like(counts), where=counts > 0)
        self._plogp = np.concatenate([[0.0], np.cumsum(counts * logarithms)])

    def divergence(self, first: int, last: int) -> float:
        """KL(P || Q) in nats of the range of bins [first, last), of which the outermost hold something or clip nothing.

        With C the counts inside, N all of them and n those inside: the sum over bins of P·log(P·N) - P·log(Q·n), less
        log(N/n); clipped values change P's two outermost terms.
        """
        cuts = np.rint(np.linspace(first, last, LEVELS + 1)).astype(np.intp)
        mass, filled = np.diff(self._mass[cuts]), np.diff(self._filled[cuts])
        means = mass / np.maximum(filled, 1)
        held = mass > 0
        own = float(self._plogp[last] - self._plogp[first])
        cross = float((mass[held] * np.log(means[held])).sum())
        for clipped, edge, mean in (
            (self._mass[first], first, means[0]),
            (self._total - self._mass[last], last - 1, means[-1]),
        ):
            if clipped > 0:
                count = float(self._counts[edge])
                own += (count + clipped) * math.log(count + clipped) - count * math.log(count)
                cross += clipped * math.log(mean)
        inside = self._mass[last] - self._mass[first]
        return float((own - cross) / self._total - math.log(self._total / inside))


# Each gives the lowest and the highest value that the 8 bits cover, of a tensor seen on at least one picture.
RANGES: dict[Calibrator, Callable[[Distribution], Range]] = {
    "minmax": minmax_range,
    "moving-average": moving_average_range,
    "percentile": percentile_range,
    "entropy": entropy_range,
    "mse": mse_range,
}
