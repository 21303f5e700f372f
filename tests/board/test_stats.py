from __future__ import annotations

from fractions import Fraction

import pytest

from edgevit.board.stats import P99_SAMPLES, percentiles, summarize
from edgevit.errors import MeasurementError
from edgevit.results import Latency


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
