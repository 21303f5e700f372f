import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import confusion_matrix

from edgevit.accuracy import (
    bonett_price_interval,
    confusion,
    is_correct,
    mcnemar_p,
    paired_drop,
    share_correct,
    top1,
    wilson_interval,
)
from edgevit.errors import InputError, ShapeMismatchError


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_agrees_with_scipy(case):
    correct, n = case
    expected = stats.binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


def test_none_right_begins_at_zero_and_all_right_ends_at_a_hundred():
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 100.0
    # z^2 / (n + z^2) with z^2 = 3.8415 and n = 1
    assert wilson_interval(0, 1)[1] == pytest.approx(100 * 3.841459 / 4.841459, abs=1e-4)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_an_impossible_share_is_refused(correct, n):
    with pytest.raises(InputError, match=f"{correct} of {n} pictures is no share"):
        wilson_interval(correct, n)


def test_top1_counts_the_highest_logit():
    accuracy = top1([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], [1, 0, 0, 0])
    assert (accuracy.n, accuracy.top1) == (4, 75.0)
    assert accuracy.ci95 == pytest.approx(wilson_interval(3, 4))


def test_of_equal_logits_the_first_class_counts():
    assert is_correct(np.zeros((2, 3)), [0, 1]).tolist() == [True, False]


def test_a_picture_with_nan_is_never_correct():
    assert is_correct([[np.nan, 0.0], [0.0, np.nan], [1.0, 0.0]], [0, 1, 0]).tolist() == [False, False, True]


def test_one_class_is_always_correct():
    assert share_correct(is_correct([[3.0], [-1.0]], [0, 0])).top1 == 100.0


def test_labels_outside_the_model_are_refused():
    with pytest.raises(InputError, match=r"Label 2 is none of the model's 2 classes \(0 to 1\)"):
        top1(np.zeros((1, 2)), [2])


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((2, 2)), [0], "2 rows of logits for 1 labels"),
        (np.zeros(2), [0, 1], r"not of shape \(2,\)"),
        (np.zeros((1, 2)), [[0]], r"Labels must be \(pictures,\)"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(logits, labels, words):
    with pytest.raises(ShapeMismatchError, match=words):
        top1(logits, labels)


def test_accuracy_without_pictures_is_refused():
    with pytest.raises(InputError, match="at least one labelled picture"):
        top1(np.zeros((0, 2)), [])


def verdicts(both, lost, won, neither):
    reference = [True] * (both + lost) + [False] * (won + neither)
    candidate = [True] * both + [False] * lost + [True] * won + [False] * neither
    return np.array(reference), np.array(candidate)


def test_a_drop_is_reference_minus_candidate_on_the_same_pictures():
    drop = paired_drop(*verdicts(both=80, lost=9, won=4, neither=7))
    assert (drop.n, drop.points) == (100, 5.0)
    # 5/102 -+ 1.959964 * sqrt((15/102 - (5/102)^2) / 102): 0.0490196 -+ 1.959964 * sqrt(0.1446559 / 102)
    assert drop.ci95 == pytest.approx((4.90196 - 7.38101, 4.90196 + 7.38101), abs=1e-4)
    assert drop.p_value == pytest.approx(stats.binomtest(4, 13).pvalue)


def test_the_interval_keeps_a_width_when_nothing_disagrees():
    drop = paired_drop(*verdicts(both=350, lost=0, won=0, neither=10))
    # +- 1.959964 * sqrt(2 / 362 / 362)
    assert (drop.points, drop.p_value) == (0.0, 1.0)
    assert drop.ci95 == pytest.approx((-0.7657, 0.7657), abs=1e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 500))
def test_the_interval_holds_the_estimate_and_stays_possible(lost, won, rest):
    n = lost + won + rest
    low, high = bonett_price_interval(lost, won, n)
    assert -100 <= low <= 100 * (lost - won) / n + 1e-9
    assert 100 * (lost - won) / n - 1e-9 <= high <= 100


@given(st.integers(0, 60), st.integers(0, 60))
def test_swapping_the_two_models_mirrors_the_interval(lost, won):
    low, high = bonett_price_interval(lost, won, 200)
    assert bonett_price_interval(won, lost, 200) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("n", "lost", "won"), [(200, 0.01, 0.01), (360, 0.02, 0.01), (360, 0.06, 0.02), (1000, 0.005, 0.003)]
)
def test_the_interval_covers_the_truth_at_least_19_times_in_20(n, lost, won):
    draws = np.random.default_rng(0).multinomial(n, [lost, won, 1 - lost - won], size=20_000)
    pairs, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    bounds = np.array([bonett_price_interval(int(a), int(b), n) for a, b in pairs])
    truth = 100 * (lost - won)
    covered = counts[(bounds[:, 0] <= truth) & (truth <= bounds[:, 1])].sum() / counts.sum()
    assert covered >= 0.947  # 0.95 less two standard errors of the simulation


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_agrees_with_scipys_binomial_test(lost, won):
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_keeps_a_tail_that_floats_would_lose():
    assert mcnemar_p(0, 1000) == pytest.approx(2.0**-999)


def test_mcnemar_by_hand():
    assert mcnemar_p(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar_p(0, 0) == 1.0


def test_a_drop_between_other_pictures_is_refused():
    with pytest.raises(ShapeMismatchError, match=r"same pictures, not on \(2,\) and \(3,\)"):
        paired_drop([True, True], [True, True, False])


def test_a_drop_without_pictures_is_refused():
    with pytest.raises(InputError, match="at least one picture"):
        paired_drop([], [])


def test_the_confusion_matrix_agrees_with_scikit_learns():
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    expected = confusion_matrix(labels, predicted, labels=range(5)).tolist()
    assert [list(row) for row in confusion(predicted, labels, 5)] == expected


def test_the_confusion_matrix_has_a_row_for_a_class_without_pictures():
    assert confusion([1, 1], [0, 1], 3) == ((0, 1, 0), (0, 1, 0), (0, 0, 0))


def test_a_confusion_of_unequal_lengths_is_refused():
    with pytest.raises(ShapeMismatchError, match="2 predictions for 1 labels"):
        confusion([0, 1], [0], 2)
