"""Selection: which elements of a tensor are left in a value that is cut and moved from it, by doing it to indices."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.rewrite.graph import constant, sizes

Indices = NDArray[np.int64]

SELECTING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather"})


def leaves(source: ir.Value) -> Iterator[ir.Value]:
    """The values cut and moved from `source`, or itself, that something else reads or that are graph outputs."""
    if source.is_graph_output() or any(not selects(node, source) for node in source.consumers()):
        yield source
    for node in source.consumers():
        if selects(node, source):
            for value in node.outputs:
                yield from leaves(value)


def indices(value: ir.Value, source: ir.Value) -> Indices | None:
    """For each element of `value` its place in the flattened `source`; None where a size or an index is not known."""
    if value is source:
        shape = sizes(source)
        return np.arange(math.prod(shape)).reshape(shape) if shape is not None else None
    node = value.producer()
    if node is None or node.inputs[0] is None or not selects(node, node.inputs[0]):
        return None
    whole = indices(node.inputs[0], source)
    return _applied(node, value, whole) if whole is not None else None


def selects(node: ir.Node, value: ir.Value) -> bool:
    """Whether the node only cuts or moves the value, by constants."""
    return node.op_type in SELECTING and node.domain == "" and node.inputs[0] is value


def _applied(node: ir.Node, value: ir.Value, whole: Indices) -> Indices | None:
    shape = sizes(value)
    if shape is None:
        return None
    if node.op_type == "Transpose":
        return whole.transpose(node.attributes.get_ints("perm") or None)
    if node.op_type == "Slice":
        return _sliced(node, whole)
    if node.op_type == "Gather":
        chosen = constant(node.inputs[1])
        axis = node.attributes.get_int("axis", 0)
        if chosen is None:
            return None
        taken: Indices = np.take(whole, chosen, axis=axis)
        return taken
    if node.op_type == "Split":
        return _part(node, value, whole)
    return whole.reshape(shape)


def _sliced(node: ir.Node, whole: Indices) -> Indices | None:
    arrays = [constant(value) for value in node.inputs[1:]]
    if any(array is None for array in arrays):
        return None
    starts, ends, *rest = [array.reshape(-1).tolist() for array in arrays if array is not None]
    axes = rest[0] if rest else range(len(starts))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    cut = [slice(None)] * whole.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step != 1:
            return None
        cut[axis] = slice(start, end)
    return whole[tuple(cut)]


def _part(node: ir.Node, value: ir.Value, whole: Indices) -> Indices | None:
    axis = node.attributes.get_int("axis", 0)
    lengths = [(sizes(output) or [0] * whole.ndim)[axis] for output in node.outputs]
    if sum(lengths) != whole.shape[axis]:
        return None
    parts: list[Indices] = np.split(whole, np.cumsum(lengths)[:-1], axis=axis)
    return parts[list(node.outputs).index(value)]
