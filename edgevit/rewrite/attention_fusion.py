"""Attention as one operator: com.microsoft MultiHeadAttention, for plain attention."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.attention_layout import (
    HEADS_FIRST,
    KEYS_TRANSPOSED,
    fold_attention_scale,
    heads_of,
    split_attention_inputs,
)
from edgevit.rewrite.graph import MICROSOFT, made_by, only_reader, replace, rewritten, sizes
from edgevit.rewrite.selection import indices, leaves, selects


def fuse_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """softmax(q kᵀ) v with its heads' layout as one MultiHeadAttention of tensors (B, N, C).

    q, k and v are split and the scale is folded first (attention_layout). Attention with a bias or a mask on its
    scores stays as it is. Exact but for rounding.
    """
    prepared = fold_attention_scale(split_attention_inputs(model))
    fused = rewritten(prepared, _fuse_all)
    return model if fused is prepared else fused


def _fuse_all(graph: ir.Graph) -> bool:
    count = sum(_fuse(graph, node) for node in list(graph) if node.op_type == "Softmax")
    return count > 0


def _fuse(graph: ir.Graph, softmax: ir.Node) -> bool:
    scores, weighted = made_by(softmax.inputs[0], "MatMul"), only_reader(softmax.outputs[0])
    if scores is None or only_reader(scores.outputs[0]) is None:
        return False
    if weighted is None or weighted.op_type != "MatMul" or weighted.inputs[0] is not softmax.outputs[0]:
        return False
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return False
    queries = _tokens(scores.inputs[0], HEADS_FIRST)
    keys = _tokens(scores.inputs[1], KEYS_TRANSPOSED)
    values = _tokens(weighted.inputs[1], HEADS_FIRST)
    output = _merged(weighted.outputs[0])
    if queries is None or keys is None or values is None or output is None:
        return False
    heads = (sizes(weighted.outputs[0]) or (0, 0))[1]
    replace(
        graph,
        output,
        "MultiHeadAttention",
        [queries, keys, values],
        {"num_heads": heads, "scale": 1.0},
        domain=MICROSOFT,
    )
    return True


def _tokens(value: ir.Value | None, order: tuple[int, ...]) -> ir.Value | None:
    """The tensor (B, N, H·d) of which `value` is the heads, all of them in their order."""
    tokens = value
    while tokens is not None:
        node = tokens.producer()
        if node is None or not node.inputs or node.inputs[0] is None or not selects(node, node.inputs[0]):
            break
        tokens = node.inputs[0]
    heads = heads_of(value, tokens) if value is not None and tokens is not None else None
    shape = sizes(tokens)
    if heads is None or shape is None or heads.order != order:
        return None
    return tokens if np.array_equal(heads.columns.reshape(-1), np.arange(shape[-1])) else None


def _merged(value: ir.Value) -> ir.Value | None:
    """What the heads (B, H, N, d) become, (B, N, H·d), when nothing else is made of them."""
    shape, results = sizes(value), list(leaves(value))
    if shape is None or len(shape) != 4 or len(results) != 1:
        return None
    batch, heads, tokens, width = shape
    wanted = np.arange(math.prod(shape)).reshape(shape).transpose(HEADS_FIRST)
    places = indices(results[0], value)
    is_merged = places is not None and np.array_equal(places, wanted.reshape(batch, tokens, heads * width))
    return results[0] if is_merged else None
