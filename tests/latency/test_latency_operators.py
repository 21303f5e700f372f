"""Operators told apart, counted and put into other precisions, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from situations import total_macs

from edgevit.latency.graph import operators_of
from edgevit.latency.operators import Operator, at_precision, merged

LINEAR = Operator("linear", "fp32", 10, 4, 3)
SOFTMAX = Operator("nonlinear", "fp32", 0, 0, 8, 2)


def one(op_type: str, inputs: dict[str, Any], out: tuple[int, ...], **attributes: Any) -> Operator:
    """Of one node: arrays are weights, shapes are activations."""
    arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    graph = helper.make_graph(
        [helper.make_node(op_type, list(inputs), ["out"], **attributes)],
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, v) for n, v in inputs.items() if n not in arrays],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    (found,) = operators_of(helper.make_model(graph))
    return found


def weights(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("shape", "group", "stride", "kind"),
    [
        ((8, 4, 3, 3), 1, 1, "dense 3x3"), ((8, 4, 3, 3), 1, 2, "dense"), ((8, 4, 5, 5), 1, 1, "dense"),
        ((8, 4, 1, 1), 1, 1, "pointwise"), ((4, 1, 3, 3), 4, 1, "depthwise"), ((8, 2, 3, 3), 2, 1, "grouped"),
    ],
)  # fmt: skip
def test_convolutions_are_told_apart(shape: tuple[int, ...], group: int, stride: int, kind: str) -> None:
    found = one(
        "Conv", {"x": (1, 4, 10, 10), "w": weights(*shape)}, (1, shape[0], 6, 7), group=group, strides=[stride] * 2
    )
    assert found.kind == kind
    assert found.macs == 42 * int(np.prod(shape))
    assert (found.weights, found.activations) == (int(np.prod(shape)), 400 + 42 * shape[0])


def test_a_product_with_weights_is_a_linear_layer_and_one_without_attention() -> None:
    linear = one("MatMul", {"x": (1, 7, 4), "w": weights(4, 5)}, (1, 7, 5))
    assert linear == Operator("linear", "fp32", macs=140, weights=20, activations=63)
    attention = one("MatMul", {"x": (3, 7, 4), "y": (3, 4, 7)}, (3, 7, 7))
    assert attention == Operator("attention", "fp32", macs=588, weights=0, activations=84 + 84 + 147)


@pytest.mark.parametrize(
    ("op_type", "kind"), [("Softmax", "nonlinear"), ("Add", "elementwise"), ("Relu", "elementwise")]
)
def test_what_multiplies_no_matrices_handles_elements(op_type: str, kind: str) -> None:
    inputs = {"x": (2, 6), "y": (2, 6)} if op_type == "Add" else {"x": (2, 6)}
    found = one(op_type, inputs, (2, 6))
    assert (found.kind, found.macs, found.activations) == (kind, 0, 12 * (len(inputs) + 1))


def test_operators_alike_are_one_with_their_count() -> None:
    twice = Operator("linear", "fp32", 10, 4, 3, count=2)
    assert merged([LINEAR, SOFTMAX, twice]) == (Operator("linear", "fp32", 10, 4, 3, count=3), SOFTMAX)
    assert total_macs(merged([LINEAR, SOFTMAX, twice])) == 30


def test_floats_of_either_kind_change_all_operators() -> None:
    assert {item.precision for item in at_precision([LINEAR, SOFTMAX], "fp16")} == {"fp16"}
    assert at_precision([LINEAR, SOFTMAX], "fp32") == (LINEAR, SOFTMAX)


def test_dynamic_int8_converts_what_linear_layers_read() -> None:
    pointwise = Operator("pointwise", "fp32", 1, 1, 1)
    found = at_precision([LINEAR, pointwise], "int8-dynamic")
    assert [(item.kind, item.precision) for item in found] == [
        ("linear", "int8"), ("layout", "int8"), ("pointwise", "fp32"),
    ]  # fmt: skip
    assert found[1].activations == LINEAR.activations


def test_static_int8_converts_what_stays_in_float() -> None:
    found = at_precision([LINEAR, SOFTMAX], "int8-static")
    assert [(item.kind, item.precision, item.count) for item in found] == [
        ("linear", "int8", 1), ("nonlinear", "fp32", 2), ("layout", "int8", 2),
    ]  # fmt: skip
