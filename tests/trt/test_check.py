"""Wrongly quantized graphs, each rejected by its rule; right ones pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from qdq_nets import RNG, Net, residual_net

from edgevit.tensorrt.check import check_graph, require_sound
from edgevit.tensorrt.rules import RULES, RuleError
from edgevit.tensorrt.support import load_support

EVERY = tuple(load_support().values())


def zero_point_of_three() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input", zero=3), net.weight(4, 3, 3, 3)))


def uint8_activation() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input", kind=np.uint8), net.weight(4, 3, 3, 3)))


def zero_point_left_out() -> onnx.ModelProto:
    net = Net()
    scale = net.constant(np.float32(0.1))
    read = net.op("DequantizeLinear", net.op("QuantizeLinear", "input", scale), scale)
    return net.model(net.op("Conv", read, net.weight(4, 3, 3, 3)))


def weight_channels_on_the_wrong_axis() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input"), net.weight(4, 3, 3, 3, axis=1)))


def matmul_weight_along_its_inputs() -> onnx.ModelProto:
    net = Net((1, 6))
    return net.model(net.op("MatMul", net.pair("input"), net.weight(6, 10, axis=0)))


def weight_with_one_scale() -> onnx.ModelProto:
    net = Net()
    weight = net.pair(net.constant(np.ones((4, 3, 3, 3), np.float32)))
    return net.model(net.op("Conv", net.pair("input"), weight))


def negative_weight_scale() -> onnx.ModelProto:
    net = Net()
    scales = np.array([0.1, -0.1, 0.1, 0.1])
    weight = net.pair(net.constant(np.ones((4, 3, 3, 3), np.float32)), scales, axis=0)
    return net.model(net.op("Conv", net.pair("input"), weight))


def zero_scale() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input", scale=0.0), net.weight(4, 3, 3, 3)))


def scale_of_nan() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input", scale=np.nan), net.weight(4, 3, 3, 3)))


def computed_scale() -> onnx.ModelProto:
    net = Net()
    scale, zero = net.op("ReduceMax", "input", keepdims=0), net.constant(np.int8(0))
    read = net.op("DequantizeLinear", net.op("QuantizeLinear", "input", scale, zero), scale, zero)
    return net.model(net.op("Conv", read, net.weight(4, 3, 3, 3)))


def activation_per_channel() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input", np.full(3, 0.1), axis=1), net.weight(4, 3, 3, 3)))


def quantize_without_dequantize() -> onnx.ModelProto:
    net = Net()
    quantized = net.op("QuantizeLinear", "input", net.constant(np.float32(0.1)), net.constant(np.int8(0)))
    return net.model(net.op("Cast", quantized, to=onnx.TensorProto.FLOAT))


def dequantize_without_quantize() -> onnx.ModelProto:
    net = Net()
    cast = net.op("Cast", "input", to=onnx.TensorProto.INT8)
    read = net.op("DequantizeLinear", cast, net.constant(np.float32(0.1)), net.constant(np.int8(0)))
    return net.model(net.op("Conv", read, net.weight(4, 3, 3, 3)))


def pair_shared_by_two_readers() -> onnx.ModelProto:
    net = Net((1, 6))
    shared = net.pair("input")
    products = [net.op("MatMul", shared, net.weight(6, 10, axis=1)) for _ in range(2)]
    return net.model(net.op("Mul", *products))


def int32_bias() -> onnx.ModelProto:
    net = Net()
    bias = net.op(
        "DequantizeLinear", net.constant(np.ones(4, np.int32)), net.constant(np.full(4, 0.1, np.float32)), axis=0
    )
    return net.model(net.op("Conv", net.pair("input"), net.weight(4, 3, 3, 3), bias))


def int8_bias() -> onnx.ModelProto:
    net = Net()
    bias = net.pair(net.constant(np.ones(4, np.float32)))
    return net.model(net.op("Conv", net.pair("input"), net.weight(4, 3, 3, 3), bias))


def dynamic_quantization() -> onnx.ModelProto:
    net = Net((1, 6))
    name = "dynamic"
    net.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", ["input"], ["y", "scale", "zero"], name))
    weight = net.constant(RNG.integers(-9, 9, (6, 10)).astype(np.int8))
    product = net.op("MatMulInteger", "y", weight, "zero")
    return net.model(net.op("Cast", product, to=onnx.TensorProto.FLOAT))


def operator_of_onnx_runtime() -> onnx.ModelProto:
    net = Net((1, 6))
    return net.model(net.op("Gelu", "input", domain="com.microsoft"))


def newer_opset() -> onnx.ModelProto:
    net = Net(opset=21)
    return net.model(net.op("Relu", "input"))


def unknown_operator() -> onnx.ModelProto:
    net = Net((1, 6))
    return net.model(net.op("Bernoulli", "input"))


def free_batch() -> onnx.ModelProto:
    net = Net(("N", 3, 8, 8))
    return net.model(net.conv("input"))


def weights_without_activation() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", "input", net.weight(4, 3, 3, 3)))


def activation_without_weights() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Conv", net.pair("input"), net.constant(np.ones((4, 3, 3, 3), np.float32))))


def pair_between_conv_and_relu() -> onnx.ModelProto:
    net = Net()
    return net.model(net.op("Relu", net.pair(net.conv("input"))))


def half_quantized_sum() -> onnx.ModelProto:
    net = Net((1, 4, 8, 8))
    return net.model(net.op("Add", net.pair(net.op("Relu", "input")), net.op("Sigmoid", "input")))


def float_skip_past_int8() -> onnx.ModelProto:
    net = Net()
    stem = net.op("Relu", net.conv("input"))
    return net.model(net.op("Add", net.conv(stem, 4, 4), stem))


def int8_into_layer_norm() -> onnx.ModelProto:
    net = Net((1, 5, 6))
    gain = net.constant(np.ones(6, np.float32))
    return net.model(net.op("LayerNormalization", net.pair("input"), gain, axis=-1))


def int8_into_softmax() -> onnx.ModelProto:
    net = Net((1, 5, 6))
    return net.model(net.op("Softmax", net.pair("input"), axis=-1))


WRONG: list[tuple[str, Callable[[], onnx.ModelProto]]] = [
    ("zero-point", zero_point_of_three),
    ("signed", uint8_activation),
    ("signed", zero_point_left_out),
    ("channel-axis", weight_channels_on_the_wrong_axis),
    ("channel-axis", matmul_weight_along_its_inputs),
    ("per-channel", weight_with_one_scale),
    ("scale", negative_weight_scale),
    ("scale", zero_scale),
    ("scale", scale_of_nan),
    ("scale", computed_scale),
    ("per-tensor", activation_per_channel),
    ("pair", quantize_without_dequantize),
    ("pair", dequantize_without_quantize),
    ("dedicated-pair", pair_shared_by_two_readers),
    ("bias", int32_bias),
    ("bias", int8_bias),
    ("integer-operator", dynamic_quantization),
    ("domain", operator_of_onnx_runtime),
    ("opset", newer_opset),
    ("operator", unknown_operator),
    ("static-shape", free_batch),
    ("weighted-inputs", weights_without_activation),
    ("weighted-inputs", activation_without_weights),
    ("fusion", pair_between_conv_and_relu),
    ("residual", half_quantized_sum),
    ("residual-skip", float_skip_past_int8),
    ("normalization", int8_into_layer_norm),
    ("normalization", int8_into_softmax),
]


@pytest.mark.parametrize(("rule", "make"), WRONG, ids=[make.__name__ for _, make in WRONG])
def test_a_wrong_graph_is_rejected_by_its_rule_and_no_other(rule: str, make: Callable[[], onnx.ModelProto]) -> None:
    versions = (load_support()["10.3"],)
    found = check_graph(make(), versions)
    assert {violation.rule.id for violation in found} == {rule}
    with pytest.raises(RuleError) as raised:
        require_sound(make(), versions, has_float16=False)
    assert f"TensorRT rule '{rule}'" in str(raised.value)
    assert RULES[rule].source in str(raised.value)


def test_every_rule_of_the_table_has_a_graph_that_breaks_it() -> None:
    assert set(RULES) == {rule for rule, _ in WRONG} | {"half-range"}
    assert len(RULES) == 20


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_every_rule_names_a_page_of_nvidia_or_its_parser_s_source(rule: object) -> None:
    source = rule.source  # type: ignore[attr-defined]
    assert source.startswith(("https://docs.nvidia.com/", "https://github.com/onnx/onnx-tensorrt/"))


def test_a_residual_net_as_tensorrt_wants_it_passes_for_every_version() -> None:
    assert check_graph(residual_net(), EVERY, has_float16=True) == ()


def test_the_first_of_several_violations_is_told_and_the_others_counted() -> None:
    net = Net()
    model = net.model(net.op("Conv", net.pair("input", zero=3, kind=np.uint8), net.weight(4, 3, 3, 3)))
    with pytest.raises(RuleError, match=r"And 3 more\.$") as raised:
        require_sound(model, EVERY, has_float16=False)
    assert len(raised.value.violations) == 4  # Q and DQ, each with its type and its zero point


def test_a_message_names_the_node_what_is_wrong_what_is_wanted_and_the_source() -> None:
    (first, *_) = check_graph(zero_point_of_three(), EVERY)
    assert str(first).startswith(
        "TensorRT rule 'zero-point': 'QuantizeLinear_0' has zero point 3; quantization must be symmetric, every zero "
        "point 0 (https://"
    )


def layer_norm_graph() -> onnx.ModelProto:
    net = Net((1, 5, 6))
    gain = net.constant(np.ones(6, np.float32))
    return net.model(net.op("LayerNormalization", "input", gain, axis=-1))


def test_layer_normalization_is_native_from_8_6_on_and_unknown_to_8_5() -> None:
    support = load_support()
    assert check_graph(layer_norm_graph(), (support["8.6"], support["10.3"])) == ()
    (found,) = check_graph(layer_norm_graph(), (support["8.5"], support["8.6"]))
    assert "is a LayerNormalization, which TensorRT 8.5 lacks (https://github.com/onnx/onnx-tensorrt" in str(found)


def test_opset_18_is_read_by_10_3_and_by_neither_8_5_nor_8_6() -> None:
    net = Net(opset=18)
    found = check_graph(net.model(net.op("Relu", "input")), EVERY)
    assert ["8.5's" in str(each) or "8.6's" in str(each) for each in found] == [True, True]


@pytest.mark.parametrize("value", [7e4, -np.inf, np.nan])
def test_a_constant_beyond_float16_is_refused_only_where_float16_computes(value: float) -> None:
    net = Net((1, 6))
    model = net.model(net.op("Add", "input", net.constant(np.array([value], np.float32))))
    assert check_graph(model, EVERY) == ()
    (found,) = check_graph(model, EVERY, has_float16=True)
    assert found.rule.id == "half-range"


def test_the_largest_float16_passes() -> None:
    net = Net((1, 6))
    model = net.model(net.op("Add", "input", net.constant(np.array([65504.0], np.float32))))
    assert check_graph(model, EVERY, has_float16=True) == ()


def test_int8_weights_before_a_lone_dequantize_pass() -> None:
    net = Net()
    stored = net.constant(RNG.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8))
    scales, zeros = net.constant(np.full(4, 0.1, np.float32)), net.constant(np.zeros(4, np.int8))
    weight = net.op("DequantizeLinear", stored, scales, zeros, axis=0)
    assert check_graph(net.model(net.op("Conv", net.pair("input"), weight)), EVERY) == ()


@pytest.mark.parametrize(("transposed", "axis"), [(1, 0), (0, 1)])
def test_a_gemm_s_channels_lie_where_its_transposition_puts_them(transposed: int, axis: int) -> None:
    net = Net((1, 6))
    shape = (10, 6) if transposed else (6, 10)
    right = net.op("Gemm", net.pair("input"), net.weight(*shape, axis=axis), transB=transposed)
    assert check_graph(net.model(right), EVERY) == ()
    wrong = Net((1, 6))
    output = wrong.op("Gemm", wrong.pair("input"), wrong.weight(*shape, axis=1 - axis), transB=transposed)
    assert {each.rule.id for each in check_graph(wrong.model(output), EVERY)} == {"channel-axis"}


def test_a_linear_layer_s_bias_sum_is_no_skip_connection() -> None:
    net = Net((1, 6))
    product = net.op("MatMul", net.pair("input"), net.weight(6, 10, axis=1))
    assert check_graph(net.model(net.op("Add", product, net.constant(np.ones(10, np.float32)))), EVERY) == ()


def test_of_two_convolutions_that_are_added_one_must_be_quantized() -> None:
    net = Net()
    left, right = net.conv("input"), net.conv("input")
    assert {each.rule.id for each in check_graph(net.model(net.op("Add", left, right)), EVERY)} == {"residual-skip"}
    net = Net()
    left, right = net.conv("input"), net.conv("input")
    assert check_graph(net.model(net.op("Add", left, net.pair(right))), EVERY) == ()
