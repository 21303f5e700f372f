from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, constants_of, model_of, preset
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from outliers import accuracy, calibration_pictures, plant_outliers, trained_vit
from tiny_models import VIT_SHAPE, deit_graph, op_types, random_pixels, run_graph, vit_graph

from edgevit.errors import InputError
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.sensitivity import activation_kurtosis, layer_sqnr_db, outlier_layers
from edgevit.quantize.smoothquant import channel_maxima, smooth
from edgevit.quantize.static import quantize_static
from edgevit.rewrite.class_token import compute_last_block_for_class_token

Array = NDArray[np.float32]
CHANNELS = 4
EYE = np.eye(CHANNELS, dtype=np.float32)
OUTLIERS = (3, 17)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def norm_and_linear(*, also_read: bool = False, pick: str = "", relu_after: bool = False) -> onnx.ModelProto:
    """(1, 3, 4): LayerNormalization 'norm', a choice of tokens, MatMuls 'q' and 'k', summed."""
    normed = "normed"
    nodes = [helper.make_node("LayerNormalization", ["input", "gamma", "beta"], ["normed"], name="norm", axis=-1)]
    if pick == "Slice":
        nodes.append(helper.make_node("Slice", ["normed", "zero", "one", "one"], ["picked"], name="pick"))
    elif pick == "Gather":
        nodes.append(helper.make_node("Gather", ["normed", "zero"], ["picked"], name="pick", axis=1))
    elif pick == "channels":
        nodes.append(helper.make_node("Slice", ["normed", "zero", "four", "two"], ["picked"], name="pick"))
    elif pick:
        nodes.append(helper.make_node(pick, ["normed"], ["picked"], name="pick"))
    normed = "picked" if pick else "normed"
    nodes += [
        helper.make_node("MatMul", [normed, "wq"], ["query"], name="q"),
        helper.make_node("MatMul", ["normed", "wk"], ["key"], name="k"),
        helper.make_node("Add", ["query", "key"], ["sum"], name="add"),
        helper.make_node("Add", ["sum", "normed" if also_read else "key"], ["logits"], name="last"),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "gamma": np.array([1.0, 2.0, 0.5, 30.0], np.float32), "beta": normal(4),
        "wq": normal(4, 4, seed=1), "wk": normal(4, 4, seed=2),
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "four": np.array([4]),
    }  # fmt: skip
    used = {name for node in nodes for name in node.input}
    return model_of(nodes, {name: array for name, array in constants.items() if name in used}, (1, 3, 4))


def chain(first: str, between: str) -> onnx.ModelProto:
    """(2, 4): 'one' (a MatMul with its Add, or a Gemm), perhaps an activation function, then Gemm 'two'."""
    made = "made" if between else "middle"
    if first == "MatMul":
        nodes = [
            helper.make_node("MatMul", ["input", "w1"], ["product"], name="one"),
            helper.make_node("Add", ["b1", "product"], [made], name="bias"),
        ]
    else:
        nodes = [helper.make_node("Gemm", ["input", "w1", "b1"], [made], name="one", transB=int(first == "GemmT"))]
    if between:
        nodes.append(helper.make_node(between, ["made"], ["middle"], name="between"))
    nodes.append(helper.make_node("Gemm", ["middle", "w2", "b2"], ["logits"], name="two", transB=1))
    constants = {"w1": normal(4, 4), "b1": normal(4, seed=1), "w2": normal(4, 4, seed=2), "b2": normal(4, seed=3)}
    return model_of(nodes, dict(constants), (2, 4))


def inputs_of(model: onnx.ModelProto, nodes: tuple[str, ...]) -> list[str]:
    return [node.input[0] for node in model.graph.node if node.name in nodes]


def smoothed(
    model: onnx.ModelProto, nodes: tuple[str, ...], pictures: list[Array], alpha: float = 0.5
) -> onnx.ModelProto:
    return smooth(model, nodes, channel_maxima(model, pictures, inputs_of(model, nodes)), alpha)


def test_channel_maxima_are_over_pictures_and_tokens() -> None:
    model = model_of([helper.make_node("Neg", ["input"], ["logits"], name="neg")], {}, (1, 2, 3))
    pictures = [np.array([[row, [0.0, 0.5, -1.0]]], np.float32) for row in ([1.0, -2.0, 0.0], [-3.0, 1.0, 0.25])]
    found = channel_maxima(model, pictures, ["logits", "input"])
    assert {name: maxima.tolist() for name, maxima in found.items()} == {
        "input": [3.0, 2.0, 1.0],
        "logits": [3.0, 2.0, 1.0],
    }
    with pytest.raises(InputError, match=r"^There is no picture to measure activations on\."):
        channel_maxima(model, [], ["logits"])


def test_scales_are_those_of_the_paper() -> None:
    model = norm_and_linear()
    absmax = {"normed": np.array([4.0, 9.0, 0.0, 100.0])}
    found = constants_of(smooth(model, ["q", "k"], absmax, 0.5))
    before = constants_of(model)
    largest = np.maximum(np.abs(before["wq"]), np.abs(before["wk"])).max(axis=1)
    scales = np.array([2.0, 3.0, 1.0, 10.0]) / np.sqrt(largest)  # sqrt(max|X|) / sqrt(max|W|)
    scales[2] = 1.0  # a channel that is always zero
    np.testing.assert_allclose(found["gamma"], before["gamma"] / scales, rtol=1e-6)
    np.testing.assert_allclose(found["beta"], before["beta"] / scales, rtol=1e-6)
    np.testing.assert_allclose(found["wq"], before["wq"] * scales[:, None], rtol=1e-6)
    np.testing.assert_allclose(found["wk"], before["wk"] * scales[:, None], rtol=1e-6)


def test_alpha_1_makes_all_channels_alike_and_alpha_0_all_weights() -> None:
    model, pictures = norm_and_linear(), [normal(1, 3, 4, seed=seed) for seed in range(4)]
    even = channel_maxima(smoothed(model, ("q", "k"), pictures, 1.0), pictures, ["normed"])["normed"]
    np.testing.assert_allclose(even, 1.0, rtol=1e-5)
    weights = constants_of(smoothed(model, ("q", "k"), pictures, 0.0))
    largest = np.maximum(np.abs(weights["wq"]), np.abs(weights["wk"])).max(axis=1)
    np.testing.assert_allclose(largest, 1.0, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.0, 1e4, width=32), min_size=CHANNELS, max_size=CHANNELS),
    st.floats(0.0, 1.0),
    st.sampled_from(["", "Slice", "Gather", "Identity"]),
)
def test_the_function_stays_the_same(absmax: list[float], alpha: float, pick: str) -> None:
    model = norm_and_linear(pick=pick)
    maxima = np.array(absmax)
    found = smooth(model, ["q", "k"], {"normed": maxima, "picked": maxima}, alpha)
    assert found is not model
    assert op_types(found) == op_types(model)
    onnx.checker.check_model(found, full_check=True)
    pixels = normal(1, 3, 4, seed=9)
    expected = run_graph(model, pixels)
    np.testing.assert_allclose(run_graph(found, pixels), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("first", ["MatMul", "Gemm", "GemmT"])
@pytest.mark.parametrize("between", ["", "Relu", "Identity"])
def test_a_linear_layer_before_takes_the_scales(first: str, between: str) -> None:
    model = chain(first, between)
    found = smooth(model, ["two"], {"middle": np.array([1.0, 100.0, 0.01, 7.0])}, 0.5)
    assert not np.array_equal(constants_of(found)["w1"], constants_of(model)["w1"])
    pixels = normal(2, 4, seed=9)
    np.testing.assert_allclose(run_graph(found, pixels), run_graph(model, pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "nodes"),
    [
        (norm_and_linear(also_read=True), ("q", "k")),  # a residual would be divided too
        (norm_and_linear(), ("q",)),  # k reads it as well
        (norm_and_linear(pick="Tanh"), ("q", "k")),
        (chain("MatMul", "Tanh"), ("two",)),  # tanh(x/s) is not tanh(x)/s
        (chain("MatMul", ""), ("one",)),  # the picture
    ],
)
def test_what_cannot_be_smoothed_is_left_alone(model: onnx.ModelProto, nodes: tuple[str, ...]) -> None:
    absmax = {name: np.ones(CHANNELS) for name in inputs_of(model, nodes)}
    assert smooth(model, nodes, absmax, 0.5) is model


def test_constants_that_others_share_are_not_touched() -> None:
    """Before and after smoothing, all norms of the exported ViT read one gamma; each gets its own."""
    model = vit_graph()
    nodes = quantizable_nodes(model).linear
    before = model.SerializeToString()
    found = smoothed(model, nodes, [random_pixels(VIT_SHAPE, seed) for seed in range(4)])
    assert model.SerializeToString() == before
    norms = [node for node in found.graph.node if node.op_type == "LayerNormalization"]
    assert len({node.input[1] for node in norms}) == len(norms) == 5
    pixels = random_pixels(VIT_SHAPE, seed=99)
    np.testing.assert_allclose(run_graph(found, pixels), run_graph(model, pixels), rtol=0, atol=1e-5)


def test_the_last_block_for_the_class_token_is_smoothed_through_its_slices() -> None:
    model = compute_last_block_for_class_token(deit_graph())
    shape = (1, 3, 32, 32)
    found = smoothed(model, quantizable_nodes(model).linear, [random_pixels(shape, seed) for seed in range(4)])
    changed = [
        node.name
        for node, old in zip(found.graph.node, model.graph.node, strict=True)
        if node.op_type == "LayerNormalization" and not same_constants(found, node, model, old)
    ]
    assert len(changed) >= 4
    pixels = random_pixels(shape, seed=99)
    np.testing.assert_allclose(run_graph(found, pixels), run_graph(model, pixels), rtol=0, atol=1e-5)


def same_constants(left: onnx.ModelProto, node: onnx.NodeProto, right: onnx.ModelProto, other: onnx.NodeProto) -> bool:
    return np.array_equal(constants_of(left)[node.input[1]], constants_of(right)[other.input[1]])


def static(model: onnx.ModelProto, kept: tuple[str, ...] = ()) -> onnx.ModelProto:
    nodes = quantizable_nodes(model).linear
    ranges = activation_ranges(model, calibration_pictures(), nodes)
    return quantize_static(model, [name for name in nodes if name not in kept], ranges, preset(reduce_range=True))


OUTLIER_LAYERS = 4


@pytest.fixture(scope="module")
def planted() -> onnx.ModelProto:
    return plant_outliers(trained_vit(), OUTLIERS, 300.0)


def test_planted_outliers_leave_the_function_as_it_was_and_make_static_int8_collapse(planted: onnx.ModelProto) -> None:
    model = trained_vit()
    pixels = np.concatenate(calibration_pictures(4))
    np.testing.assert_allclose(run_graph(planted, pixels), run_graph(model, pixels), rtol=0, atol=1e-3)
    assert accuracy(model) > 90.0
    assert accuracy(model) - accuracy(static(model)) < 1.0
    assert accuracy(planted) - accuracy(static(planted)) > 10.0


def test_smoothing_recovers_what_planted_outliers_cost(planted: onnx.ModelProto) -> None:
    found = smoothed(planted, quantizable_nodes(planted).linear, calibration_pictures())
    assert abs(accuracy(planted) - accuracy(static(found))) < 1.0


def test_keeping_the_most_sensitive_layers_in_float_recovers_it_too(planted: onnx.ModelProto) -> None:
    nodes = quantizable_nodes(planted).linear
    pictures = calibration_pictures()
    ranges = activation_ranges(planted, pictures, nodes)
    levels = layer_sqnr_db(
        planted,
        lambda names: quantize_static(planted, names, ranges, preset(reduce_range=True)),
        [[name] for name in nodes],
        pictures[:8],
    )
    kept = [name for _, name in sorted(zip(levels, nodes, strict=True))[:OUTLIER_LAYERS]]
    assert abs(accuracy(planted) - accuracy(static(planted, kept))) < 1.0


def test_the_layers_behind_planted_norms_are_those_with_outliers(planted: onnx.ModelProto) -> None:
    nodes, pictures = quantizable_nodes(planted).linear, calibration_pictures(8)
    tensors = inputs_of(planted, nodes)
    kurtosis = activation_kurtosis(planted, tensors, pictures)
    found = outlier_layers(planted, nodes, kurtosis, channel_maxima(planted, pictures, tensors))
    inputs = {node.name: node.input[0] for node in planted.graph.node}
    assert set(found) == {
        node.name
        for node in planted.graph.node
        if any("_planted_" in name for name in node.input[1:2]) and node.op_type == "MatMul"
    }
    tails = [kurtosis[inputs[name]] for name in found]
    assert tails == sorted(tails, reverse=True)
    assert len(found) == OUTLIER_LAYERS
