from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgevit.quantize.histogram import BINS, Histogram

# A value too small for float32 to divide by a bin's width is counted with zero.
NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)
FLOATS = st.lists(NUMBERS, min_size=1, max_size=20)


def histogram_of(*pictures: list[float]) -> Histogram:
    histogram = Histogram()
    for picture in pictures:
        histogram.observe(np.array(picture, np.float32))
    return histogram


def counted(values: list[float], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """numpy's own histogram; its last bin alone is closed, and no value lies on that edge."""
    found: NDArray[np.int64] = np.histogram(np.array(values, np.float32).astype(np.float64), edges)[0]
    return found


def test_the_limit_is_the_power_of_two_above_the_largest_magnitude() -> None:
    assert histogram_of([0.3, -0.9]).limit == 1.0
    assert histogram_of([1.0]).limit == 2.0
    assert histogram_of([-5.0]).limit == 8.0


def test_a_value_is_counted_in_the_bin_that_holds_it() -> None:
    histogram = histogram_of([0.0, -1.0, 1.5, 1.5])  # [-2, 2): bins of 4/16384 = 1/4096
    assert histogram.limit == 2.0
    assert {int(i): int(histogram.counts[i]) for i in histogram.counts.nonzero()[0]} == {
        BINS // 2: 1,
        BINS // 2 - 4096: 1,
        BINS // 2 + 6144: 2,
    }
    assert (histogram.low, histogram.high, histogram.zeros) == (-1.0, 1.5, 1)


@given(st.lists(FLOATS, min_size=1, max_size=4))
def test_growing_gives_the_counts_of_one_pass_with_the_final_limit(pictures: list[list[float]]) -> None:
    histogram = histogram_of(*pictures)
    values = [value for picture in pictures for value in picture]
    assert histogram.counts.sum() == len(values)
    np.testing.assert_array_equal(histogram.counts, counted(values, histogram.edges))
    assert (histogram.low, histogram.high) == (min(values), max(values))
    assert histogram.zeros == values.count(0.0)


def test_the_largest_float_still_fits() -> None:
    largest = float(np.finfo(np.float32).max)
    histogram = histogram_of([1.0], [-largest, largest])
    assert histogram.limit == 2.0**128
    assert histogram.counts.tolist()[:1] + histogram.counts.tolist()[-1:] == [1, 1]


@pytest.mark.parametrize("value", [0.0, 1e-38, -1e-38])
def test_what_is_all_but_nothing_is_counted_beside_zero(value: float) -> None:
    histogram = histogram_of([value, value])
    assert histogram.counts[BINS // 2 - 1 : BINS // 2 + 1].sum() == 2
