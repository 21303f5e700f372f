from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, constants_of, linear_model, makers_of, model_of
from onnx import helper
from tiny_models import MOBILEVIT_SHAPE, VIT_SHAPE, is_sorted, mobilevit_graph, random_pixels, run_graph, vit_graph

from edgevit.quantize.explicit import quantize_explicit
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.tensorrt.check import check_graph
from edgevit.tensorrt.rules import Violation
from edgevit.tensorrt.support import load_support

TENSORRT_10 = (load_support()["10.3"],)
# Largest by class: 2, 8 and 0.5; the activations' largest is 4.1.
WEIGHT = np.array([[2.0, 8.0, 0.5], [-1.0, 1.0, -0.25]], np.float32)
SEEN = [np.array(row, np.float32).reshape(1, 1, 1, 2) for row in ((-1.0, 4.1), (0.0, 1.0))]


def int8(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    found = quantizable_nodes(model)
    ranges = activation_ranges(model, (random_pixels(shape, seed) for seed in range(8)), found.all)
    return quantize_explicit(model, (*found.linear, *found.conv), ranges)


def broken(model: onnx.ModelProto) -> list[Violation]:
    return [each for each in check_graph(model, TENSORRT_10, has_float16=True) if each.rule.id != "opset"]


def residual_model(order: tuple[str, str] = ("conv_b", "stem")) -> onnx.ModelProto:
    """Relu(conv a) + conv b of it, in either order."""
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(size=(2, size, 1, 1)).astype(np.float32) for name, size in (("a", 1), ("b", 2))}
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["conv_a"], name="a_conv"),
        helper.make_node("Relu", ["conv_a"], ["stem"], name="relu"),
        helper.make_node("Conv", ["stem", "b"], ["conv_b"], name="b_conv"),
        helper.make_node("Add", list(order), ["logits"], name="sum"),
    ]
    return model_of(nodes, weights, (1, 1, 2, 2))


def test_weights_are_floats_with_a_symmetric_scale_for_each_output_channel() -> None:
    model = linear_model(WEIGHT)
    quantized = quantize_explicit(model, ["linear"], activation_ranges(model, SEEN, ["linear"]))
    makers, constants = makers_of(quantized), constants_of(quantized)
    linear = makers["logits"]
    weight = makers[makers[linear.input[1]].input[0]]
    np.testing.assert_array_equal(constants[weight.input[0]], WEIGHT)
    np.testing.assert_allclose(constants[weight.input[1]], np.array([2.0, 8.0, 0.5]) / 127, rtol=1e-6)
    activation = makers[makers[linear.input[0]].input[0]]
    np.testing.assert_allclose(constants[activation.input[1]], 4.1 / 127, rtol=1e-6)
    zeros = [array for array in constants.values() if array.dtype == np.int8]
    assert zeros
    assert not any(array.any() for array in zeros)


def test_biases_and_outputs_stay_in_float() -> None:
    model = linear_model(WEIGHT, np.array([0.5, -1.0, 0.0], np.float32))
    quantized = quantize_explicit(model, ["linear"], activation_ranges(model, SEEN, ["linear"]))
    assert makers_of(quantized)["logits"].op_type == "Gemm"
    assert makers_of(quantized)["logits"].input[2] == "bias"
    assert not any(array.dtype == np.int32 for array in constants_of(quantized).values())


@pytest.mark.parametrize(("order", "skip"), [(("conv_b", "stem"), 1), (("stem", "conv_b"), 0)])
def test_what_is_added_to_a_convolution_is_quantized_with_its_own_range(order: tuple[str, str], skip: int) -> None:
    model = residual_model(order)
    nodes = quantizable_nodes(model)
    pixels = np.array([[[[1.0, -2.0], [3.0, 0.5]]]], np.float32)
    ranges = activation_ranges(model, [pixels], nodes.all)
    quantized = quantize_explicit(model, nodes.conv, ranges)
    makers = makers_of(quantized)
    summed = makers["logits"]
    assert [makers[name].op_type for name in summed.input][skip] == "DequantizeLinear"
    assert [makers[name].op_type for name in summed.input][1 - skip] == "Conv"
    stem = np.maximum(pixels * constants_of(model)["a"].reshape(2, 1, 1), 0)
    scale = constants_of(quantized)[makers[summed.input[skip]].input[1]]
    np.testing.assert_allclose(scale, stem.max() / 127, rtol=1e-5)
    assert broken(quantized) == []
    assert is_sorted(quantized)


def test_of_two_readers_each_has_a_pair_of_its_own() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten", axis=1),
        helper.make_node("MatMul", ["flat", "a"], ["left"], name="a_linear"),
        helper.make_node("MatMul", ["flat", "b"], ["right"], name="b_linear"),
        helper.make_node("Mul", ["left", "right"], ["logits"], name="product"),
    ]
    model = model_of(nodes, {name: rng.normal(size=(4, 3)).astype(np.float32) for name in "ab"})
    quantized = int8(model, (1, 1, 2, 2))
    assert broken(quantized) == []
    pairs = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "flat"]
    assert len(pairs) == 2


@pytest.mark.parametrize(("make", "shape"), [(vit_graph, VIT_SHAPE), (mobilevit_graph, MOBILEVIT_SHAPE)])
def test_a_real_graph_keeps_every_rule_and_stays_near_its_logits(make: object, shape: tuple[int, ...]) -> None:
    model = make()  # type: ignore[operator]
    quantized = int8(model, shape)
    assert broken(quantized) == []
    assert is_sorted(quantized)
    pixels = random_pixels(shape, 99)
    exact, rounded = run_graph(model, pixels), run_graph(quantized, pixels)
    cosine = float((exact * rounded).sum() / np.linalg.norm(exact) / np.linalg.norm(rounded))
    assert cosine > 0.98


def test_the_model_itself_stays_as_it_is() -> None:
    model = residual_model()
    before = model.SerializeToString()
    int8(model, (1, 1, 2, 2))
    assert model.SerializeToString() == before
