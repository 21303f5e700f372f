from __future__ import annotations

import re

import numpy as np
import pytest

from edgevit import verify
from edgevit.board.inference import agreement, check_pixels, run_in_batches, softmax
from edgevit.errors import ShapeMismatchError


class SumSession:
    """Logits are the sum of a picture and its negative; keeps the batch sizes it was run with."""

    def __init__(self, batch: int | None) -> None:
        self.input_shape = (batch, 1, 2, 2)
        self.seen: list[int] = []

    def run(self, pixels: np.ndarray) -> np.ndarray:
        check_pixels("fake", pixels, self.input_shape)
        self.seen.append(len(pixels))
        sums = pixels.sum(axis=(1, 2, 3))
        return np.stack([sums, -sums], axis=1)


@pytest.mark.parametrize(
    ("static", "asked", "seen"),
    [(1, 1, [1] * 5), (1, 4, [1] * 5), (2, 1, [2, 2, 2]), (8, 1, [8]), (None, 1, [1] * 5), (None, 3, [3, 2])],
)
def test_any_number_of_pictures_goes_through_any_batch_size(static: int | None, asked: int, seen: list[int]) -> None:
    session = SumSession(static)
    pixels = np.arange(20, dtype=np.float32).reshape(5, 1, 2, 2)
    logits = run_in_batches(session, pixels, batch=asked)
    np.testing.assert_array_equal(logits[:, 0], [6, 22, 38, 54, 70])
    assert session.seen == seen


def test_no_picture_is_refused() -> None:
    with pytest.raises(ShapeMismatchError, match="There is no picture to run"):
        run_in_batches(SumSession(1), np.zeros((0, 1, 2, 2), np.float32))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2, 3, 8, 8), "float32"), ((1, 3, 9, 8), "float32"), ((1, 3, 8, 8), "float64"), ((3, 8, 8), "float32")],
)
def test_pixels_that_do_not_fit_are_refused_with_both_shapes(shape: tuple[int, ...], kind: str) -> None:
    words = re.escape(f"m.onnx: takes float32 (1, 3, 8, any), and was given {kind} {shape}.")
    with pytest.raises(ShapeMismatchError, match=words):
        check_pixels("m.onnx", np.zeros(shape, kind), (1, 3, 8, None))


def test_pixels_may_have_any_size_where_the_artifact_leaves_it_free() -> None:
    check_pixels("m.onnx", np.zeros((1, 3, 8, 99), np.float32), (1, 3, 8, None))


def test_softmax_of_equal_logits_is_uniform_and_large_ones_do_not_overflow() -> None:
    probabilities = softmax(np.array([[0, 0, 0, 0], [1e4, 1e4, -1e4, -1e4]], np.float32))
    np.testing.assert_allclose(probabilities, [[0.25] * 4, [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(softmax(np.array([[np.log(3.0), 0.0]], np.float32)), [[0.75, 0.25]], rtol=1e-6)


def test_equal_logits_agree_wholly() -> None:
    logits = np.array([[1, 2, 3], [3, 1, 2]], np.float32)
    assert agreement(logits, logits.copy()) == {
        "cosine": pytest.approx(1.0), "max_abs": 0.0, "top1_agreement": 1.0, "nonfinite": 0,
    }  # fmt: skip


def test_agreement_is_what_the_host_measures() -> None:
    generator = np.random.default_rng(0)
    expected = generator.standard_normal((50, 7)).astype(np.float32)
    actual = (expected + generator.standard_normal((50, 7))).astype(np.float32)
    actual[3] = 0
    actual[4, 2] = np.nan
    expected[5] = actual[5] = 0
    found = agreement(expected, actual)
    parity = verify.measure_parity("host -> board", expected, actual, 0.5, 0.5)
    assert found == {
        "cosine": pytest.approx(parity.cosine, abs=1e-9),
        "max_abs": pytest.approx(parity.max_abs),
        "top1_agreement": parity.top1_agreement,
        "nonfinite": parity.nonfinite,
    }


def test_logits_of_nan_agree_in_nothing() -> None:
    expected = np.ones((2, 3), np.float32)
    found = agreement(expected, np.full((2, 3), np.nan, np.float32))
    assert found == {"cosine": 0.0, "max_abs": 0.0, "top1_agreement": 0.0, "nonfinite": 2}


def test_logits_of_other_shapes_cannot_agree() -> None:
    with pytest.raises(ShapeMismatchError, match=r"Logits are \(2, 4\), and \(2, 3\) are expected"):
        agreement(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
