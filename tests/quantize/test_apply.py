"""What a policy does to each node, on lists by hand; then the quantization itself, on tiny graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import activation_ranges, constants_of, linear_model, makers_of, model_of, preset
from numpy.typing import NDArray
from onnx import helper
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

from edgevit.policy import Policy
from edgevit.quantize.apply import (
    FOLD_WEIGHTS,
    KEEP_FLOAT_WEIGHTS,
    Assignment,
    Calibration,
    QuantizedGraph,
    assign,
    count_int8,
    quantize,
)
from edgevit.quantize.nodes import QuantizableNodes, quantizable_nodes
from edgevit.rewrite.linear_conv import convolve_rows
from edgevit.rewrite.uint8_input import take_uint8_pixels

DYNAMIC, STATIC, WEIGHTS = "int8-dynamic", "int8-static", "int8-weights"
NODES = QuantizableNodes(
    linear=("qkv", "head"),
    conv=("stem", "point", "depth"),
    silu=("sigmoid", "mul"),
    attention=("scores", "values"),
    residual=("skip",),
    passing=("split",),
    conv_kinds={"stem": "stem", "point": "pointwise", "depth": "depthwise"},
)
FP32 = Policy()
WIDE_MARGIN = preset(reduce_range=True)  # no x86 saturates 7-bit weights


def calibration(shape: tuple[int, ...], kind: type[np.generic] = np.float32) -> Calibration:
    def batches() -> list[NDArray[Any]]:
        if kind == np.uint8:
            return [np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in range(8)]
        return [random_pixels(shape, seed) for seed in range(8)]

    def ranges(model: onnx.ModelProto) -> TensorsData:
        return activation_ranges(model, batches(), quantizable_nodes(model).all)

    return Calibration(batches, ranges)


def quantized(graph: onnx.ModelProto, shape: tuple[int, ...], **fields: Any) -> QuantizedGraph:
    found = quantize(graph, Policy(**fields), WIDE_MARGIN, calibration(shape))
    onnx.checker.check_model(found.graph)
    assert is_sorted(found.graph)
    return found


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("linear", ["fp32", DYNAMIC, STATIC])
@pytest.mark.parametrize("conv", ["fp32", WEIGHTS, STATIC])
@pytest.mark.parametrize(
    ("attention", "residual"), [("fp32", "fp32"), ("fp32", STATIC), (STATIC, "fp32"), (STATIC, STATIC)]
)
def test_each_kind_goes_where_its_precision_says(linear: Any, conv: Any, attention: Any, residual: Any) -> None:
    found = assign(NODES, Policy(linear=linear, conv=conv, attention=attention, residual=residual))
    static = (["qkv", "head"] if linear == STATIC else []) + (["skip", "split"] if residual == STATIC else [])
    static += ["stem", "point", "depth", "sigmoid", "mul"] if conv == STATIC else []
    assert sorted(found.static) == sorted(static)
    assert found.dynamic == (("qkv", "head") if linear == DYNAMIC else ())
    assert found.stored == (("stem", "point", "depth") if conv == WEIGHTS else ())
    assert found.attention == (("scores", "values") if attention == STATIC else ())
    assert set(found.weighted) == {*found.static, *found.dynamic, *found.stored}


@pytest.mark.parametrize("conv", [WEIGHTS, STATIC])
def test_only_the_kinds_of_convolutions_that_are_named_are_quantized(conv: Any) -> None:
    found = assign(NODES, Policy(conv=conv, conv_kinds=("pointwise", "dense")))
    assert {"stem", "point", "depth"} & {*found.static, *found.stored} == {"point"}


def test_nodes_that_stay_in_float_do_so_whatever_their_kind() -> None:
    kept = ("head", "point", "mul", "scores", "skip", "split")
    policy = Policy(linear=STATIC, conv=STATIC, attention=STATIC, residual=STATIC, float_nodes=kept)
    found = assign(NODES, policy)
    assert (found.static, found.attention) == (("qkv", "stem", "depth", "sigmoid"), ("values",))
    dynamic = assign(NODES, Policy(linear=DYNAMIC, conv=WEIGHTS, float_nodes=kept))
    assert (dynamic.dynamic, dynamic.stored) == (("qkv",), ("stem", "depth"))


def test_counts_are_of_what_computes_in_int8_of_all_there_are() -> None:
    assert count_int8(NODES, assign(NODES, FP32)) == {
        "linear layers": (0, 2), "convolutions": (0, 3), "attention products": (0, 2), "residual sums": (0, 1),
    }  # fmt: skip
    mixed = assign(NODES, Policy(linear=DYNAMIC, conv=STATIC, conv_kinds=("pointwise",), attention=STATIC))
    assert count_int8(NODES, mixed) == {
        "linear layers": (2, 2), "convolutions": (1, 3), "attention products": (2, 2), "residual sums": (0, 1),
    }  # fmt: skip


def test_stored_weights_compute_in_float_and_do_not_count() -> None:
    assert count_int8(NODES, assign(NODES, Policy(conv=WEIGHTS)))["convolutions"] == (0, 3)


def test_kinds_that_the_model_lacks_are_not_counted() -> None:
    nodes = QuantizableNodes(linear=("head",), conv=(), silu=(), attention=(), residual=(), passing=(), conv_kinds={})
    assert count_int8(nodes, Assignment((), (), ("head",), ())) == {"linear layers": (1, 1)}


def test_a_linear_layer_that_a_rewrite_made_a_convolution_still_counts_as_one() -> None:
    graph = convolve_rows(vit_graph())
    assert "Conv" in op_types(graph)
    found = quantized(graph, VIT_SHAPE, linear=STATIC, conv=STATIC)
    assert {kind: VIT_INT8[kind] for kind in ("linear layers", "convolutions")} == {
        kind: found.int8[kind][1] for kind in ("linear layers", "convolutions")
    }


def test_fp32_is_the_graph_itself_and_asks_for_no_picture() -> None:
    def never(*_: object) -> Any:
        raise AssertionError("there is nothing to calibrate")

    graph = vit_graph()
    found = quantize(graph, FP32, preset(), Calibration(never, never))
    assert found.graph is graph
    assert found.session == {}
    quantize(graph, Policy(linear=DYNAMIC, conv=WEIGHTS), preset(), Calibration(never, never))


# Two blocks of qkv, projection and two of the MLP, the head; the patch embedding; two products and two sums a block.
VIT_INT8 = {"linear layers": 9, "convolutions": 1, "attention products": 4, "residual sums": 4}


@pytest.mark.parametrize(
    ("fields", "int8"),
    [
        ({"linear": DYNAMIC, "conv": WEIGHTS}, (9, 0, 0, 0)),
        ({"linear": STATIC, "conv": STATIC}, (9, 1, 0, 0)),
        ({"linear": DYNAMIC, "conv": STATIC, "attention": STATIC}, (9, 1, 4, 0)),
        ({"linear": STATIC, "conv": STATIC, "attention": STATIC, "residual": STATIC}, (9, 1, 4, 4)),
        ({"linear": STATIC, "runtime": "openvino"}, (9, 0, 0, 0)),
        ({"linear": STATIC, "conv": STATIC, "smooth_alpha": 0.5}, (9, 1, 0, 0)),
        ({"linear": DYNAMIC, "smooth_alpha": 0.15, "correct_bias": True}, (9, 0, 0, 0)),
        ({"linear": STATIC, "conv": STATIC, "correct_bias": True}, (9, 1, 0, 0)),
    ],
)
def test_a_vit_in_int8_says_nearly_the_same(fields: dict[str, Any], int8: tuple[int, ...]) -> None:
    graph, pixels = vit_graph(), random_pixels(VIT_SHAPE, seed=99)
    found = quantized(graph, VIT_SHAPE, **fields)
    expected, logits = run_graph(graph, pixels), run_graph(found.graph, pixels)
    assert cosine(expected, logits) > 0.97
    assert not np.array_equal(expected, logits)
    assert found.int8 == dict(zip(VIT_INT8, zip(int8, VIT_INT8.values(), strict=True), strict=True))


@pytest.mark.parametrize(
    "fields",
    [
        {"conv": STATIC, "linear": STATIC, "residual": STATIC},
        {"conv": STATIC, "linear": DYNAMIC, "equalize": True},
        {"conv": WEIGHTS, "equalize": True, "correct_bias": True},
        {"conv": STATIC, "conv_kinds": ("pointwise",), "attention": STATIC, "correct_bias": True},
    ],
)
def test_a_mobilevit_in_int8_says_nearly_the_same(fields: dict[str, Any]) -> None:
    graph, pixels = mobilevit_graph(), random_pixels(MOBILEVIT_SHAPE, seed=99)
    found = quantized(graph, MOBILEVIT_SHAPE, **fields)
    assert cosine(run_graph(graph, pixels), run_graph(found.graph, pixels)) > 0.98


@pytest.mark.parametrize(
    ("linear", "quantizer", "others"),
    [
        (STATIC, "QuantizeLinear", {}),
        (STATIC, "QuantizeLinear", {"correct_bias": True}),
        (DYNAMIC, "DynamicQuantizeLinear", {}),
        (DYNAMIC, "DynamicQuantizeLinear", {"correct_bias": True}),
    ],
)
def test_bytes_are_multiplied_as_they_come(linear: Any, quantizer: str, others: dict[str, Any]) -> None:
    """The patch embedding of a graph that takes bytes is a linear layer; nothing casts or quantizes before it."""
    height, width = VIT_SHAPE[2:]
    graph = take_uint8_pixels(vit_graph(), (0.5,), (0.5,))
    policy, pictures = Policy(input_type="uint8", linear=linear, **others), calibration((1, height, width, 1), np.uint8)
    found = quantize(graph, policy, WIDE_MARGIN, pictures).graph
    onnx.checker.check_model(found)
    pixels = np.random.default_rng(99).integers(0, 256, (1, height, width, 1), np.uint8)
    assert cosine(run_graph(graph, pixels), run_graph(found, pixels)) > 0.99
    kinds = op_types(found)
    first = kinds.index("MatMul" if linear == STATIC else "MatMulInteger")
    assert "Cast" in op_types(graph)
    assert {"Cast", quantizer}.isdisjoint(kinds[:first])


def test_sums_become_float_directly_for_attention_and_for_openvino_only() -> None:
    """Whether a layer's own sums are rounded to 8 bits, by what reads them."""
    graph = linear_model(np.ones((4, 3), np.float32))
    for runtime, output in (("onnxruntime", "DequantizeLinear"), ("openvino", "MatMul")):
        found = quantized(graph, (1, 1, 1, 4), linear=STATIC, runtime=runtime).graph
        assert makers_of(found)["logits"].op_type == output
    attended = quantized(vit_graph(), VIT_SHAPE, attention=STATIC).graph
    quantizers = [node.input[0] for node in attended.graph.node if node.op_type == "QuantizeLinear"]
    assert "MatMul" not in {makers_of(attended)[name].op_type for name in quantizers if name in makers_of(attended)}


def test_openvinos_convolutions_are_asymmetric_its_linear_layers_signed_and_both_fuse_what_follows() -> None:
    found = quantized(mobilevit_graph(), MOBILEVIT_SHAPE, conv=STATIC, linear=STATIC, runtime="openvino").graph
    makers, values = makers_of(found), constants_of(found)
    zero_points: dict[str, set[tuple[str, bool]]] = {"Conv": set(), "MatMul": set()}
    for node in found.graph.node:
        if node.op_type in zero_points and (pair := makers.get(node.input[0])) and pair.op_type == "DequantizeLinear":
            point = values[pair.input[2]]
            zero_points[node.op_type].add((str(point.dtype), bool(point)))
    assert zero_points["MatMul"] == {("int8", False)}
    assert {kind for kind, _ in zero_points["Conv"]} == {"uint8"}
    assert ("uint8", True) in zero_points["Conv"]
    gates = [makers[node.input[0]].op_type for node in found.graph.node if node.op_type == "Sigmoid"]
    assert gates
    assert "DequantizeLinear" not in gates


@pytest.mark.parametrize(
    ("fields", "session"),
    [
        ({"conv": WEIGHTS}, FOLD_WEIGHTS),
        ({"conv": WEIGHTS, "linear": DYNAMIC}, FOLD_WEIGHTS),
        ({"conv": WEIGHTS, "linear": STATIC}, KEEP_FLOAT_WEIGHTS),
        ({"conv": WEIGHTS, "attention": STATIC}, KEEP_FLOAT_WEIGHTS),
        ({"linear": STATIC, "runtime": "openvino"}, {}),
        ({"linear": DYNAMIC}, {}),
    ],
)
def test_weights_are_unfolded_by_the_session_where_no_other_pair_would_be(
    fields: dict[str, Any], session: dict[str, str]
) -> None:
    assert quantized(vit_graph(), VIT_SHAPE, **fields).session == session


def test_the_given_graph_is_as_it_was() -> None:
    graph = mobilevit_graph()
    before = graph.SerializeToString(deterministic=True)
    quantized(graph, MOBILEVIT_SHAPE, linear=STATIC, conv=STATIC, smooth_alpha=0.5, equalize=True, correct_bias=True)
    assert graph.SerializeToString(deterministic=True) == before
    assert "QuantizeLinear" not in op_types(graph)


def test_a_convolution_that_is_to_stay_in_float_does_between_others_in_int8() -> None:
    """One channel's weights are 32 times as large: with one scale for all of them the others would be coarse."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(8, 8, 1, 1)).astype(np.float32) for name in ("first", "last")}
    weights["depth"] = rng.normal(size=(8, 1, 3, 3)).astype(np.float32)
    weights["depth"][0] *= 32
    weights["first"][0] /= 32
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["x"], name="first"),
        helper.make_node("Conv", ["x", "depth"], ["y"], name="depth", group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["y", "last"], ["logits"], name="last"),
    ]
    shape = (1, 8, 8, 8)
    found = quantized(model_of(nodes, weights, shape), shape, conv=STATIC, conv_kinds=("pointwise",))
    pixels = random_pixels(shape, 0)

    def run(session: dict[str, str], level: onnxruntime.GraphOptimizationLevel) -> NDArray[np.float32]:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        for key, value in session.items():
            options.add_session_config_entry(key, value)
        runner = onnxruntime.InferenceSession(found.graph.SerializeToString(), options)
        logits: NDArray[np.float32] = runner.run(None, {"input": pixels})[0]
        return logits

    levels = onnxruntime.GraphOptimizationLevel
    as_written = run({}, levels.ORT_DISABLE_ALL)
    step = float(np.ptp(as_written)) / 255
    assert found.session == KEEP_FLOAT_WEIGHTS
    assert np.abs(run(found.session, levels.ORT_ENABLE_ALL) - as_written).max() <= 1.5 * step
    assert np.abs(run({}, levels.ORT_ENABLE_ALL) - as_written).max() > 3 * step
