"""Attention's layout: queries, keys and values without detours, and without a scale of their own.

timm computes all three by one product and parts them: Reshape to (B, N, 3, H, d), Transpose of the whole, and three
times Slice and Squeeze. Three products with a third of the weights each need a Reshape and a Transpose apiece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import bypass, constant, initializer, insert, only_reader, rewritten, scalar, sizes
from edgevit.rewrite.linear import Linear, linear_into, linear_of, scale_outputs
from edgevit.rewrite.selection import Indices, indices, leaves, selects

# Orders of (B, N, H, d): as queries and values are multiplied, and as keys are.
HEADS_FIRST = (0, 2, 1, 3)
KEYS_TRANSPOSED = (0, 2, 3, 1)


@dataclass(frozen=True)
class Heads:
    """`value` holds the columns (H, d) of a tensor (B, N, K), in an order of (B, N, H, d)."""

    value: ir.Value
    columns: Indices
    order: tuple[int, ...]


def split_attention_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each linear layer whose output is parted into heads, as one product, Reshape and Transpose for each part.

    A part keeps its shape, (B, H, N, d), or (B, H, d, N) for keys that were transposed next. Exact. The sizes must be
    known: a graph with a free batch size stays as it is.
    """
    return rewritten(model, _split_all)


def fold_attention_scale(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant scales of q, of k and of q·kᵀ, in the weights and bias of the layer that makes q.

    Works before and after split_attention_inputs, and where q comes from a convolution. Exact but for rounding.
    """
    return rewritten(model, _fold_all)


def heads_of(value: ir.Value, tokens: ir.Value) -> Heads | None:
    """How the value is cut and moved from `tokens` (B, N, K); None when it is not, or not into heads."""
    places, shape = indices(value, tokens), sizes(tokens)
    if places is None or places.ndim != 4 or shape is None or len(shape) != 3:
        return None
    batch, count, width = shape
    rows = np.arange(batch * count).reshape(batch, count, 1, 1) * width
    for order in (HEADS_FIRST, KEYS_TRANSPOSED):
        parted = places.transpose(np.argsort(order))  # (B, N, H, d)
        columns = parted[0, 0]
        if parted.shape[:2] == (batch, count) and np.array_equal(parted, rows + columns):
            return Heads(value, columns, order)
    return None


def _split_all(graph: ir.Graph) -> bool:
    is_changed = False
    for layer in _layers(graph):
        parts = _all_heads(layer)
        for part in parts:
            _write(graph, layer, part)
        is_changed |= bool(parts)
    return is_changed


def _layers(graph: ir.Graph) -> list[Linear]:
    found = (linear_of(node) for node in graph if node.op_type == "MatMul")
    return [layer for layer in found if layer is not None and len(sizes(layer.output) or ()) == 3]


def _all_heads(layer: Linear) -> list[Heads]:
    """The parts of the layer's output; none unless there are several and all are heads."""
    values = list(leaves(layer.output))
    if len(values) < 2 or any(value.is_graph_output() for value in values):
        return []
    parts = [heads_of(value, layer.output) for value in values]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else []


def _write(graph: ir.Graph, layer: Linear, part: Heads) -> None:
    heads, width = part.columns.shape
    columns, name, place = part.columns.reshape(-1), part.value.name, part.value.producer()
    shape = sizes(layer.output)
    assert place is not None
    assert shape is not None
    batch, tokens, _ = shape
    flat, parted = (batch, tokens, len(columns)), (batch, tokens, heads, width)
    weights = initializer(graph, f"{name}_weights", layer.weights[:, columns].astype(np.float32))
    value = insert(graph, place, "MatMul", [layer.input, weights], name=f"{name}_product", shape=flat)
    if layer.add is not None:
        bias = initializer(graph, f"{name}_bias", layer.bias[columns].astype(np.float32))
        value = insert(graph, place, "Add", [value, bias], name=f"{name}_linear", shape=flat)
    target = initializer(graph, f"{name}_heads_shape", np.array([batch, -1, heads, width], np.int64))
    value = insert(graph, place, "Reshape", [value, target], name=f"{name}_heads", shape=parted)
    shape = tuple(parted[axis] for axis in part.order)
    bypass(
        graph,
        part.value,
        insert(graph, place, "Transpose", [value], {"perm": part.order}, name=f"{name}_by_head", shape=shape),
    )


def _fold_all(graph: ir.Graph) -> bool:
    is_changed = False
    for node in list(graph):
        if node.op_type == "MatMul" and constant(node.inputs[1]) is None:
            is_changed |= _fold(graph, node)
    return is_changed


def _fold(graph: ir.Graph, product: ir.Node) -> bool:
    """Folds every scale around one product of two activations; False when there is none, or no layer to take it."""
    left, right = product.inputs
    assert left is not None
    assert right is not None
    scales = [*_scales_before(left), *_scales_before(right), *_scales_after(product.outputs[0])]
    queries = left
    for scale in _scales_before(left):
        queries = scale.source
    found = _columns(queries)
    if not scales or found is None:
        return False
    layer, columns = found
    factor = np.ones(layer.channels)
    factor[columns] = math.prod(scale.factor for scale in scales)
    scale_outputs(graph, layer, factor, np.zeros(layer.channels))
    for scale in scales:
        bypass(graph, scale.result, scale.source)
    return True


@dataclass(frozen=True)
class _Scale:
    source: ir.Value
    factor: float
    result: ir.Value


def _scales_before(value: ir.Value) -> Iterator[_Scale]:
    """The scales on the way to `value`, the nearest first, past what cuts and moves."""
    while only_reader(value) is not None:
        node = value.producer()
        scale = _scale(node)
        if scale is not None:
            yield scale
            value = scale.source
        elif node is not None and node.inputs and node.inputs[0] is not None and selects(node, node.inputs[0]):
            value = node.inputs[0]
        else:
            return


def _scales_after(value: ir.Value) -> Iterator[_Scale]:
    while True:
        scale = _scale(only_reader(value))
        if scale is None or scale.result.is_graph_output():
            return
        yield scale
        value = scale.result


def _scale(node: ir.Node | None) -> _Scale | None:
    """A Mul by a number, or a Div by one."""
    if node is None or node.op_type not in ("Mul", "Div"):
        return None
    for source, other in (node.inputs, reversed(node.inputs)):
        number = scalar(other)
        if source is not None and constant(source) is None and number and sizes(source) == sizes(node.outputs[0]):
            return _Scale(source, number if node.op_type == "Mul" else 1.0 / number, node.outputs[0])
        if node.op_type == "Div":
            return None
    return None


def _columns(queries: ir.Value) -> tuple[Linear, Indices] | None:
    """(layer, its output channels that make `queries`), when nothing else is made of these."""
    layer = _layer_of(queries)
    if layer is None or only_reader(queries) is None:
        return None
    used = {value: _channels(value, layer) for value in leaves(layer.output)}
    mine = used.pop(queries, None)
    if mine is None or any(others is None or np.intersect1d(mine, others).size for others in used.values()):
        return None
    return layer, mine


def _layer_of(value: ir.Value) -> Linear | None:
    while True:
        layer = linear_into(value)
        if layer is not None:
            return layer
        node = value.producer()
        if node is None or not node.inputs or node.inputs[0] is None or not selects(node, node.inputs[0]):
            return None
        value = node.inputs[0]


def _channels(value: ir.Value, layer: Linear) -> Indices | None:
    """The layer's output channels that `value` holds anything of."""
    places, shape = indices(value, layer.output), sizes(layer.output)
    if places is None or shape is None:
        return None
    inner = math.prod(shape[2:]) if layer.node.op_type == "Conv" else 1  # (B, K, H, W), or (B, N, K)
    return np.unique(places // inner % layer.channels)
