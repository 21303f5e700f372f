"""Wide convolutions: a strided convolution of few channels makes several neighbouring outputs at a time.

ONNX Runtime's INT8 convolution copies what each position sees into a row before it multiplies. Of three channels there
is little to multiply, and the copying is most of the work. A kernel that is wide enough for m outputs of a row is
copied once for all of them; its weights are the same ones m times, each moved on by a stride, and zeros. EfficientViT's
first convolution on a Cortex-A76: 4.5 M instructions before, 2.1 M after; MobileViT-S's: 5.9 M and 4.1 M.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.rewrite.channels_last import TO_FIRST, TO_LAST
from edgevit.rewrite.graph import initializer, insert, only_reader, replace, rewritten, sizes
from edgevit.rewrite.linear import linear_of

WIDTHS = (8, 4, 2)
# Instructions on a Cortex-A76 (ONNX Runtime 1.31.1, counted on 18 convolutions of both models): to copy one row of a
# kernel, and to multiply and accumulate.
PER_ROW, PER_MAC = 100.0, 0.083


def widen_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each strided Conv that is cheaper so as one of m times the channels and a row as much shorter, laid out again.

    A Relu after it stays next to it. Sizes must be known, groups and dilations are left alone. Exact but for rounding.
    It pays in INT8 only: in float the layout is changed twice for it.
    """
    return rewritten(model, _widen_all)


def _widen_all(graph: ir.Graph) -> bool:
    count = sum(_widen(graph, node) for node in list(graph) if node.op_type == "Conv")
    return count > 0


def _widen(graph: ir.Graph, node: ir.Node) -> bool:
    layer, start, target = linear_of(node), sizes(node.inputs[0]), sizes(node.outputs[0])
    if layer is None or start is None or target is None or len(target) != 4 or not _is_plain(node):
        return False
    strides = tuple(node.attributes.get_ints("strides") or (1, 1))
    top, left, bottom, _ = node.attributes.get_ints("pads") or (0, 0, 0, 0)
    batch, channels, height, width = target
    kernel = layer.weights.shape[2:]
    count = min((1, *_divisors(width)), key=lambda m: _instructions(m, layer.weights.shape, strides[1], target))
    if count == 1 or strides[1] == 1:
        return False
    weights = _side_by_side(layer.weights, count, strides[1])
    right = max(0, (width - 1) * strides[1] + kernel[1] - start[3] - left)
    name = node.outputs[0].name
    inputs = [
        layer.input,
        initializer(graph, f"{name}_wide_weights", weights.astype(np.float32)),
        initializer(graph, f"{name}_wide_bias", np.tile(layer.bias, count).astype(np.float32)),
    ]
    attributes = {
        "kernel_shape": weights.shape[2:], "strides": (strides[0], count * strides[1]),
        "pads": (top, left, bottom, right),
    }  # fmt: skip
    wide = (batch, count * channels, height, width // count)
    value = insert(graph, node, "Conv", inputs, attributes, name=f"{name}_wide", shape=wide)
    relu = only_reader(node.outputs[0])
    output = node.outputs[0]
    if relu is not None and relu.op_type == "Relu":
        output = relu.outputs[0]
        value = insert(graph, node, "Relu", [value], name=f"{output.name}_wide", shape=wide)
    place = output.producer()
    assert place is not None
    last = (batch, height, width // count, count * channels)
    value = insert(graph, place, "Transpose", [value], {"perm": TO_LAST}, name=f"{name}_groups", shape=last)
    shape = initializer(graph, f"{name}_pixels_shape", np.array((batch, height, width, channels), np.int64))
    pixels = (batch, height, width, channels)
    value = insert(graph, place, "Reshape", [value, shape], name=f"{name}_pixels", shape=pixels)
    replace(graph, output, "Transpose", [value], {"perm": TO_FIRST})
    return True


def _is_plain(node: ir.Node) -> bool:
    """Whether the convolution has one group, no dilation, and pads that are written out."""
    attributes = node.attributes
    return (
        attributes.get_int("group", 1) == 1
        and set(attributes.get_ints("dilations") or (1,)) == {1}
        and attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )


def _divisors(width: int) -> tuple[int, ...]:
    return tuple(count for count in WIDTHS if width % count == 0 and width > count)


def _instructions(count: int, weights: tuple[int, ...], stride: int, target: tuple[int, ...]) -> float:
    """What copying and multiplying take when `count` outputs are made at a time."""
    filters, channels, rows, columns = weights
    positions = math.prod(target) // (filters * count)
    macs = filters * count * channels * rows * (columns + (count - 1) * stride)
    return positions * (rows * PER_ROW + macs * PER_MAC)


def _side_by_side(weights: NDArray[np.float64], count: int, stride: int) -> NDArray[np.float64]:
    """(O, I, kH, kW) -> (count · O, I, kH, kW + (count - 1) · stride): output j sees the kernel j strides on."""
    filters, channels, rows, columns = weights.shape
    wide = np.zeros((count, filters, channels, rows, columns + (count - 1) * stride))
    for index in range(count):
        wide[index, ..., index * stride : index * stride + columns] = weights
    return wide.reshape(count * filters, *wide.shape[2:])
