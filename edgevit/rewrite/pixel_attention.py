"""Pixel attention: attention among the pixels of a picture, with channels last.

EfficientViT's heads are convolutions' outputs (B, C, H, W), which it flattens to (B, C, N) and multiplies as they are:
v · attentionᵀ. ONNX Runtime keeps them with channels last in INT8, so each is laid out anew on both sides. As
(attention · vᵀ)ᵀ, flattened to (B, N, C), only the keys are.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.channels_last import TO_FIRST, TO_LAST
from edgevit.rewrite.graph import constant, initializer, insert, made_by, only_reader, replace, rewritten, sizes

SWAPPED = (0, 2, 1)


def attend_with_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rows of pixels and products of values by way of (B, H, W, C). Exact to the bit, but for the order of sums.

    Patches of a convolution that become tokens are such rows too. Sizes must be known. It pays where the convolutions
    around are INT8.
    """
    return rewritten(model, _rewrite_all)


def _rewrite_all(graph: ir.Graph) -> bool:
    products = sum(_turn(graph, node) for node in list(graph) if node.op_type == "MatMul")
    rows = sum(_flatten_last(graph, node) for node in list(graph) if node.op_type == "Transpose")
    return products + rows > 0


def _turn(graph: ir.Graph, product: ir.Node) -> bool:
    """v · pᵀ -> (p · vᵀ)ᵀ, v being a flattened picture, and the product one next."""
    values, weights = product.inputs
    picture, transposed = _picture(values), made_by(weights, "Transpose")
    after = only_reader(product.outputs[0])
    if picture is None or transposed is None or _order(transposed) != SWAPPED or after is None:
        return False
    output, shape = after.outputs[0], sizes(after.outputs[0])
    flat, attention = sizes(product.outputs[0]), transposed.inputs[0]
    if after.op_type != "Reshape" or shape is None or flat is None or attention is None or output.is_graph_output():
        return False
    if len(shape) != 4 or shape[:2] != flat[:2]:
        return False
    batch, channels, height, width = shape
    name = product.outputs[0].name
    rows = _rows(graph, product, picture, f"{name}_values")
    turned = (batch, height * width, channels)
    value = insert(graph, product, "MatMul", [attention, rows], name=f"{name}_rows", shape=turned)
    last = (batch, height, width, channels)
    target = initializer(graph, f"{name}_pixels_shape", np.array(last, np.int64))
    value = insert(graph, after, "Reshape", [value, target], name=f"{name}_pixels", shape=last)
    replace(graph, output, "Transpose", [value], {"perm": TO_FIRST})
    return True


def _flatten_last(graph: ir.Graph, node: ir.Node) -> bool:
    """(B, C, H, W) flattened and then transposed -> transposed and then flattened."""
    picture = _picture(node.inputs[0])
    if picture is None or _order(node) != SWAPPED or node.outputs[0].is_graph_output():
        return False
    batch, channels, height, width = sizes(picture) or ()
    name = node.outputs[0].name
    last = (batch, height, width, channels)
    value = insert(graph, node, "Transpose", [picture], {"perm": TO_LAST}, name=f"{name}_last", shape=last)
    target = initializer(graph, f"{name}_rows_shape", np.array((batch, height * width, channels), np.int64))
    replace(graph, node.outputs[0], "Reshape", [value, target])
    return True


def _picture(value: ir.Value | None) -> ir.Value | None:
    """(B, C, H, W), H and W being more than one, of what was flattened to (B, C, H · W)."""
    node = made_by(value, "Reshape")
    if node is None or constant(node.inputs[1]) is None:
        return None
    source, shape, flat = node.inputs[0], sizes(node.inputs[0]), sizes(value)
    if source is None or shape is None or flat is None or len(shape) != 4 or len(flat) != 3:
        return None
    return source if flat[:2] == shape[:2] and min(shape[2:]) > 1 else None


def _rows(graph: ir.Graph, place: ir.Node, picture: ir.Value, name: str) -> ir.Value:
    """(B, C, H, W) -> (B, H · W, C)"""
    batch, channels, height, width = sizes(picture) or ()
    last = (batch, height, width, channels)
    value = insert(graph, place, "Transpose", [picture], {"perm": TO_LAST}, name=f"{name}_last", shape=last)
    rows = (batch, height * width, channels)
    target = initializer(graph, f"{name}_shape", np.array(rows, np.int64))
    return insert(graph, place, "Reshape", [value, target], name=f"{name}_rows", shape=rows)


def _order(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints("perm") or ())
