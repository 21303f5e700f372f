from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import constants_of, model_of
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tiny_models import is_sorted, op_types, random_pixels, run_graph

from edgevit.quantize.weight_only import int8_per_channel, store_weights_as_int8

FIRST = np.array([1.27, -0.635, 0.004, 0.0], np.float32).reshape(1, 1, 2, 2)
SECOND = np.array([[2.0], [-4.0]], np.float32).reshape(2, 1, 1, 1)


def two_convolutions(also_reads_first: bool = False) -> onnx.ModelProto:
    """(1, 1, 4, 4) through 'first' (1, 1, 2, 2) and 'second' (2, 1, 1, 1)."""
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["middle"], name="first"),
        helper.make_node("Conv", ["middle", "w2"], ["maps"], name="second"),
        helper.make_node("Flatten", ["maps"], ["flat" if also_reads_first else "logits"], name="flatten", axis=1),
    ]
    if also_reads_first:
        nodes += [
            helper.make_node("ReduceSum", ["w1"], ["total"], name="total", keepdims=0),
            helper.make_node("Add", ["flat", "total"], ["logits"], name="add"),
        ]
    return model_of(nodes, {"w1": FIRST, "w2": SECOND}, (1, 1, 4, 4))


def test_codes_are_the_weights_in_127ths_of_their_channels_largest() -> None:
    weights = np.array([[1.0, -0.5, 0.25], [-254.0, 127.0, 3.0]], np.float32)
    codes, scales = int8_per_channel(weights)
    # 0.5·127 = 63.5 and 0.25·127 = 31.75; 127/2 = 63.5 and 3/2 = 1.5: halves go to the even code
    assert codes.tolist() == [[127, -64, 32], [-127, 64, 2]]
    np.testing.assert_allclose(scales, [1 / 127, 2.0], rtol=1e-7)
    assert (codes.dtype, scales.dtype) == (np.int8, np.float32)


def test_a_channel_of_zeros_gets_scale_1() -> None:
    codes, scales = int8_per_channel(np.zeros((2, 3, 1, 1), np.float32))
    assert not codes.any()
    assert codes.shape == (2, 3, 1, 1)
    assert scales.tolist() == [1.0, 1.0]


def test_weights_too_small_for_a_scale_become_zero() -> None:
    codes, scales = int8_per_channel(np.array([[1e-45, -1e-37], [1.0, 0.0]], np.float32))
    assert codes.tolist() == [[0, 0], [127, 0]]
    assert scales.tolist() == [1.0, pytest.approx(1 / 127)]


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4))
def test_no_weight_moves_by_more_than_half_a_step(values: list[float]) -> None:
    weights = np.array(values, np.float32).reshape(2, 2)
    codes, scales = int8_per_channel(weights)
    assert np.abs(codes).max() <= 127
    error = np.abs(codes.astype(np.float64) * scales[:, None] - weights)
    assert (error <= scales[:, None] * 0.5001).all()


def test_the_convolution_computes_with_the_dequantized_weights() -> None:
    stored = store_weights_as_int8(two_convolutions(), ["first", "second"])
    onnx.checker.check_model(stored)
    assert is_sorted(stored)
    assert op_types(stored).count("DequantizeLinear") == 2
    pixels = random_pixels((1, 1, 4, 4))
    kernel = np.array([1.27, -0.64, 0.0, 0.0]).reshape(2, 2)  # scale 0.01: codes 127, -64 (of -63.5), 0 (of 0.4), 0
    windows = np.lib.stride_tricks.sliding_window_view(pixels[0, 0].astype(np.float64), (2, 2))
    middle = (windows * kernel).sum((2, 3)).ravel()
    expected = np.concatenate([2.0 * middle, -4.0 * middle])
    np.testing.assert_allclose(run_graph(stored, pixels)[0], expected, rtol=0, atol=1e-5)


def test_the_float_weights_are_gone_and_the_given_model_is_as_it_was() -> None:
    model = two_convolutions()
    before = model.SerializeToString()
    names = set(constants_of(store_weights_as_int8(model, ["first", "second"])))
    assert names == {f"w{i}_{part}" for i in (1, 2) for part in ("int8", "scale", "zero_point")}
    assert model.SerializeToString() == before


def test_only_the_named_convolutions_are_stored() -> None:
    stored = constants_of(store_weights_as_int8(two_convolutions(), ["second"]))
    assert stored["w1"].dtype == np.float32
    assert stored["w2_int8"].ravel().tolist() == [127, -127]
    unchanged = store_weights_as_int8(two_convolutions(), [])
    assert unchanged.SerializeToString() == two_convolutions().SerializeToString()


def test_another_reader_of_the_weights_reads_them_dequantized() -> None:
    stored = store_weights_as_int8(two_convolutions(also_reads_first=True), ["first"])
    zero = np.zeros((1, 1, 4, 4), np.float32)
    assert run_graph(stored, zero).ravel() == pytest.approx([1.27 - 0.64] * 18)


def test_a_large_weight_takes_a_quarter_of_its_bytes() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["input", "w"], ["logits"], name="conv")]
    model = model_of(nodes, {"w": weights}, (1, 64, 8, 8))
    assert store_weights_as_int8(model, ["conv"]).ByteSize() / model.ByteSize() == pytest.approx(0.25, abs=0.01)
