from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from edgevit.quantize import calibrators
from edgevit.quantize.calibrators import RANGES, Distribution, entropy_range, mse_range, percentile_range
from edgevit.quantize.histogram import Histogram
from edgevit.recipe import Calibrator

Values = NDArray[np.float32]
SEARCHED = (entropy_range, mse_range, percentile_range)


def observed(method: Calibrator, *pictures: Sequence[float]) -> tuple[float, float]:
    distribution = Distribution()
    for picture in pictures:
        distribution.observe(np.array(picture, np.float32))
    return RANGES[method](distribution)


def histogram_of(values: Values) -> Histogram:
    histogram = Histogram()
    for start in range(0, len(values), 10_000):
        histogram.observe(values[start : start + 10_000].astype(np.float32))
    return histogram


def normal(count: int = 40_000) -> Values:
    return np.random.default_rng(0).normal(size=count).astype(np.float32)


def laplace(count: int = 40_000) -> Values:
    return np.random.default_rng(1).laplace(size=count).astype(np.float32)


def gelu(count: int = 40_000) -> Values:
    """Between -0.17 and about 4: what a GELU gives."""
    x = normal(count).astype(np.float64)
    return (x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(np.float32)


def relu(count: int = 40_000) -> Values:
    return np.maximum(laplace(count), 0)


def with_outlier(outlier: float = 60.0) -> Values:
    values = np.random.default_rng(2).uniform(-1, 1, 40_000).astype(np.float32)
    values[17] = outlier
    return values


def quantized(values: Values, low: float, high: float) -> NDArray[np.float64]:
    """A trip through 8 bits whose steps are counted from `low`; zero keeps its value, as with a zero point."""
    step = (high - low) / 255
    codes = np.rint(np.clip(values, low, high).astype(np.float64) / step)
    return codes * step


def squared_error(values: Values, low: float, high: float) -> float:
    return float(np.square(quantized(values, low, high) - values).mean())


def least_error_by_brute_force(values: Values) -> float:
    """The least error on the raw values themselves, over a grid of both thresholds."""
    fractions = np.concatenate([np.linspace(0.1, 1.0, 31), np.geomspace(0.01, 0.1, 16)])
    lows = np.unique(min(0.0, float(values.min())) * fractions)
    highs = np.unique(max(0.0, float(values.max())) * fractions)
    return min(squared_error(values, low, high) for low, high in itertools.product(lows, highs) if high > low)


def divergence_by_bins(counts: NDArray[np.float64], first: int, last: int) -> float:
    """KL(P || Q) bin by bin, P and Q written out."""
    p = counts[first:last].copy()
    p[0] += counts[:first].sum()
    p[-1] += counts[last:].sum()
    q = np.zeros_like(p)
    cuts = np.rint(np.linspace(first, last, 257)).astype(int) - first
    for start, end in itertools.pairwise(cuts):
        part = counts[first + start : first + end]
        if part.sum() > 0:
            q[start:end] = np.where(part > 0, part.sum() / (part > 0).sum(), 0.0)
    p, q = p / p.sum(), q / q.sum()
    if (q[p > 0] == 0).any():
        return math.inf
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())


def test_minmax_is_the_smallest_and_the_largest_of_all_pictures() -> None:
    assert observed("minmax", (1.0, -2.0), (5.0, 3.0), (0.0, 0.5)) == (-2.0, 5.0)


def test_the_moving_average_forgets_a_picture_by_a_hundredth_each_time() -> None:
    low, high = observed("moving-average", (-1.0, 2.0), (-3.0, 4.0), (-2.0, 9.0))
    weights = 0.99**2 + 0.99 + 1
    assert low == pytest.approx(-(0.99**2 * 1 + 0.99 * 3 + 2) / weights, rel=1e-12)
    assert high == pytest.approx((0.99**2 * 2 + 0.99 * 4 + 9) / weights, rel=1e-12)


def test_the_moving_average_of_one_picture_is_its_range() -> None:
    assert observed("moving-average", (-1.0, 2.0)) == (-1.0, 2.0)


@pytest.mark.parametrize("values", [normal(), gelu(), relu(), with_outlier(), normal(3)])
def test_the_percentile_cuts_a_ten_thousandth_off_each_tail(values: Values) -> None:
    histogram = histogram_of(values)
    width = 2 * histogram.limit / len(histogram.counts)
    cut = -(-len(values) // 10_000)  # of 40,000 values the 4th from either end, of 3 the 1st
    expected = np.sort(values)[[cut - 1, len(values) - cut]]
    if len(values) == 40_000:  # 39,996 values do not exceed it
        expected[1] = np.sort(values)[len(values) - cut - 1]
    np.testing.assert_allclose(percentile_range(histogram), expected, rtol=0, atol=width)


def test_a_percentile_next_to_a_gap_does_not_lie_in_it() -> None:
    values = np.concatenate([np.full(9_999, 1.0), [100.0]]).astype(np.float32)  # 0.01 % lie at 100
    assert percentile_range(histogram_of(values))[1] == pytest.approx(1.0, abs=2 * 128 / 16384)


@pytest.mark.parametrize("values", [normal(), laplace(), gelu(), relu(), with_outlier(), -relu(), laplace(300)])
def test_the_range_of_least_error_is_as_good_as_the_best_of_all_ranges_tried_on_the_raw_values(values: Values) -> None:
    found = squared_error(values, *mse_range(histogram_of(values)))
    assert found <= 1.03 * least_error_by_brute_force(values)


def test_the_range_of_least_error_clips_long_tails_and_leaves_flat_ones() -> None:
    low, high = mse_range(histogram_of(laplace()))
    assert laplace().min() < low
    assert high < laplace().max()
    flat = np.linspace(-1, 3, 40_000, dtype=np.float32)
    assert mse_range(histogram_of(flat)) == pytest.approx((-1.0, 3.0), rel=0.05)


def test_expected_error_of_two_values_by_hand() -> None:
    # 999 times ±1 and once 1.5: clipping to h costs (1.5-h)², the steps (h+1)/255 cost 1000·step²/12: at 1.5 it is
    # 0.0080, at 1.5·2^(-1/16) = 1.436 it is 0.0041 + 0.0076.
    values = np.array([1.0, -1.0] * 500, np.float32)
    values[0] = 1.5
    assert mse_range(histogram_of(values)) == (-1.0, 1.5)


@pytest.mark.parametrize("values", [normal(), laplace(), gelu(), relu(), with_outlier(8.0)])
def test_the_divergence_from_prefix_sums_is_that_of_the_two_distributions_written_out(values: Values) -> None:
    counts, _ = calibrators._coarse(histogram_of(values))
    sums = calibrators._Sums(counts)
    filled = np.flatnonzero(counts)
    for first, last in (
        (0, len(counts)),
        (0, filled[-20] + 1),
        (filled[20], filled[-1] + 1),
        (filled[9], filled[-9] + 1),
    ):
        expected = divergence_by_bins(counts, first, last)
        assert sums.divergence(first, last) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("values", [laplace(), gelu(), relu(), with_outlier(8.0)])
def test_the_entropy_range_has_the_least_divergence_of_all_candidates(values: Values) -> None:
    histogram = histogram_of(values)
    counts, edges = calibrators._coarse(histogram)
    low, high = entropy_range(histogram)
    zero = int(np.searchsorted(edges, 0.0))
    firsts = zero - calibrators._bins_kept(counts[:zero][::-1])
    lasts = zero + calibrators._bins_kept(counts[zero:])
    candidates = [(a, b) for a, b in itertools.product(firsts, lasts) if b - a >= 256]
    best = min(candidates, key=lambda candidate: divergence_by_bins(counts, *candidate))
    assert (low, high) == (max(edges[best[0]], histogram.low), min(edges[best[1]], histogram.high))


def test_the_entropy_range_of_one_sided_data_stays_on_its_side() -> None:
    low, high = entropy_range(histogram_of(relu()))
    assert low == 0.0
    assert 2.0 < high <= relu().max()
    low, high = entropy_range(histogram_of(-relu()))
    assert high == 0.0
    assert -relu().max() <= low < -2.0


def test_the_entropy_range_cuts_off_an_outlier_on_its_own_side_alone() -> None:
    values = with_outlier(8.0)
    low, high = entropy_range(histogram_of(values))
    assert 0.9 < high < 1.3
    assert -1.0 <= low < -0.9


@pytest.mark.parametrize("method", SEARCHED)
@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.0, 0.0], 0.0, 0.0), ([2.5] * 4, 0.0, 2.5), ([-3.0], -3.0, 0.0), ([-1.0, 1.0], -1.0, 1.0)],
)
def test_few_and_equal_values_keep_their_range(
    method: Callable[[Histogram], tuple[float, float]], values: list[float], low: float, high: float
) -> None:
    found_low, found_high = method(histogram_of(np.array(values * 4, np.float32)))
    assert min(found_low, 0.0) == pytest.approx(low, abs=1e-3)
    assert max(found_high, 0.0) == pytest.approx(high, abs=1e-3)
