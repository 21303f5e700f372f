"""The last block for the class token only: what only the discarded tokens need is not computed.

A ViT classifies by one token (DeiT's distilled form by two) of its last layer's output. Every operator between the
last attention's keys and values and that choice works on each token by itself, so the choice commutes with it:

    MLP(LN(x))[:, :k]  ==  MLP(LN(x[:, :k]))        softmax(q kᵀ)[:, :k] v  ==  softmax(q[:, :k] kᵀ) v

The rewrite moves the choice up through these operators, as a Slice that keeps the tensor's rank. It is exact.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import BINARY, UNARY, constant, dim, initializer, insert, rewritten

TOKEN_AXIS = 1  # (B, T, C)


def compute_last_block_for_class_token(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with fewer rows in the last block; the model itself when it has no such choice of tokens."""
    return rewritten(model, _narrow_all)


def _narrow_all(graph: ir.Graph) -> bool:
    tensors = _token_tensors(graph)
    for value in tensors:
        _narrow(graph, value, _tokens_used(value))
    return bool(tensors)


def _token_tensors(graph: ir.Graph) -> list[ir.Value]:
    """Values (B, T, C) that are read only by Gathers of leading tokens, fewer than T."""
    values = {node.inputs[0]: None for node in graph if node.op_type == "Gather"}
    return [value for value in values if value is not None and 0 < _tokens_used(value) < (dim(value, TOKEN_AXIS) or 0)]


def _tokens_used(value: ir.Value) -> int:
    """How many leading tokens the Gathers read; 0 when anything else reads the value, or a token is not constant."""
    last = -1
    for node, index in value.uses():
        if node.op_type != "Gather" or index != 0 or node.attributes.get_int("axis", 0) != TOKEN_AXIS:
            return 0
        tokens = constant(node.inputs[1])
        if tokens is None or tokens.size == 0 or tokens.min() < 0:
            return 0
        last = max(last, int(tokens.max()))
    return last + 1 if not value.is_graph_output() else 0


def _narrow(graph: ir.Graph, tail: ir.Value, count: int) -> None:
    """Walks from `tail` towards the input as long as operators commute with the choice, then slices there."""
    wanted: dict[ir.Value, int] = {tail: TOKEN_AXIS}
    narrow_uses: dict[ir.Value, set[ir.Node]] = {tail: {node for node, _ in tail.uses()}}
    boundary: list[ir.Value] = []
    for value in [value for node in reversed(list(graph)) for value in node.outputs]:
        node = value.producer()
        if node is None or value not in wanted:
            continue
        is_whole = value.is_graph_output() or {reader for reader, _ in value.uses()} != narrow_uses[value]
        moves = _inputs_to_narrow(node, wanted[value], dim(value, wanted[value])) if _has_one_output(node) else None
        if is_whole or moves is None or any(wanted.get(v, axis) != axis for v, axis in moves):
            boundary.append(value)
            continue
        if node.op_type == "Reshape":
            _set_reshape_dim(graph, node, wanted[value], count)
        value.shape = _with_dim(value, wanted[value], count)
        for source, axis in moves:
            wanted[source] = axis
            narrow_uses.setdefault(source, set()).add(node)
    boundary += [value for value in wanted if value.producer() is None]
    for value in boundary:
        _insert_slice(
            graph, value, wanted[value], count, narrow_uses[value], f"{value.name}_first_tokens_of_{tail.name}"
        )


def _has_one_output(node: ir.Node) -> bool:
    """Whether only the first output is read: a Split's halves, or a norm's statistics, would have to follow it."""
    return not any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def _inputs_to_narrow(node: ir.Node, axis: int, tokens: int | None) -> list[tuple[ir.Value, int]] | None:
    """(input, axis) pairs that must be narrowed for `axis` of the output to be; None when the node does not commute."""
    first = node.inputs[0] if node.inputs else None
    rank = len(node.outputs[0].shape) if node.outputs[0].shape is not None else None
    if first is None or rank is None or tokens is None:
        return None
    if node.op_type in UNARY:
        return [(first, axis)]
    if node.op_type in BINARY:
        return _aligned_inputs(node, rank - axis, tokens)
    if node.op_type == "LayerNormalization":
        normalized_from = node.attributes.get_int("axis", -1) % rank
        return [(first, axis)] if axis < normalized_from else None
    if node.op_type == "Softmax":
        return [(first, axis)] if axis != node.attributes.get_int("axis", -1) % rank else None
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm") or range(rank)[::-1]
        return [(first, order[axis])]
    if node.op_type == "MatMul":
        is_row = axis == rank - 2 and first.shape is not None and len(first.shape) >= 2 and node.inputs[1] is not first
        return [(first, len(first.shape) - 2)] if is_row and first.shape is not None else None
    if node.op_type == "MultiHeadAttention":
        return [(first, axis)] if axis == TOKEN_AXIS and first not in node.inputs[1:] else None
    if node.op_type == "Reshape":
        keeps_tokens = _same_until(axis, first.shape, node.outputs[0].shape)
        return [(first, axis)] if keeps_tokens and constant(node.inputs[1]) is not None else None
    return None


def _same_until(axis: int, before: ir.Shape | None, after: ir.Shape | None) -> bool:
    """Whether both are known to have the same sizes up to `axis`; two sizes without a number or a name may differ."""
    if before is None or after is None:
        return False
    known = [size for size in before[: axis + 1] if isinstance(size, int) or size.value is not None]
    return len(known) == axis + 1 and known == list(after[: axis + 1])


def _aligned_inputs(node: ir.Node, axis_from_end: int, tokens: int) -> list[tuple[ir.Value, int]] | None:
    """The inputs of a broadcasting operator that have the token axis; None when a constant has it."""
    pairs = []
    for value in node.inputs:
        if value is None or value.shape is None:
            return None
        axis = len(value.shape) - axis_from_end
        if axis < 0 or value.shape[axis] == 1:
            continue  # broadcast along the tokens: unchanged
        if value.shape[axis] != tokens or constant(value) is not None:
            return None
        pairs.append((value, axis))
    return pairs


def _insert_slice(graph: ir.Graph, value: ir.Value, axis: int, count: int, readers: set[ir.Node], name: str) -> None:
    def number(suffix: str, amount: int) -> ir.Value:
        return initializer(graph, f"{name}_{suffix}", np.array([amount], np.int64))

    inputs = [value, number("starts", 0), number("ends", count), number("axes", axis)]
    first_reader = next(node for node in graph if node in readers)
    taken = insert(graph, first_reader, "Slice", inputs, name=name, shape=_with_dim(value, axis, count))
    for reader in readers:
        for index, source in enumerate(reader.inputs):
            if source is value:
                reader.replace_input_with(index, taken)


def _set_reshape_dim(graph: ir.Graph, node: ir.Node, axis: int, count: int) -> None:
    shape = constant(node.inputs[1])
    assert shape is not None
    narrowed = shape.copy()
    narrowed[axis] = count
    node.replace_input_with(1, initializer(graph, f"{node.name}_first_tokens_shape", narrowed))


def _with_dim(value: ir.Value, axis: int, count: int) -> ir.Shape | None:
    """The value's shape with `count` along the axis: kept, because nobody infers it behind ONNX Runtime's operators."""
    if value.shape is None:
        return None
    return ir.Shape([count if index == axis else size for index, size in enumerate(value.shape)])
