from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import model_of
from onnx import helper
from tiny_models import mobilevit_graph, vit_graph

from edgevit.quantize.nodes import model_kind, quantizable_nodes

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
