"""Linear convolutions: a linear layer is a 1x1 convolution of its rows, laid out with channels last.

In INT8 a convolution adds its bias and rounds to 8 bits in one go; a product is rounded, made float, and then meets its
bias. The change of layout is none: ONNX Runtime runs INT8 convolutions with channels last, which rows are.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.policy import LINEAR_CONV
from edgevit.rewrite.channels_last import TO_FIRST, TO_LAST
from edgevit.rewrite.graph import initializer, insert, replace, rewritten, sizes
from edgevit.rewrite.linear import Linear, linear_of

LEAST_ROWS = 2  # a classifier's one row is no picture


def convolve_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each MatMul of several rows with a constant, and its bias, as a Conv of 1x1 on (1, C, 1, rows).

    Sizes must be known. Exact but for rounding. It pays where all linear layers are static INT8, and only there.
    """
    return rewritten(model, _rewrite_all)


def _rewrite_all(graph: ir.Graph) -> bool:
    pictures: dict[ir.Value, ir.Value] = {}  # of one input there is one: queries, keys and values quantize it once
    layers = [linear_of(node) for node in graph if node.op_type == "MatMul"]
    for layer in layers:
        if layer is not None and _has_rows(layer):
            if layer.input not in pictures:
                pictures[layer.input] = _picture(graph, layer)
            _convolve(graph, layer, pictures[layer.input])
    return bool(pictures)


def _has_rows(layer: Linear) -> bool:
    shape = sizes(layer.input)
    return shape is not None and math.prod(shape[:-1]) >= LEAST_ROWS


def _picture(graph: ir.Graph, layer: Linear) -> ir.Value:
    """(..., C) -> (1, 1, rows, C) -> (1, C, 1, rows)"""
    *outer, channels = sizes(layer.input) or ()
    name, place, last = layer.input.name, layer.node, (1, 1, math.prod(outer), channels)
    shape = initializer(graph, f"{name}_rows_shape", np.array(last, np.int64))
    value = insert(graph, place, "Reshape", [layer.input, shape], name=f"{name}_rows", shape=last)
    first = tuple(last[axis] for axis in TO_FIRST)
    return insert(graph, place, "Transpose", [value], {"perm": TO_FIRST}, name=f"{name}_channels", shape=first)


def _convolve(graph: ir.Graph, layer: Linear, picture: ir.Value) -> None:
    output, place, out = layer.output, layer.output.producer(), layer.channels
    _, channels, _, rows = sizes(picture) or ()
    assert place is not None
    name, weights = output.name, layer.weights.T.reshape(out, channels, 1, 1)
    inputs = [
        picture,
        initializer(graph, f"{name}_kernel", weights.astype(np.float32)),
        initializer(graph, f"{name}_offsets", layer.bias.astype(np.float32)),
    ]
    attributes = {"kernel_shape": (1, 1)}
    value = insert(graph, place, "Conv", inputs, attributes, name=f"{name}{LINEAR_CONV}", shape=(1, out, 1, rows))
    last = (1, 1, rows, out)
    value = insert(graph, place, "Transpose", [value], {"perm": TO_LAST}, name=f"{name}_last", shape=last)
    target = initializer(graph, f"{name}_shape", np.array((*(sizes(layer.input) or ())[:-1], out), np.int64))
    replace(graph, output, "Reshape", [value, target])
