from __future__ import annotations

import math
from fractions import Fraction

import pytest

from edgevit.benchreport import Latency
from edgevit.board.stats import (
    P99_SAMPLES,
    early_stopping_estimate,
    extra_percentiles,
    percent_text,
    percentiles,
    samples_for,
    summarize,
)
from edgevit.errors import MeasurementError


def test_one_to_five_are_summarized_as_by_hand() -> None:
    summary = summarize([5.0, 1.0, 4.0, 2.0, 3.0])
    # p90 of five samples stands at index 0.9 * 4 = 3.6 of the sorted ones: 4 + 0.6 * (5 - 4)
    assert summary == {
        "runs": 5, "p50": 3.0, "p90": pytest.approx(4.6), "p99": None, "mean": 3.0, "mad": 1.0, "minimum": 1.0,
        "maximum": 5.0,
    }  # fmt: skip
    Latency.model_validate(summary)


def test_p99_is_none_below_662_samples_and_a_figure_from_there_on() -> None:
    samples = [float(i) for i in range(662)]
    assert summarize(samples[:661])["p99"] is None
    assert summarize(samples)["p99"] == pytest.approx(0.99 * 661)


def test_662_is_the_least_number_with_two_samples_above_p99_at_99_percent_confidence() -> None:
    def confidence(n: int) -> Fraction:
        below = Fraction(99, 100)
        return 1 - below**n - n * (1 - below) * below ** (n - 1)

    assert confidence(P99_SAMPLES) >= Fraction(99, 100) > confidence(P99_SAMPLES - 1)


def test_equal_samples_have_no_spread() -> None:
    summary = summarize([2.5] * 10)
    assert (summary["p50"], summary["p90"], summary["mad"], summary["mean"]) == (2.5, 2.5, 0.0, 2.5)


def test_one_sample_is_its_own_summary() -> None:
    summary = summarize([7.0])
    assert (summary["runs"], summary["p50"], summary["p90"], summary["mad"]) == (1, 7.0, 7.0, 0.0)


def test_a_single_outlier_moves_the_mean_and_hardly_the_median_and_mad() -> None:
    summary = summarize([1.0] * 99 + [1000.0])
    assert (summary["p50"], summary["mad"], summary["maximum"]) == (1.0, 0.0, 1000.0)
    assert summary["mean"] == pytest.approx(10.99)


def test_no_sample_is_refused() -> None:
    with pytest.raises(MeasurementError, match="There is no latency sample to summarize"):
        summarize([])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_a_sample_that_is_no_latency_is_refused(bad: float) -> None:
    with pytest.raises(MeasurementError, match="negative or not a finite number"):
        summarize([1.0, bad])


def test_percentiles_interpolate_linearly_between_samples() -> None:
    assert percentiles([10.0, 20.0], (0, 25, 50, 100)) == [10.0, 12.5, 15.0, 20.0]


def at_most(few: int, n: int, tail: Fraction) -> Fraction:
    """P(binomial(n, tail) <= few), in exact arithmetic."""
    return sum((math.comb(n, k) * tail**k * (1 - tail) ** (n - k) for k in range(few + 1)), Fraction(0))


def test_the_rule_for_p99_holds_for_any_percentile() -> None:
    assert samples_for(99.0) == P99_SAMPLES
    assert samples_for(90.0) == 64
    for percent, tail in ((50.0, Fraction(1, 2)), (90.0, Fraction(1, 10)), (95.0, Fraction(1, 20))):
        needed = samples_for(percent)
        assert at_most(1, needed, tail) <= Fraction(1, 100) < at_most(1, needed - 1, tail)


@pytest.mark.parametrize("percent", [0.1, 5.0, 49.0])
def test_a_low_percentile_needs_as_many_samples_as_the_high_one(percent: float) -> None:
    assert samples_for(percent) == samples_for(100.0 - percent)


def test_more_extreme_percentiles_need_ten_times_the_samples() -> None:
    assert samples_for(99.9) == 6636
    assert 9.9 < samples_for(99.99) / samples_for(99.9) < 10.1


def test_a_percentile_is_stated_from_its_number_of_samples_on() -> None:
    samples = [float(i) for i in range(64)]
    (low, high) = extra_percentiles(samples, (90.0, 95.0))
    assert low == {"percent": 90.0, "ms": pytest.approx(0.9 * 63), "needed": 64}
    assert high == {"percent": 95.0, "ms": None, "needed": samples_for(95.0)}
    assert extra_percentiles(samples[:63], (90.0,))[0]["ms"] is None


def test_mlperfs_estimate_discards_as_many_samples_as_its_load_generator() -> None:
    """2,048 queries, 'Would discard 172 highest latency queries': the 173rd largest. Source: a published summary of
    loadgen's, which says the same of 64 queries as the least."""
    samples = [float(i) for i in range(2048)]
    assert early_stopping_estimate(samples, 90.0) == 2048 - 173
    assert early_stopping_estimate(samples[:63], 90.0) is None
    assert early_stopping_estimate(samples[:64], 90.0) == 63.0  # nothing is discarded
    assert early_stopping_estimate(samples[:662], 99.0) == 661.0
    assert early_stopping_estimate(samples[:661], 99.0) is None


@pytest.mark.parametrize("n", [64, 100, 1024])
def test_mlperfs_estimate_is_never_below_the_percentile_by_more_than_chance(n: int) -> None:
    estimate = early_stopping_estimate([float(i) for i in range(n)], 90.0)
    assert estimate is not None
    t = n - int(estimate)
    assert at_most(t, n, Fraction(1, 10)) <= Fraction(1, 100) < at_most(t + 1, n, Fraction(1, 10))


def test_a_million_samples_have_an_estimate_near_the_percentile() -> None:
    estimate = early_stopping_estimate([float(i) for i in range(1_000_000)], 90.0)
    assert estimate is not None
    # 100,000 are expected above p90, with a deviation of sqrt(10^6 * 0.1 * 0.9) = 300; 2.326 of them are 1 %
    assert estimate == pytest.approx(900_000 + 2.326 * 300, abs=5)


def test_percentiles_are_written_without_needless_zeros() -> None:
    assert [percent_text(percent) for percent in (50.0, 99.9, 0.001, 10.0)] == ["50", "99.9", "0.001", "10"]
