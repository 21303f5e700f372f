from __future__ import annotations

import numpy as np
import pytest

from edgevit.bench import ratios
from edgevit.bench.ratios import ratio, separate_ratio
from edgevit.errors import MeasurementError, ShapeMismatchError


def noisy(median: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return median * np.exp(0.05 * np.random.default_rng(seed).standard_normal(shape))


def test_twice_as_long_is_a_ratio_of_two_without_width() -> None:
    found = ratio([[2.0, 2.0]] * 5, [[1.0, 1.0]] * 5)
    assert (found.ratio, found.ci95, found.is_real) == (2.0, (2.0, 2.0), True)


def test_two_equal_ones_do_not_differ() -> None:
    found = ratio(noisy(10, (16, 4), 1).tolist(), noisy(10, (16, 4), 2).tolist())
    assert found.ci95[0] < 1 < found.ci95[1]
    assert not found.is_real


def test_a_tenth_faster_is_found_in_noise_of_a_twentieth() -> None:
    found = ratio(noisy(11, (16, 4), 1).tolist(), noisy(10, (16, 4), 2).tolist())
    assert found.is_real
    assert found.ci95[0] < 1.1 < found.ci95[1]


def test_a_disturbed_round_that_met_both_hardly_widens_the_interval() -> None:
    rounds = np.linspace(1, 3, 20)[:, None]  # the machine slows down to a third
    a, b = rounds * np.full((20, 4), 10.0), rounds * np.full((20, 4), 9.0)
    found = ratio(a.tolist(), b.tolist())
    assert found.ci95 == (pytest.approx(10 / 9), pytest.approx(10 / 9))


def test_the_interval_is_the_same_each_time_and_in_step_with_the_inverse() -> None:
    a, b = noisy(10, (16, 4), 1).tolist(), noisy(9, (16, 4), 2).tolist()
    assert ratio(a, b) == ratio(a, b)
    low, high = ratio(b, a).ci95
    assert (1 / high, 1 / low) == (
        pytest.approx(ratio(a, b).ci95[0], rel=1e-3),
        pytest.approx(ratio(a, b).ci95[1], rel=1e-3),
    )


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    held = 0
    for seed in range(100):
        found = ratio(noisy(12, (24, 4), seed).tolist(), noisy(10, (24, 4), 1000 + seed).tolist(), resamples=300)
        held += found.ci95[0] <= 1.2 <= found.ci95[1]
    assert 86 <= held <= 100  # binomial(100, 0.95) is in there with a probability above 0.999


def test_rounds_may_be_of_other_lengths_for_a_and_b() -> None:
    assert ratio([[4.0] * 4] * 3, [[1.0] * 50] * 3).ratio == 4.0


@pytest.mark.parametrize(
    ("a", "b", "kind", "words"),
    [
        ([[1.0]], [[1.0], [1.0]], ShapeMismatchError, "1 and 2 rounds cannot be paired"),
        ([[1.0]], [[1.0]], MeasurementError, "1 rounds give no interval"),
        ([], [], MeasurementError, "0 rounds give no interval"),
        ([[1.0], []], [[1.0], [1.0]], MeasurementError, "A round has no latency"),
        ([[1.0], [0.0]], [[1.0], [1.0]], MeasurementError, "A latency is not a positive number"),
        ([[1.0], [float("nan")]], [[1.0], [1.0]], MeasurementError, "A latency is not a positive number"),
    ],
)
def test_what_gives_no_ratio_is_refused(
    a: list[list[float]], b: list[list[float]], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        ratio(a, b)


def test_separate_measurements_give_the_ratio_of_their_medians() -> None:
    found = separate_ratio([3.0] * 64, [2.0] * 100)
    assert (found.ratio, found.ci95) == (1.5, (1.5, 1.5))


def test_separate_measurements_that_drift_have_a_wider_interval_than_shuffled_ones() -> None:
    generator = np.random.default_rng(0)
    drift = 10 + np.cumsum(generator.standard_normal(1000)) * 0.1
    shuffled = generator.permutation(drift)
    flat = [10.0] * 1000

    def width(samples: np.ndarray) -> float:
        low, high = separate_ratio(samples.tolist(), flat, resamples=300).ci95
        return high - low

    assert width(drift) > 1.5 * width(shuffled)


def test_one_separate_run_gives_no_interval() -> None:
    with pytest.raises(MeasurementError, match="One run gives no interval"):
        separate_ratio([1.0], [1.0, 2.0])


def test_very_many_runs_are_drawn_again_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = ratios._moving_blocks
    monkeypatch.setattr(ratios, "_moving_blocks", lambda *given: drawn.append(1) or real(*given))
    monkeypatch.setattr(ratios, "MOST_DRAWS", 100_000)
    separate_ratio([1.0] * 100, [2.0] * 10)
    assert len(drawn) == 2 * 1000
    drawn.clear()
    separate_ratio([1.0] * 100_000, [2.0] * 10)
    assert len(drawn) == 2 * 200
