import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import distance

from edgevit.errors import InputError, ShapeMismatchError
from edgevit.verify import (
    SQNR_FLOOR_DB,
    cosine,
    describe_parity,
    divergence,
    max_abs,
    measure_parity,
    power_ratio_db,
    sqnr_db,
    top1_agreement,
)

LOGITS = np.array([[3.0, 4.0], [1.0, 0.0]], dtype=np.float32)
finite_logits = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.floats(-1e4, 1e4, width=32),
)


def test_cosine_is_the_mean_over_pictures():
    turned = np.array([[-4.0, 3.0], [2.0, 0.0]])  # cosines 0 and 1
    assert cosine(LOGITS, turned) == pytest.approx(0.5)


def test_cosine_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    expected = np.mean([1 - distance.cosine(x, y) for x, y in zip(a, b, strict=True)])
    assert cosine(a, b) == pytest.approx(expected)


def test_cosine_flattens_a_picture_of_any_shape():
    a = np.arange(24.0).reshape(2, 3, 4)
    assert cosine(a, a.copy()) == pytest.approx(1.0)


def test_two_all_zero_pictures_are_the_same_direction_and_one_is_not():
    zeros = np.zeros((1, 3))
    assert cosine(zeros, zeros) == 1.0
    assert cosine(zeros, np.ones((1, 3))) == 0.0


def test_cosine_neither_overflows_nor_vanishes():
    assert cosine(np.full((1, 2), 1e300), np.full((1, 2), 1e-300)) == pytest.approx(1.0)


@given(finite_logits)
def test_cosine_stays_within_one_and_is_one_with_itself(logits):
    assert cosine(logits, logits) == pytest.approx(1.0)
    assert -1.0 <= cosine(logits, -logits[::-1]) <= 1.0


def test_max_abs_is_the_largest_difference_either_way():
    assert max_abs(LOGITS, LOGITS + np.array([[0.5, -2.0], [0.0, 1.0]])) == pytest.approx(2.0)


def test_sqnr_is_ten_times_the_logarithm_of_the_powers():
    # signal 9 + 16 + 1 = 26, error 0.01 * 4 = 0.04: 10 * log10(650)
    assert sqnr_db(LOGITS, LOGITS + 0.1) == pytest.approx(10 * math.log10(26 / 0.04), abs=1e-4)


def test_sqnr_of_equal_is_infinite_and_of_a_silent_reference_minus_infinite():
    assert sqnr_db(LOGITS, LOGITS) == math.inf
    assert sqnr_db(np.zeros((1, 2)), np.zeros((1, 2))) == math.inf
    assert sqnr_db(np.zeros((1, 2)), np.ones((1, 2))) == -math.inf


def test_power_ratio_of_what_is_no_number_is_no_number():
    assert math.isnan(power_ratio_db(math.nan, 1.0))
    assert power_ratio_db(1.0, math.inf) == -math.inf


def test_top1_agreement_counts_pictures_of_the_same_class():
    assert top1_agreement(np.eye(4), np.eye(4)[[0, 1, 2, 0]]) == 0.75


def test_one_class_always_agrees():
    assert top1_agreement(np.array([[2.0]]), np.array([[-5.0]])) == 1.0


def test_parity_passes_at_its_thresholds():
    parity = measure_parity("fp32 -> int8", LOGITS, LOGITS * 2, cosine_threshold=0.999999, top1_threshold=1.0)
    assert parity.passed
    assert (parity.n, parity.nonfinite, parity.top1_agreement) == (2, 0, 1.0)
    assert parity.cosine == pytest.approx(1.0)
    assert parity.max_abs == 4.0
    assert parity.sqnr_db == pytest.approx(0.0)  # the error is as large as the signal


def test_parity_of_identical_logits_has_no_sqnr():
    assert measure_parity("a -> b", LOGITS, LOGITS.copy(), 1.0 - 1e-12, 1.0).sqnr_db is None


def test_parity_fails_below_the_cosine_or_the_agreement_asked_for():
    candidate = np.array([[4.0, 3.0], [1.0, 0.0]])  # cosines 0.96 and 1; the first picture changes its class
    assert measure_parity("h", LOGITS, candidate, 0.97, 0.5).passed
    assert not measure_parity("h", LOGITS, candidate, 0.99, 0.5).passed
    assert not measure_parity("h", LOGITS, candidate, 0.97, 0.6).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_is_not_finite_never_passes(bad):
    candidate = LOGITS.copy()
    candidate[1, 0] = bad
    parity = measure_parity("h", LOGITS, candidate, cosine_threshold=0.0, top1_threshold=0.0)
    assert not parity.passed
    assert parity.nonfinite == 1
    assert parity.top1_agreement == 0.5
    assert parity.cosine == pytest.approx(0.5)
    assert parity.max_abs == 0.0  # over the finite picture
    assert "NaN or infinity in 1 of them" in describe_parity(parity)


def test_a_candidate_of_nothing_but_nan_is_a_failed_parity_not_a_crash():
    parity = measure_parity("h", LOGITS, np.full((2, 2), np.nan), 0.0, 0.0)
    assert (parity.passed, parity.nonfinite, parity.cosine, parity.sqnr_db) == (False, 2, 0.0, SQNR_FLOOR_DB)


def test_a_nan_beside_an_all_zero_reference_is_no_agreement():
    assert cosine(np.zeros((1, 2)), np.full((1, 2), np.nan)) == 0.0


def test_an_all_zero_reference_is_recorded_at_the_floor():
    parity = measure_parity("h", np.zeros((1, 2)), np.ones((1, 2)), 0.0, 0.0)
    assert parity.sqnr_db == SQNR_FLOOR_DB
    assert parity.cosine == 0.0


def test_a_reference_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="torch -> fp32: the reference's own logits hold NaN or infinity"):
        measure_parity("torch -> fp32", np.full((1, 2), np.nan), np.ones((1, 2)), 0.9, 0.9)


@pytest.mark.parametrize("measure", [cosine, max_abs, sqnr_db, top1_agreement])
def test_shapes_that_differ_are_refused(measure):
    with pytest.raises(ShapeMismatchError, match=r"shapes \(2, 3\) and \(2, 4\) cannot be compared"):
        measure(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize("measure", [cosine, max_abs, sqnr_db, top1_agreement])
def test_no_picture_is_refused(measure):
    with pytest.raises(InputError, match="no picture to compare outputs on"):
        measure(np.ones((0, 4)), np.ones((0, 4)))


def test_logits_of_another_rank_are_refused():
    with pytest.raises(ShapeMismatchError, match=r"\(pictures, classes\), not of shape \(2, 3, 4\)"):
        measure_parity("h", np.ones((2, 3, 4)), np.ones((2, 3, 4)), 0.9, 0.9)


def test_a_parity_is_described_with_its_figures_and_the_layer_that_departs():
    parity = measure_parity("fp32 -> int8", LOGITS[:1], LOGITS[:1], 0.9, 0.9)
    assert describe_parity(parity) == "fp32 -> int8: cosine 1.0000, top-1 agreement 100.0 % on 1 picture"
    named = parity.model_copy(update={"n": 1024, "first_diverging_layer": "blocks.3.attn"})
    assert describe_parity(named).endswith("on 1,024 pictures, first diverging layer: blocks.3.attn")


def test_the_divergence_of_class_probabilities_by_hand() -> None:
    reference = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    candidate = np.log(np.array([[0.25, 0.75], [0.25, 0.75]])) + 7.0  # logits have no zero of their own
    expected = (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)) / 2
    assert divergence(reference, candidate) == pytest.approx(expected)
    assert divergence(reference, reference) == 0.0


def test_what_is_not_finite_diverges_without_bounds() -> None:
    assert divergence(np.zeros((1, 2)), np.array([[math.nan, 0.0]])) == math.inf
