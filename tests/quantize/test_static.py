from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
from graphs import Integer, activation_ranges, constants_of, linear_model, makers_of, preset
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import TensorsData
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

from edgevit.device import QuantizationPreset
from edgevit.errors import EdgevitError
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.recipe import Calibrator

NUMBERS = {"uint8": np.uint8, "int8": np.int8}
PRESETS: list[tuple[Integer, Integer]] = [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")]
# Largest by class: 2, 8 and 0.5.
WEIGHT = np.array([[2.0, 8.0, 0.5], [-1.0, 1.0, -0.25]], np.float32)
BIAS = np.array([0.5, -1.0, 0.0], np.float32)
SEEN = [np.array(row, np.float32).reshape(1, 1, 1, 2) for row in ((-1.0, 4.1), (0.0, 1.0))]


def ranges_of(model: onnx.ModelProto, nodes: tuple[str, ...], shape: tuple[int, ...]) -> TensorsData:
    return activation_ranges(model, (random_pixels(shape, seed) for seed in range(8)), nodes)


def linear_int8(chosen: QuantizationPreset, bias: NDArray[np.float32] | None = BIAS) -> onnx.ModelProto:
    model = linear_model(WEIGHT, bias)
    return quantize_static(model, ["linear"], activation_ranges(model, SEEN, ["linear"]), chosen)


@pytest.fixture(scope="module")
def vit_int8() -> onnx.ModelProto:
    model = vit_graph()
    found = quantizable_nodes(model)
    nodes = (*found.linear, *found.conv)
    return quantize_static(model, nodes, ranges_of(model, nodes, VIT_SHAPE), preset(reduce_range=True))


@pytest.fixture(scope="module")
def mobilevit_int8() -> onnx.ModelProto:
    model = mobilevit_graph()
    found = quantizable_nodes(model)
    nodes = (*found.linear, *found.conv, *found.silu)
    return quantize_static(model, nodes, ranges_of(model, nodes, MOBILEVIT_SHAPE), preset(reduce_range=True))


def reads_int8(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether any input comes through a DequantizeLinear."""
    makers = makers_of(model)
    return any(makers[name].op_type == "DequantizeLinear" for name in node.input if name in makers)


@pytest.mark.parametrize(("activation", "weight"), PRESETS)
def test_a_preset_gives_the_types_of_activations_and_weights(activation: Integer, weight: Integer) -> None:
    model = linear_int8(preset(activation, weight))
    constants = constants_of(model)
    assert constants["flat_zero_point"].dtype == NUMBERS[activation]
    assert constants["weight_quantized"].dtype == NUMBERS[weight]
    assert constants["bias_quantized"].dtype == np.int32
    onnx.checker.check_model(model, full_check=True)
    assert is_sorted(model)


def test_signed_weights_are_127ths_of_their_classs_largest() -> None:
    constants = constants_of(linear_int8(preset()))
    np.testing.assert_allclose(constants["weight_scale"], [2 / 127, 8 / 127, 0.5 / 127], rtol=1e-6)
    # -1/2·127 = -63.5 and -0.25/0.5·127 = -63.5 go to the even code; 1/8·127 = 15.875
    assert constants["weight_quantized"].tolist() == [[127, 127, 127], [-64, 16, -64]]
    assert not constants["weight_zero_point"].any()


def test_reduce_range_keeps_weights_within_seven_bits() -> None:
    constants = constants_of(linear_int8(preset(reduce_range=True)))
    np.testing.assert_allclose(constants["weight_scale"], [2 / 64, 8 / 64, 0.5 / 64], rtol=1e-6)
    assert constants["weight_quantized"].tolist() == [[64, 64, 64], [-32, 8, -32]]


def test_without_per_channel_there_is_one_scale() -> None:
    constants = constants_of(linear_int8(preset(per_channel=False)))
    np.testing.assert_allclose(constants["weight_scale"], 8 / 127, rtol=1e-6)


def test_unsigned_activations_use_the_range_that_was_seen() -> None:
    constants = constants_of(linear_int8(preset()))
    # -1 to 4.1 in 255 steps of 0.02: zero is the 50th
    assert constants["flat_scale"] == pytest.approx(0.02, rel=1e-5)
    assert constants["flat_zero_point"] == 50


def test_symmetric_activations_have_zero_in_the_middle() -> None:
    constants = constants_of(linear_int8(preset("int8", "int8", symmetric=True)))
    assert constants["flat_zero_point"] == 0
    assert constants["flat_scale"] == pytest.approx(2 * 4.1 / 255, rel=0.01)


def test_the_bias_is_in_steps_of_both_scales() -> None:
    constants = constants_of(linear_int8(preset()))
    steps = 0.02 * np.array([2, 8, 0.5]) / 127
    assert constants["bias_quantized"].tolist() == pytest.approx(np.rint(BIAS / steps), abs=1)


def test_the_result_is_that_of_the_rounded_weights_and_pictures() -> None:
    model = linear_model(WEIGHT)
    pixels = np.array([0.5, 2.0], np.float32).reshape(1, 1, 1, 2)  # whole steps of 0.02
    found = quantize_static(model, ["linear"], activation_ranges(model, [*SEEN, pixels], ["linear"]), preset())
    exact = np.array([0.5, 2.0]) @ (np.array([[127, 127, 127], [-64, 16, -64]]) * np.array([2, 8, 0.5]) / 127)
    step = (6.0 - -6.1) / 255  # of the logits: the second class of `pixels`, the first of (-1, 4.1)
    zero = np.rint(6.1 / step)
    expected = (np.clip(np.rint(exact / step) + zero, 0, 255) - zero) * step
    np.testing.assert_allclose(run_graph(found, pixels)[0], expected, rtol=0, atol=1e-4)


def test_the_given_model_is_as_it_was() -> None:
    model = linear_model(WEIGHT, BIAS)
    before = model.SerializeToString()
    quantize_static(model, ["linear"], activation_ranges(model, SEEN, ["linear"]), preset())
    assert model.SerializeToString() == before


def test_every_linear_layer_and_the_patch_embedding_of_a_vit_read_int8(vit_int8: onnx.ModelProto) -> None:
    onnx.checker.check_model(vit_int8, full_check=True)
    assert is_sorted(vit_int8)
    nodes = {node.name: node for node in vit_int8.graph.node}
    found = quantizable_nodes(vit_graph())
    assert all(reads_int8(vit_int8, nodes[name]) for name in (*found.linear, *found.conv))


def test_norms_softmax_gelu_residuals_and_attentions_products_of_a_vit_stay_float(vit_int8: onnx.ModelProto) -> None:
    floats = vit_graph()
    constants = set(constants_of(floats))
    biases = {node.name for node in floats.graph.node if node.op_type == "Add" and constants.intersection(node.input)}
    linear = set(quantizable_nodes(floats).linear)
    kinds = ("LayerNormalization", "Softmax", "Erf", "Div", "Mul", "Add", "MatMul")
    kept = [n.name for n in floats.graph.node if n.op_type in kinds and n.name not in linear | biases]
    # norms 2·2 + 1; softmax, erf, div 2 each; attention's products and residual Adds 2·2 each
    counts = {kind: sum(1 for n in floats.graph.node if n.name in kept and n.op_type == kind) for kind in kinds}
    assert (counts["LayerNormalization"], counts["Softmax"], counts["Erf"], counts["MatMul"]) == (5, 2, 2, 4)
    assert counts["Add"] >= 4
    nodes = {node.name: node for node in vit_int8.graph.node}
    assert [name for name in kept if reads_int8(vit_int8, nodes[name])] == []


def test_reduce_range_holds_for_every_weight_of_a_vit(vit_int8: onnx.ModelProto) -> None:
    weights = {
        name: codes for name, codes in constants_of(vit_int8).items() if codes.dtype == np.int8 and codes.ndim > 1
    }
    assert len(weights) == 10  # nine linear layers and the patch embedding
    assert {int(np.abs(codes.astype(int)).max()) for codes in weights.values()} == {64}


def test_silus_of_a_mobilevit_are_int8_between_int8_convolutions(mobilevit_int8: onnx.ModelProto) -> None:
    onnx.checker.check_model(mobilevit_int8, full_check=True)
    assert is_sorted(mobilevit_int8)
    nodes = {node.name: node for node in mobilevit_int8.graph.node}
    silus = quantizable_nodes(mobilevit_graph()).silu
    assert silus
    assert all(reads_int8(mobilevit_int8, nodes[name]) for name in silus)
    assert not any(reads_int8(mobilevit_int8, n) for n in nodes.values() if n.op_type == "LayerNormalization")


@pytest.mark.parametrize(("activation", "weight"), PRESETS)
def test_scales_of_a_mobilevit_are_normal_numbers_and_no_zero_point_overflows(
    activation: Integer, weight: Integer
) -> None:
    model = mobilevit_graph()
    found = quantizable_nodes(model)
    nodes = (*found.linear, *found.conv, *found.silu)
    ranges = ranges_of(model, nodes, MOBILEVIT_SHAPE)
    constants = constants_of(quantize_static(model, nodes, ranges, preset(activation, weight)))
    scales = [array for name, array in constants.items() if name.endswith("_scale")]
    assert min(float(array.min()) for array in scales) >= np.finfo(np.float32).tiny
    least = np.iinfo(NUMBERS[activation]).min
    for name in ranges:
        low, high = (float(value) for value in ranges[name].range_value)
        assert low <= 0.0 <= high
        # A zero point beyond its type would have wrapped around.
        exact = least - low / ((high - low) / 255)
        assert int(constants[f"{name}_zero_point"]) == pytest.approx(exact, abs=0.51)


@pytest.mark.parametrize("method", get_args(Calibrator))
def test_a_quantized_vit_says_nearly_the_same_however_it_was_calibrated(method: str) -> None:
    model = vit_graph()
    nodes = quantizable_nodes(model).linear
    seen = (random_pixels(VIT_SHAPE, seed) for seed in range(8))
    found = quantize_static(model, nodes, activation_ranges(model, seen, nodes, method), preset(reduce_range=True))  # type: ignore[arg-type]
    pixels = random_pixels(VIT_SHAPE, seed=99)
    expected, logits = run_graph(model, pixels)[0], run_graph(found, pixels)[0]
    assert np.dot(expected, logits) / np.linalg.norm(expected) / np.linalg.norm(logits) > 0.995
    assert not np.array_equal(expected, logits)


def test_nodes_that_were_not_named_stay_float() -> None:
    model = vit_graph()
    first, *others = quantizable_nodes(model).linear
    found = quantize_static(model, [first], ranges_of(model, (first,), VIT_SHAPE), preset())
    nodes = {node.name: node for node in found.graph.node}
    assert reads_int8(found, nodes[first])
    assert not any(reads_int8(found, nodes[name]) for name in others)
    assert sum(tensor.data_type == TensorProto.INT8 for tensor in found.graph.initializer) == 2  # codes, zero points


def test_float_products_leave_their_sums_unrounded() -> None:
    """Whole steps of the input's and the weights' scales: nothing is rounded but the logits, and here not they."""
    model = linear_model(WEIGHT)
    pixels = np.array([0.5, 2.0], np.float32).reshape(1, 1, 1, 2)
    ranges = activation_ranges(model, [*SEEN, pixels], ["linear"])
    found = quantize_static(model, ["linear"], ranges, preset(), float_outputs=("MatMul",))
    exact = np.array([0.5, 2.0]) @ (np.array([[127, 127, 127], [-64, 16, -64]]) * np.array([2, 8, 0.5]) / 127)
    np.testing.assert_allclose(run_graph(found, pixels)[0], exact, rtol=0, atol=1e-5)
    rounded = quantize_static(model, ["linear"], ranges, preset())
    assert op_types(rounded).count("QuantizeLinear") == op_types(found).count("QuantizeLinear") + 1


def test_float_products_say_more_exactly_what_a_vit_says() -> None:
    model, pixels = vit_graph(), random_pixels(VIT_SHAPE, seed=99)
    nodes = quantizable_nodes(model).linear
    errors = []
    for float_outputs in (("MatMul", "Gemm"), ()):
        ranges = ranges_of(model, nodes, VIT_SHAPE)
        found = quantize_static(model, nodes, ranges, preset(reduce_range=True), float_outputs)
        errors.append(float(np.abs(run_graph(found, pixels) - run_graph(model, pixels)).max()))
    assert 0 < errors[0] < errors[1]


def test_no_node_gives_the_model_as_it_was() -> None:
    model = linear_model(WEIGHT)
    ranges = activation_ranges(model, SEEN, ["linear"])
    assert op_types(quantize_static(model, [], ranges, preset())) == op_types(model)


def test_what_the_quantizer_cannot_do_is_an_error_in_words() -> None:
    ranges = activation_ranges(linear_model(WEIGHT), SEEN, ["linear"])
    del ranges.data["flat"]
    with pytest.raises(EdgevitError, match=r"^ONNX Runtime cannot quantize this model: ValueError .*flat"):
        quantize_static(linear_model(WEIGHT), ["linear"], ranges, preset())
