"""Heads: what comes last is computed once, and for one row.

A mean over tokens commutes with every layer that is linear and works on each token by itself:

    mean(x) W + b == mean(x W + b)          mean(x + y) == mean(x) + mean(y)

Of two linear heads whose logits are added, one is made: (x₀ W₀ + x₁ W₁) / 2 == [x₀, x₁] · [W₀; W₁] / 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import (
    constant,
    dim,
    initializer,
    insert,
    made_by,
    only_reader,
    opset,
    replace,
    rewritten,
    scalar,
    sizes,
    with_constant,
)
from edgevit.rewrite.linear import Array, Linear, linear_into, linear_of

TOKEN_AXIS = 1  # (B, T, C)
AXES_INPUT_OPSET = 18  # ReduceMean's axes are an input from here on


def pool_before_linear(model: onnx.ModelProto) -> onnx.ModelProto:
    """The mean over tokens or pixels before the linear layers that lead to it, through the residual adds between.

    Layers: MatMul with a bias, and a 1 x 1 Conv. Exact but for rounding.
    """
    return rewritten(model, _pool_all)


def merge_heads(model: onnx.ModelProto) -> onnx.ModelProto:
    """Two linear heads of one token or of two, whose logits are added or averaged, as one Gemm.

    DeiT's distilled form ends so. The tokens are read by Gather from one tensor (B, T, C). Exact but for rounding.
    """
    return rewritten(model, _merge_all)


def _pool_all(graph: ir.Graph) -> bool:
    count = sum(_pool(graph, node) for node in list(graph) if node.op_type in ("ReduceMean", "GlobalAveragePool"))
    return count > 0


def _pool(graph: ir.Graph, node: ir.Node) -> bool:
    value, output, axes = node.inputs[0], node.outputs[0], _axes(node)
    if value is None or not axes or not _gains(value, axes):
        return False
    pooled = _pooled(graph, node, value, axes)
    if not node.attributes.get_int("keepdims", 1):
        squeezed = initializer(graph, f"{output.name}_axes", np.array(axes, np.int64))
        replace(graph, output, "Squeeze", [pooled, squeezed])
    elif output.is_graph_output():
        replace(graph, output, "Identity", [pooled])
    else:
        output.replace_all_uses_with(pooled)
    return True


def _axes(node: ir.Node) -> tuple[int, ...]:
    """The axes that are averaged, counted from the front; none when they are not known."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return ()
    if node.op_type == "GlobalAveragePool":
        return tuple(range(2, len(shape)))
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.reshape(-1).tolist() if given is not None else node.attributes.get_ints("axes") or ()
    return tuple(sorted(axis % len(shape) for axis in axes))


def _gains(value: ir.Value, axes: Sequence[int]) -> bool:
    """Whether a linear layer is among what the mean can pass."""
    return _is_passable(value, axes) and (
        linear_of(value.producer()) is not None or any(_gains(source, axes) for source in _sources(value))
    )


def _pooled(graph: ir.Graph, place: ir.Node, value: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    """The mean of `value` over the axes, which stay as axes of one."""
    name = f"{value.name}_mean_of_{place.name}"
    shape = [1 if axis in axes else size for axis, size in enumerate(value.shape or ())]
    node = value.producer()
    if node is None or not _is_passable(value, axes):
        if opset(graph) < AXES_INPUT_OPSET:
            return insert(graph, place, "ReduceMean", [value], {"axes": axes, "keepdims": 1}, name=name, shape=shape)
        given = initializer(graph, f"{name}_axes", np.array(axes, np.int64))
        return insert(graph, place, "ReduceMean", [value, given], {"keepdims": 1}, name=name, shape=shape)
    pooled = {source: _pooled(graph, place, source, axes) for source in _sources(value)}
    inputs = [pooled.get(source, source) if source is not None else None for source in node.inputs]
    attributes = {key: attribute.value for key, attribute in node.attributes.items()}
    result = insert(graph, place, node.op_type, inputs, attributes, name=name, shape=shape)
    made = result.producer()
    assert made is not None
    made.metadata_props.update(node.metadata_props)
    return result


def _is_passable(value: ir.Value, axes: Sequence[int]) -> bool:
    """Whether the mean over `axes` of the value's operator is the operator of the mean, and nothing else reads it."""
    node = value.producer()
    shape = sizes(value)
    if node is None or only_reader(value) is None or shape is None:
        return False
    if node.op_type == "Add" and with_constant(node) is None:
        return all(sizes(source) == shape for source in node.inputs)
    if node.op_type in ("Add", "Mul"):
        operands = with_constant(node)
        return operands is not None and sizes(operands[0]) == shape and _is_even(operands[1].shape, len(shape), axes)
    layer = linear_of(node)
    if layer is None:
        return False
    if node.op_type == "MatMul":
        return len(shape) - 1 not in axes
    return node.op_type == "Conv" and set(axes) <= set(range(2, len(shape))) and _is_pointwise(layer)


def _is_even(shape: Sequence[int], rank: int, axes: Sequence[int]) -> bool:
    """Whether a constant of this shape has one value along the axes of a tensor of this rank."""
    full = (1,) * (rank - len(shape)) + tuple(shape)
    return all(full[axis] == 1 for axis in axes)


def _is_pointwise(layer: Linear) -> bool:
    attributes = layer.node.attributes
    strides, pads = attributes.get_ints("strides") or (), attributes.get_ints("pads") or ()
    return set(layer.weights.shape[2:]) == {1} and set(strides) <= {1} and not any(pads)


def _sources(value: ir.Value) -> list[ir.Value]:
    """The tensors, not constants, of which the value is computed."""
    node = value.producer()
    return [source for source in node.inputs if source is not None and constant(source) is None] if node else []


def _merge_all(graph: ir.Graph) -> bool:
    count = sum(_merge(graph, node) for node in list(graph) if node.op_type == "Add")
    return count > 0


def _merge(graph: ir.Graph, add: ir.Node) -> bool:
    heads = [linear_into(value) for value in add.inputs]
    first, second = heads
    if first is None or second is None or not all(_is_head(head, add) for head in (first, second)):
        return False
    if first.output is second.output or first.channels != second.channels:
        return False
    output, factor = _scaled(add)
    if first.input is second.input:
        _write(graph, output, first.input, first.matrix + second.matrix, (first.bias + second.bias), factor)
        return True
    source, tokens = _tokens(first), _tokens(second)
    if source is None or tokens is None or source[0] is not tokens[0]:
        return False
    rows = _rows(graph, output, source[0], [source[1], tokens[1]])
    _write(graph, output, rows, np.concatenate([first.matrix, second.matrix]), first.bias + second.bias, factor)
    return True


def _is_head(head: Linear, add: ir.Node) -> bool:
    """A layer of rows (B, C) that only the sum reads."""
    rank = len(head.output.shape) if head.output.shape is not None else 0
    return head.node.op_type in ("Gemm", "MatMul") and rank == 2 and only_reader(head.output) is add


def _scaled(add: ir.Node) -> tuple[ir.Value, float]:
    """(what the sum becomes, factor) when it is halved or scaled next; else (the sum, 1)."""
    total = add.outputs[0]
    node = only_reader(total)
    if node is not None and node.op_type in ("Mul", "Div"):
        other = node.inputs[1] if node.inputs[0] is total else node.inputs[0]
        number = scalar(other)
        if number and (node.op_type == "Mul" or node.inputs[0] is total):
            return node.outputs[0], number if node.op_type == "Mul" else 1.0 / number
    return total, 1.0


def _tokens(head: Linear) -> tuple[ir.Value, int] | None:
    """(tensor (B, T, C), token) that the head reads by a Gather."""
    gather = made_by(head.input, "Gather")
    token = constant(gather.inputs[1]) if gather is not None else None
    if gather is None or gather.inputs[0] is None or token is None or token.ndim != 0:
        return None
    rank = len(gather.inputs[0].shape) if gather.inputs[0].shape is not None else 0
    is_tokens = gather.attributes.get_int("axis", 0) == TOKEN_AXIS and rank == 3
    return (gather.inputs[0], int(token.item())) if is_tokens else None


def _rows(graph: ir.Graph, output: ir.Value, tensor: ir.Value, tokens: list[int]) -> ir.Value:
    """The tokens side by side, (B, 2·C); all tokens of the tensor in their order need no Gather."""
    place, width = output.producer(), dim(tensor, 2)
    assert place is not None
    if tokens != list(range(dim(tensor, TOKEN_AXIS) or 0)):
        chosen = initializer(graph, f"{output.name}_tokens", np.array(tokens, np.int64))
        attributes = {"axis": TOKEN_AXIS}
        tensor = insert(graph, place, "Gather", [tensor, chosen], attributes, name=f"{output.name}_read_tokens")
    shape = initializer(graph, f"{output.name}_rows_shape", np.array([0, (width or 0) * len(tokens) or -1], np.int64))
    return insert(graph, place, "Reshape", [tensor, shape], name=f"{output.name}_rows")


def _write(graph: ir.Graph, output: ir.Value, rows: ir.Value, matrix: Array, bias: Array, factor: float) -> None:
    weights = initializer(graph, f"{output.name}_weights", (matrix * factor).astype(np.float32))
    offset = initializer(graph, f"{output.name}_bias", (bias * factor).astype(np.float32))
    replace(graph, output, "Gemm", [rows, weights, offset])
