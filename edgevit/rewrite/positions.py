"""Positions: what the class token starts with is known before there is a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.rewrite.graph import constant, initializer, insert, only_reader, replace, rewritten, sizes, with_constant

TOKEN_AXIS = 1  # (B, T, C)


def fold_class_token(model: onnx.ModelProto) -> onnx.ModelProto:
    """Concat(class token, patches) + positions as Concat(class token + its position, patches + theirs).

    The class token's sum is a constant, and as many constant tokens as there are, before or after the patches.
    Exact to the bit. An embedding without a token axis of its own stays.
    """
    return rewritten(model, _fold_all)


def _fold_all(graph: ir.Graph) -> bool:
    count = sum(_fold(graph, node) for node in list(graph) if node.op_type == "Concat")
    return count > 0


def _fold(graph: ir.Graph, concat: ir.Node) -> bool:
    add = only_reader(concat.outputs[0])
    operands = with_constant(add) if add is not None and add.op_type == "Add" else None
    shape = sizes(concat.outputs[0])
    if add is None or operands is None or shape is None or concat.attributes.get_int("axis", 0) not in (1, -2):
        return False
    positions = operands[1]
    lengths = [(sizes(value) or (0, 0))[TOKEN_AXIS] for value in concat.inputs]
    has_constants = any(constant(value) is not None for value in concat.inputs)
    if len(shape) != 3 or positions.shape != (1, *shape[1:]) or not has_constants or sum(lengths) != shape[TOKEN_AXIS]:
        return False
    parts = np.split(positions, np.cumsum(lengths)[:-1], axis=TOKEN_AXIS)
    placed = [
        _placed(graph, add, value, part) for value, part in zip(concat.inputs, parts, strict=True) if value is not None
    ]
    replace(graph, add.outputs[0], "Concat", placed, {"axis": TOKEN_AXIS})
    return True


def _placed(graph: ir.Graph, add: ir.Node, value: ir.Value, positions: NDArray[Any]) -> ir.Value:
    """The tokens with their positions added: now, when they are constant."""
    name, array = f"{value.name}_placed", constant(value)
    if array is not None:
        return initializer(graph, name, array + positions)
    added = initializer(graph, f"{value.name}_positions", positions)
    return insert(graph, add, "Add", [value, added], name=name, shape=value.shape)
