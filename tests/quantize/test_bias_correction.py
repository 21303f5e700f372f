from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, constants_of, linear_model, model_of, preset
from numpy.typing import NDArray
from onnx import helper
from tiny_models import (
    MOBILEVIT_SHAPE,
    VIT_SHAPE,
    is_sorted,
    mobilevit_graph,
    op_types,
    random_pixels,
    run_graph,
    vit_graph,
)

from edgevit.errors import InputError
from edgevit.quantize.bias_correction import correct_biases
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.quantize.weight_only import store_weights_as_int8

Array = NDArray[np.float32]
Quantizer = Callable[[onnx.ModelProto, list[str], list[Array]], onnx.ModelProto]
WEIGHT = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 0.0, 2.0], np.float32)


def static(model: onnx.ModelProto, nodes: list[str], pictures: list[Array]) -> onnx.ModelProto:
    # Seven bits of weights for one scale: errors large enough to see.
    return quantize_static(model, nodes, activation_ranges(model, pictures, nodes), preset(reduce_range=True))


def dynamic(model: onnx.ModelProto, nodes: list[str], pictures: list[Array]) -> onnx.ModelProto:
    return quantize_dynamic(model, nodes, preset(reduce_range=True))


def weight_only(model: onnx.ModelProto, nodes: list[str], pictures: list[Array]) -> onnx.ModelProto:
    return store_weights_as_int8(model, nodes)


def skewed(shape: tuple[int, ...], count: int = 12) -> list[Array]:
    """Positive pictures: what rounding the weights costs has a mean."""
    return [np.abs(random_pixels(shape, seed)) for seed in range(count)]


def matmul_and_add() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["product"], name="linear"),
        helper.make_node("Add", ["product", "bias"], ["sum"], name="add"),
        helper.make_node("Tanh", ["sum"], ["logits"], name="tanh"),
    ]
    return model_of(nodes, {"weight": WEIGHT, "bias": BIAS}, (1, 3, 16))


def convolution() -> onnx.ModelProto:
    weight = np.random.default_rng(1).normal(size=(4, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight", "bias"], ["maps"], name="linear"),
        helper.make_node("Relu", ["maps"], ["logits"], name="relu"),
    ]
    return model_of(nodes, {"weight": weight, "bias": BIAS}, (1, 2, 6, 6))


CASES = [
    (matmul_and_add(), (1, 3, 16), "sum", -1, static),
    (matmul_and_add(), (1, 3, 16), "sum", -1, dynamic),
    (linear_model(WEIGHT, BIAS), (1, 1, 1, 16), "logits", -1, static),
    (linear_model(WEIGHT, BIAS), (1, 1, 1, 16), "logits", -1, dynamic),
    (convolution(), (1, 2, 6, 6), "maps", 1, static),
    (convolution(), (1, 2, 6, 6), "maps", 1, weight_only),
]


def values(model: onnx.ModelProto, name: str, pictures: list[Array]) -> NDArray[np.float64]:
    """Of one tensor over all pictures."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.append(onnx.ValueInfoProto(name=name))
    return np.stack([run_graph(shown, pixels)[0] for pixels in pictures]).astype(np.float64)


def mean_error(
    model: onnx.ModelProto, candidate: onnx.ModelProto, name: str, axis: int, pictures: list[Array]
) -> NDArray[np.float64]:
    """(C,) written out apart from the code under test."""
    error = values(candidate, name, pictures) - values(model, name, pictures)
    return np.moveaxis(error, axis, -1).reshape(-1, len(BIAS)).mean(axis=0)


@pytest.mark.parametrize(("model", "shape", "name", "axis", "quantizer"), CASES)
def test_each_channel_is_right_on_average_afterwards(
    model: onnx.ModelProto, shape: tuple[int, ...], name: str, axis: int, quantizer: Quantizer
) -> None:
    pictures = skewed(shape)
    quantized = quantizer(model, ["linear"], pictures)
    corrected = correct_biases(model, quantized, ["linear"], iter(pictures))
    onnx.checker.check_model(corrected, full_check=True)
    assert is_sorted(corrected)
    assert op_types(corrected) == op_types(quantized)
    before = np.abs(mean_error(model, quantized, name, axis, pictures))
    after = np.abs(mean_error(model, corrected, name, axis, pictures))
    assert before.max() > 1e-3
    if name == "logits" and quantizer is static:  # 8 bits behind the bias round as they like
        assert after.max() < before.max() / 2
    else:
        integer_step = constants_of(corrected).get("bias_quantized_scale", np.zeros(1)).max()
        assert after.max() < 0.5 * integer_step + 2e-5


def test_the_bias_loses_what_the_rounded_weights_add_by_hand() -> None:
    # One channel, weights 1 and 0.302: in 127ths 127 and 38.354, rounded 38, so 0.29921; on pictures of ones INT8 gives
    # 1.29921 instead of 1.302, and the bias must rise by 0.00279.
    model = linear_model(np.array([[1.0], [0.302]], np.float32), np.array([0.25], np.float32))
    pictures = [np.ones((1, 1, 1, 2), np.float32)] * 3
    quantized = quantize_dynamic(model, ["linear"], preset())
    found = constants_of(correct_biases(model, quantized, ["linear"], pictures))
    assert found["bias"] == pytest.approx([0.25 + 0.302 - 38 / 127], abs=1e-6)


def test_a_layer_is_not_corrected_for_the_error_of_the_one_before() -> None:
    """The second layer's weights are exact in 8 bits and its inputs too: only the first has anything to correct."""
    nodes = [
        helper.make_node("MatMul", ["input", "w1"], ["p1"], name="one"),
        helper.make_node("Add", ["p1", "b1"], ["s1"], name="add1"),
        helper.make_node("MatMul", ["s1", "w2"], ["p2"], name="two"),
        helper.make_node("Add", ["p2", "b2"], ["logits"], name="add2"),
    ]
    constants = {
        "w1": np.array([[1.0], [0.302]], np.float32), "b1": np.zeros(1, np.float32),
        "w2": np.ones((1, 1), np.float32), "b2": np.array([3.0], np.float32),
    }  # fmt: skip
    model = model_of(nodes, dict(constants), (1, 2))
    quantized = quantize_dynamic(model, ["one", "two"], preset())
    found = constants_of(correct_biases(model, quantized, ["one", "two"], [np.ones((1, 2), np.float32)]))
    assert found["b1"] == pytest.approx([0.302 - 38 / 127], abs=1e-6)
    assert found["b2"] == pytest.approx([3.0], abs=1e-6)


@pytest.mark.parametrize("quantizer", [static, dynamic])
def test_the_logits_of_a_vit_are_nearer_on_average(quantizer: Quantizer) -> None:
    model = vit_graph()
    pictures = skewed(VIT_SHAPE, 16)
    nodes = list(quantizable_nodes(model).linear)
    quantized = quantizer(model, nodes, pictures)
    before = quantized.SerializeToString()
    corrected = correct_biases(model, quantized, nodes, pictures)
    assert quantized.SerializeToString() == before
    errors = [
        np.linalg.norm((values(graph, "logits", pictures) - values(model, "logits", pictures)).mean(axis=0))
        for graph in (quantized, corrected)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_convolutions_and_linear_layers_of_a_mixed_mobilevit_are_corrected() -> None:
    model = mobilevit_graph()
    found = quantizable_nodes(model)
    pictures = skewed(MOBILEVIT_SHAPE, 6)
    convolutional = static(model, [*found.conv, *found.silu], pictures)
    quantized = dynamic(convolutional, list(found.linear), pictures)
    corrected = correct_biases(model, quantized, [*found.linear, *found.conv], pictures)
    changed = [
        name
        for name, array in constants_of(quantized).items()
        if not np.array_equal(constants_of(corrected)[name], array)
    ]
    assert len(changed) > len(found.conv) / 2
    errors = [
        np.linalg.norm((values(graph, "logits", pictures) - values(model, "logits", pictures)).mean(axis=0))
        for graph in (quantized, corrected)
    ]
    assert errors[1] < errors[0]


def test_a_layer_without_bias_is_left_alone() -> None:
    model = linear_model(WEIGHT)
    quantized = quantize_dynamic(model, ["linear"], preset())
    corrected = correct_biases(model, quantized, ["linear"], skewed((1, 1, 1, 16)))
    assert corrected.SerializeToString() == quantized.SerializeToString()


def test_without_pictures_nothing_can_be_corrected() -> None:
    model = linear_model(WEIGHT, BIAS)
    with pytest.raises(InputError, match=r"^Bias correction needs pictures to measure errors on, and there is none\.$"):
        correct_biases(model, quantize_dynamic(model, ["linear"], preset()), ["linear"], [])
