"""Token blocks: where a plain ViT's graph holds its attention, its keys and its residual stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import constant, dim, made_by, only_reader, with_constant

BATCH_AXIS, TOKEN_AXIS = 0, 1  # of (B, N, C)
QUERY_AXIS, KEY_AXIS = 2, 3  # of (B, H, N, N)
NORMS = ("LayerNormalization", "RMSNormalization")
ELEMENTWISE = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class TokenBlock:
    """One block of attention and MLP over N tokens, the first `prefix` of which are no patches.

    softmax: makes the attention (B, H, N, N), each row of which sums to 1. keys: (B, H, d, N), scaled or not.
    stream: (B, N, C) after attention's residual Add, which the second norm and the MLP's residual Add read.
    prefix: class token, distillation token, registers. has_class_token: whether the first of them is classified.
    """

    softmax: ir.Node
    keys: ir.Value
    stream: ir.Value
    tokens: int
    prefix: int
    has_class_token: bool

    @property
    def attention(self) -> ir.Value:
        return self.softmax.outputs[0]

    @property
    def batch(self) -> int | None:
        """None: free."""
        shape = self.stream.shape
        assert shape is not None
        size = shape[BATCH_AXIS]
        return size if isinstance(size, int) else None


def token_blocks(model: onnx.ModelProto) -> tuple[TokenBlock, ...]:
    """The plain ViT's blocks in their order; empty for windows, pictures (B, C, H, W) and convolutions.

    A block that computes its attention for the class token only is none: nothing is left in it to reduce.
    """
    return find_blocks(ir.from_proto(model).graph)


def find_blocks(graph: ir.Graph) -> tuple[TokenBlock, ...]:
    """As token_blocks; the values are the graph's own."""
    found = [
        (node, keys, add)
        for node in graph
        if (keys := _keys(node)) is not None and (add := _residual_add(node)) is not None and _fits(graph, node, add)
    ]
    if not found:
        return ()
    first_add, last_add = found[0][2], found[-1][2]
    prefix = max(_prefix(value) for value in first_add.inputs)
    has_class_token = any(_takes_tokens(node, prefix) for node in downstream(last_add.outputs))
    return tuple(
        TokenBlock(node, keys, add.outputs[0], dim(node.outputs[0], KEY_AXIS) or 0, prefix, has_class_token)
        for node, keys, add in found
    )


def downstream(values: Iterable[ir.Value]) -> Iterator[ir.Node]:
    """Every node that the values reach, once each, in no particular order."""
    seen: set[ir.Node] = set()
    waiting = list(values)
    while waiting:
        for reader in waiting.pop().consumers():
            if reader not in seen:
                seen.add(reader)
                waiting.extend(reader.outputs)
                yield reader


def is_attention(node: ir.Node) -> bool:
    """Whether the node is a Softmax (B, H, M, N) over keys: of every token, or of one."""
    shape = node.outputs[0].shape
    is_over_keys = shape is not None and len(shape) == 4 and node.attributes.get_int("axis", -1) in (-1, KEY_AXIS)
    return node.op_type == "Softmax" and is_over_keys


def _keys(softmax: ir.Node) -> ir.Value | None:
    """The second operand of q·kᵀ behind a square Softmax, past scales and masks."""
    if not is_attention(softmax) or not _is_square(softmax.outputs[0]):
        return None
    value = softmax.inputs[0]
    while (node := made_by(value, *ELEMENTWISE)) is not None:
        operand = with_constant(node)
        if operand is None:
            return None
        value = operand[0]
    product = made_by(value, "MatMul")
    keys = product.inputs[1] if product is not None else None
    return keys if keys is not None and constant(keys) is None else None


def _is_square(attention: ir.Value) -> bool:
    tokens = dim(attention, KEY_AXIS)
    return tokens is not None and tokens == dim(attention, QUERY_AXIS) and tokens > 1


def _residual_add(softmax: ir.Node) -> ir.Node | None:
    """The Add of the stream and what attention says: its values, projected, with bias and layer scale."""
    node = only_reader(softmax.outputs[0])
    if node is None or node.op_type != "MatMul" or node.inputs[0] is not softmax.outputs[0]:
        return None
    while (node := only_reader(node.outputs[0])) is not None:
        if node.op_type == "Add" and not any(constant(value) is not None for value in node.inputs):
            return node
        is_layout = node.op_type in ("Transpose", "Reshape", "Identity")
        has_weight = node.op_type in ("MatMul", *ELEMENTWISE) and any(constant(v) is not None for v in node.inputs)
        if not is_layout and not has_weight:
            return None
    return None


def _fits(graph: ir.Graph, softmax: ir.Node, add: ir.Node) -> bool:
    """Whether the stream is (B, N, C) with the picture's batch and the attention's tokens, and a norm reads it."""
    picture, stream, attention = graph.inputs[0].shape, add.outputs[0].shape, softmax.outputs[0].shape
    if picture is None or stream is None or attention is None or len(stream) != 3:
        return False
    is_whole = (
        stream[BATCH_AXIS] == attention[BATCH_AXIS] == picture[BATCH_AXIS] and stream[TOKEN_AXIS] == attention[KEY_AXIS]
    )
    return is_whole and any(reader.op_type in NORMS for reader in add.outputs[0].consumers())


def _prefix(value: ir.Value | None) -> int:
    """How many constant tokens the first block's input begins with; 0 when it is another value."""
    while (node := made_by(value, "Add", "Mul", "Identity", "Concat", *NORMS)) is not None:
        if node.op_type == "Concat":
            return _constant_tokens(node) if node.attributes.get_int("axis", 0) in (TOKEN_AXIS, -2) else 0
        if node.op_type in ELEMENTWISE:
            operand = with_constant(node)
            if operand is None:
                return 0
            value = operand[0]
        else:
            value = node.inputs[0]
    return 0


def _constant_tokens(concat: ir.Node) -> int:
    count = 0
    for value in concat.inputs:
        array = constant(value)
        if array is None:
            return count
        count += array.shape[TOKEN_AXIS]
    return count


def _takes_tokens(node: ir.Node, prefix: int) -> bool:
    """Whether the node is a Gather of tokens (B, N, C) out of the prefix alone."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != TOKEN_AXIS:
        return False
    tokens, index = node.inputs[0], constant(node.inputs[1])
    if tokens is None or tokens.shape is None or len(tokens.shape) != 3 or index is None:
        return False
    return all(0 <= int(token) < prefix for token in index.flat)
