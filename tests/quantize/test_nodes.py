from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import model_of
from onnx import helper
from tiny_models import mobilevit_graph, vit_graph

from edgevit.policy import TokenReduction
from edgevit.quantize.nodes import is_quantized, model_kind, quantizable_nodes
from edgevit.rewrite.merge_tokens import merge_tokens

KERNEL = np.ones((1, 1, 1, 1), np.float32)


def gates(*pairs: tuple[str, str]) -> onnx.ModelProto:
    """gate = sigmoid(input), other = relu(input); one Mul named 'mul_N' for each pair of values, then their sum."""
    nodes = [
        helper.make_node("Sigmoid", ["input"], ["gate"], name="sigmoid"),
        helper.make_node("Relu", ["input"], ["other"], name="relu"),
        *(helper.make_node("Mul", list(pair), [f"out_{i}"], name=f"mul_{i}") for i, pair in enumerate(pairs)),
        helper.make_node("Sum", [f"out_{i}" for i in range(len(pairs))], ["logits"], name="sum"),
    ]
    return model_of(nodes, {})


def convolutions(count: int, also: str = "") -> onnx.ModelProto:
    names = ["input", *(f"conv_{index}" for index in range(count))]
    nodes = [
        helper.make_node("Conv", [names[index], "kernel"], [names[index + 1]], name=f"conv_{index}")
        for index in range(count)
    ]
    if also:
        nodes.append(helper.make_node(also, [names[-1]], ["also"], name="also"))
    nodes.append(helper.make_node("Flatten", ["also" if also else names[-1]], ["logits"], name="flatten"))
    return model_of(nodes, {"kernel": KERNEL})


def test_a_vits_linear_layers_are_offered_but_not_the_products_of_attention() -> None:
    graph = vit_graph()
    nodes = quantizable_nodes(graph)
    constants = {tensor.name for tensor in graph.graph.initializer}
    products = [n.name for n in graph.graph.node if n.op_type == "MatMul" and not constants.intersection(n.input)]
    assert len(products) == 2 * 2
    assert len(nodes.linear) == 2 * 4 + 1  # qkv, projection, two of the MLP, in two blocks; and the head
    assert not set(products) & set(nodes.linear)
    assert (len(nodes.conv), nodes.silu) == (1, ())


def test_every_silu_of_a_mobilevit_is_found() -> None:
    graph = mobilevit_graph()
    nodes = quantizable_nodes(graph)
    kinds = {node.name: node.op_type for node in graph.graph.node}
    sigmoids = [name for name, kind in kinds.items() if kind == "Sigmoid"]
    assert sigmoids
    assert [kinds[name] for name in nodes.silu] == ["Sigmoid", "Mul"] * len(sigmoids)
    assert set(nodes.silu[::2]) == set(sigmoids)
    assert len(nodes.conv) == sum(kind == "Conv" for kind in kinds.values())


@pytest.mark.parametrize("pair", [("input", "gate"), ("gate", "input")])
def test_a_value_times_its_own_sigmoid_is_a_silu(pair: tuple[str, str]) -> None:
    assert quantizable_nodes(gates(pair)).silu == ("sigmoid", "mul_0")


@pytest.mark.parametrize("pair", [("other", "gate"), ("gate", "gate"), ("input", "input")])
def test_another_product_with_a_sigmoid_is_none(pair: tuple[str, str]) -> None:
    assert quantizable_nodes(gates(pair)).silu == ()


def test_a_product_whose_first_factor_is_the_constant_is_not_offered() -> None:
    node = helper.make_node("MatMul", ["weight", "input"], ["logits"], name="left")
    assert quantizable_nodes(model_of([node], {"weight": np.ones((2, 2), np.float32)})).linear == ()


def test_products_of_two_activations_are_attentions_and_sums_of_two_alike_are_residual() -> None:
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["query"], name="linear"),
        helper.make_node("MatMul", ["query", "input"], ["scores"], name="product"),
        helper.make_node("Add", ["scores", "bias"], ["biased"], name="bias"),
        helper.make_node("Add", ["biased", "query"], ["skipped"], name="skip"),
        helper.make_node("MatMul", ["weight", "skipped"], ["turned"], name="turned"),
        helper.make_node("Relu", ["turned"], ["logits"], name="relu"),
    ]
    constants = {"weight": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    found = quantizable_nodes(model_of(nodes, constants, (1, 2, 2)))
    assert (found.linear, found.attention, found.residual) == (("linear",), ("product",), ("skip",))


def test_what_is_added_to_scores_of_another_shape_is_no_residual_sum() -> None:
    """Token merging adds the logarithm of each token's size, (1, 1, 1, N), to attention's (1, H, N, N)."""
    nodes = [
        helper.make_node("Relu", ["input"], ["scores"], name="relu"),
        helper.make_node("ReduceSum", ["scores", "axes"], ["sizes"], name="sizes", keepdims=1),
        helper.make_node("Add", ["scores", "sizes"], ["weighed"], name="add"),
        helper.make_node("Softmax", ["weighed"], ["logits"], name="softmax"),
    ]
    model = model_of(nodes, {"axes": np.array([2])}, (1, 2, 3, 3))
    assert quantizable_nodes(model).residual == ()


def test_score_sums_of_token_merging_are_no_residuals() -> None:
    graph = vit_graph()
    merged = merge_tokens(graph, TokenReduction(method="merge", removed=(4, 0)))
    plain, found = quantizable_nodes(graph), quantizable_nodes(merged)
    assert len(plain.residual) == 2 * 2  # one behind attention and one behind the MLP, in two blocks
    assert set(found.residual) == set(plain.residual)
    kinds = {node.name: node.op_type for node in merged.graph.node}
    sums = [name for name, kind in kinds.items() if kind == "Add"]
    assert len(sums) > sum(node.op_type == "Add" for node in graph.graph.node)


def test_a_vits_attention_has_two_products_in_each_block_and_its_patches_come_from_a_stem() -> None:
    nodes = quantizable_nodes(vit_graph())
    assert len(nodes.attention) == 2 * 2
    assert list(nodes.conv_kinds.values()) == ["stem"]


@pytest.mark.parametrize(
    ("shape", "group", "kind"),
    [
        ((8, 3, 3, 3), 1, "stem"),
        ((8, 1, 1, 1), 1, "stem"),
        ((8, 4, 1, 1), 1, "stem"),
        ((8, 5, 1, 1), 1, "pointwise"),
        ((8, 16, 3, 3), 1, "dense"),
        ((8, 16, 1, 3), 1, "dense"),
        ((16, 1, 3, 3), 16, "depthwise"),
        ((16, 8, 1, 1), 2, "depthwise"),
    ],
)
def test_the_kind_of_a_convolution_follows_from_its_kernel(shape: tuple[int, ...], group: int, kind: str) -> None:
    node = helper.make_node("Conv", ["input", "kernel"], ["maps"], name="conv", group=group)
    last = helper.make_node("Relu", ["maps"], ["logits"], name="relu")
    model = model_of([node, last], {"kernel": np.ones(shape, np.float32)}, (1, shape[1] * group, 8, 8))
    assert quantizable_nodes(model).conv_kinds == {"conv": kind}


def test_a_mobilevits_convolutions_are_of_every_kind() -> None:
    nodes = quantizable_nodes(mobilevit_graph())
    assert set(nodes.conv_kinds) == set(nodes.conv)
    assert set(nodes.conv_kinds.values()) == {"stem", "pointwise", "dense", "depthwise"}


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (convolutions(1), "cnn"),
        (convolutions(9, "Relu"), "cnn"),
        (convolutions(4, "Softmax"), "transformer"),
        (convolutions(5, "Softmax"), "hybrid"),
    ],
)
def test_the_kind_follows_from_attention_and_the_number_of_convolutions(model: onnx.ModelProto, kind: str) -> None:
    assert model_kind(model) == kind


def test_a_vit_is_a_transformer_and_a_mobilevit_a_hybrid() -> None:
    assert (model_kind(vit_graph()), model_kind(mobilevit_graph())) == ("transformer", "hybrid")


@pytest.mark.parametrize(
    ("op_type", "expected"), [("QLinearConv", True), ("DynamicQuantizeMatMul", True), ("Conv", False)]
)
def test_a_graph_with_int8_in_it_is_quantized(op_type: str, expected: bool) -> None:
    model = vit_graph()
    assert not is_quantized(model)
    model.graph.node.append(helper.make_node(op_type, ["logits"], ["more"]))
    assert is_quantized(model) is expected


@pytest.mark.parametrize("kind", ["Clip", "Concat", "Relu", "Split"])
def test_what_hands_activations_on_may_do_so_in_int8(kind: str) -> None:
    node = helper.make_node(kind, ["input"], ["logits"], name="passes", **({"axis": 0} if kind == "Concat" else {}))
    assert quantizable_nodes(model_of([node], {})).passing == ("passes",)


def test_a_gelu_hands_nothing_on() -> None:
    assert quantizable_nodes(model_of([helper.make_node("Erf", ["input"], ["logits"], name="erf")], {})).passing == ()
