"""Layer norms: as one operator, and without their affine part, which the next linear layers can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.rewrite.graph import (
    constant,
    initializer,
    made_by,
    only_reader,
    opset,
    replace,
    rewritten,
    scalar,
    sizes,
    with_constant,
)
from edgevit.rewrite.linear import Linear, absorb_inputs, linear_of

LAYER_NORM_OPSET = 17  # ai.onnx has LayerNormalization from here on


def fuse_layer_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each (x - mean) / √(var + ε) · γ + β over the last axis as one LayerNormalization; γ and β may be missing.

    Below opset 17 the model comes back as it is. Exact but for rounding.
    """
    return rewritten(model, _fuse_all)


def fold_layer_norm_affine(model: onnx.ModelProto) -> onnx.ModelProto:
    """γ and β of each LayerNormalization in the weights and biases of its readers, where all are linear layers.

    A convolution that does not pad and reads the norm's output as pixels is one too (MobileViT's conv_proj).

    What is left has a γ of ones and no β: its output, which INT8 quantizes, is of one scale in all channels.
    Exact but for rounding.
    """
    return rewritten(model, _fold_all)


def _fuse_all(graph: ir.Graph) -> bool:
    if opset(graph) < LAYER_NORM_OPSET:
        return False
    count = sum(_fuse(graph, node) for node in list(graph) if node.op_type == "Sqrt")
    return count > 0


def _fuse(graph: ir.Graph, root: ir.Node) -> bool:
    """Looks from the square root back to x, then on to γ and β."""
    add = made_by(root.inputs[0], "Add")
    variance = with_constant(add) if add is not None else None
    division = only_reader(root.outputs[0])
    if variance is None or variance[1].size != 1 or division is None or division.op_type != "Div":
        return False
    centered = division.inputs[0]
    x = _centered_of(centered)
    if x is None or division.inputs[1] is not root.outputs[0] or _squared_mean_of(variance[0]) is not centered:
        return False
    shape = sizes(x)
    width = shape[-1] if shape else (x.shape[-1] if x.shape is not None else None)
    if not isinstance(width, int):
        return False
    output, gain = _then(division.outputs[0], "Mul", width)
    output, offset = _then(output, "Add", width)
    name = output.name
    inputs = [x, initializer(graph, f"{name}_gain", np.ones(width, np.float32) if gain is None else gain)]
    if offset is not None:
        inputs.append(initializer(graph, f"{name}_offset", offset))
    replace(graph, output, "LayerNormalization", inputs, {"axis": -1, "epsilon": float(variance[1].item())})
    return True


def _centered_of(value: ir.Value | None) -> ir.Value | None:
    """x of x - mean(x)."""
    node = made_by(value, "Sub")
    return node.inputs[0] if node is not None and _mean_of(node.inputs[1]) is node.inputs[0] else None


def _squared_mean_of(value: ir.Value) -> ir.Value | None:
    """c of mean(c²)."""
    square = _mean_of(value)
    node = made_by(square, "Pow", "Mul")
    if node is None:
        return None
    is_square = scalar(node.inputs[1]) == 2.0 if node.op_type == "Pow" else node.inputs[0] is node.inputs[1]
    return node.inputs[0] if is_square else None


def _mean_of(value: ir.Value | None) -> ir.Value | None:
    """What is averaged over its last axis, which stays as an axis of one."""
    node = made_by(value, "ReduceMean")
    if node is None or node.inputs[0] is None or not node.attributes.get_int("keepdims", 1):
        return None
    rank = len(node.inputs[0].shape) if node.inputs[0].shape is not None else 0
    return node.inputs[0] if [axis % rank for axis in _axes(node) if rank] == [rank - 1] else None


def _axes(node: ir.Node) -> Sequence[int]:
    """Of a ReduceMean: an attribute below opset 18."""
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is not None:
        axes: list[int] = given.reshape(-1).tolist()
        return axes
    return node.attributes.get_ints("axes") or ()


def _then(value: ir.Value, kind: str, width: int) -> tuple[ir.Value, NDArray[Any] | None]:
    """(result, vector) when the value is read once, by a `kind` with a constant per channel; else (value, None)."""
    node = only_reader(value)
    operands = with_constant(node) if node is not None and node.op_type == kind else None
    if node is None or operands is None or operands[1].size != width or operands[1].shape[-1:] != (width,):
        return value, None
    return node.outputs[0], operands[1].reshape(-1)


def _fold_all(graph: ir.Graph) -> bool:
    norms = [node for node in graph if node.op_type == "LayerNormalization"]
    count = sum(_fold(graph, node) for node in norms)
    return count > 0


def _fold(graph: ir.Graph, norm: ir.Node) -> bool:
    gain, offset = constant(norm.inputs[1]), constant(norm.inputs[2]) if len(norm.inputs) > 2 else None
    has_offset = len(norm.inputs) > 2 and norm.inputs[2] is not None
    if gain is None or gain.ndim != 1 or (has_offset and offset is None):
        return False
    if np.all(gain == 1) and (offset is None or not np.any(offset)):
        return False
    readers = [_reader(node, norm) for node in norm.outputs[0].consumers()]
    layers = [layer for layer in readers if layer is not None]
    if len(layers) < len(readers) or norm.outputs[0].is_graph_output():
        return False
    shift = np.zeros(gain.shape) if offset is None else offset.astype(np.float64)
    for layer in layers:
        absorb_inputs(graph, layer, gain.astype(np.float64), shift)
    norm.replace_input_with(1, initializer(graph, f"{norm.name}_ones", np.ones_like(gain)))
    norm.resize_inputs(2)
    return True


def _reader(node: ir.Node, norm: ir.Node) -> Linear | None:
    """The MatMul or Gemm that multiplies the norm's output, or the Conv that reads it as pixels."""
    layer = linear_of(node)
    if layer is not None:
        is_product = node.op_type in ("MatMul", "Gemm") and layer.input is norm.outputs[0]
        return layer if is_product else None
    return _convolution(node, norm)


def _convolution(node: ir.Node, norm: ir.Node) -> Linear | None:
    """The Conv at the end of a chain of layout operators that makes the norm's channels its own; it must not pad."""
    shape = sizes(norm.outputs[0])
    if shape is None:
        return None
    channels = np.broadcast_to(np.arange(shape[-1]), shape)  # of each value of the norm's output
    after: ir.Node | None = node
    while after is not None and after.op_type in ("Reshape", "Transpose") and after.domain == "":
        target = sizes(after.outputs[0])
        if target is None:
            return None
        order = tuple(after.attributes.get_ints("perm") or ())
        channels = channels.transpose(order) if after.op_type == "Transpose" and order else channels.reshape(target)
        if channels.shape != target:
            return None
        node, after = after, only_reader(after.outputs[0])
    layer = linear_of(after)
    if layer is None or layer.node.op_type != "Conv" or layer.input is not node.outputs[0] or not _is_unpadded(layer):
        return None
    by_channel = np.arange(shape[-1]).reshape(-1, *(1 for _ in channels.shape[2:]))
    is_kept = channels.ndim > 2 and channels.shape[1] == shape[-1] and bool(np.all(channels == by_channel))
    return layer if is_kept else None


def _is_unpadded(layer: Linear) -> bool:
    attributes = layer.node.attributes
    return attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(
        attributes.get_ints("pads") or ()
    )
