"""Norm parts: LayerNormalization written out, for a runtime that has no such operator (TensorRT 8.5)."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.policy import NORM_PART
from edgevit.rewrite.graph import initializer, insert, opset, replace, rewritten, sizes

EPSILON = 1e-5  # LayerNormalization's default
REDUCE_AXES_INPUT_OPSET = 18  # ReduceMean takes its axes as an input from here on


def write_out_layer_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each LayerNormalization over the last axis as (x - mean) / √(var + ε) · γ + β.

    The names of all parts but the last hold NORM_PART. One with a second output, or of unknown shape, stays.
    Exact but for rounding.
    """
    return rewritten(model, _write_all)


def _write_all(graph: ir.Graph) -> bool:
    norms = [node for node in graph if node.op_type == "LayerNormalization" and node.domain == "" and _is_last(node)]
    for norm in norms:
        _write(graph, norm)
    return bool(norms)


def _is_last(norm: ir.Node) -> bool:
    shape = sizes(norm.inputs[0])
    is_last = shape is not None and norm.attributes.get_int("axis", -1) in (-1, len(shape) - 1)
    return is_last and len(norm.outputs) == 1


def _write(graph: ir.Graph, norm: ir.Node) -> None:
    x, output = norm.inputs[0], norm.outputs[0]
    shape = sizes(x)
    assert x is not None
    assert shape is not None
    stem, rows = f"{output.name}{NORM_PART}", (*shape[:-1], 1)
    epsilon = np.array(norm.attributes.get_float("epsilon", EPSILON), np.float32)
    mean = _mean(graph, norm, x, f"{stem}_mean", rows)
    centered = insert(graph, norm, "Sub", [x, mean], name=f"{stem}_centered", shape=shape)
    squared = insert(graph, norm, "Mul", [centered, centered], name=f"{stem}_squared", shape=shape)
    variance = _mean(graph, norm, squared, f"{stem}_variance", rows)
    offset = initializer(graph, f"{stem}_epsilon", epsilon)
    safe = insert(graph, norm, "Add", [variance, offset], name=f"{stem}_safe", shape=rows)
    deviation = insert(graph, norm, "Sqrt", [safe], name=f"{stem}_deviation", shape=rows)
    has_bias = len(norm.inputs) > 2 and norm.inputs[2] is not None
    normed = insert(graph, norm, "Div", [centered, deviation], name=f"{stem}_normed", shape=shape)
    if has_bias:
        normed = insert(graph, norm, "Mul", [normed, norm.inputs[1]], name=f"{output.name}_gained", shape=shape)
        replace(graph, output, "Add", [normed, norm.inputs[2]])
    else:
        replace(graph, output, "Mul", [normed, norm.inputs[1]])


def _mean(graph: ir.Graph, place: ir.Node, value: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    """Over the last axis, which stays as one of size 1."""
    if opset(graph) < REDUCE_AXES_INPUT_OPSET:
        return insert(graph, place, "ReduceMean", [value], {"axes": [-1], "keepdims": 1}, name=name, shape=shape)
    axes = initializer(graph, f"{name}_axes", np.array([-1], np.int64))
    return insert(graph, place, "ReduceMean", [value, axes], {"keepdims": 1}, name=name, shape=shape)
