"""Identity convolutions: what a depthwise convolution's input adds to its output is one more weight in the middle."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import initializer, only_reader, replace, rewritten, sizes
from edgevit.rewrite.linear import Linear, linear_of


def fold_identity(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each x + depthwise(x) as one depthwise Conv. Exact but for rounding.

    Its kernel is odd, its stride 1, and it pads alike on both sides. EfficientViT has such a sum before and after each
    attention; in INT8 it costs a requantization of the whole tensor.
    """
    return rewritten(model, _fold_all)


def _fold_all(graph: ir.Graph) -> bool:
    count = sum(_fold(graph, node) for node in list(graph) if node.op_type == "Conv")
    return count > 0


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    layer = linear_of(node)
    total = only_reader(node.outputs[0])
    if layer is None or total is None or total.op_type != "Add" or not _is_centered_depthwise(layer):
        return False
    if sorted(map(id, total.inputs)) != sorted(map(id, (layer.input, layer.output))) or layer.input is layer.output:
        return False
    weights = layer.weights.copy()
    weights[(slice(None), 0, *(size // 2 for size in weights.shape[2:]))] += 1.0
    inputs = [layer.input, initializer(graph, f"{layer.output.name}_weights", weights.astype(np.float32))]
    if layer.bias.any():
        inputs.append(initializer(graph, f"{layer.output.name}_bias", layer.bias.astype(np.float32)))
    attributes = {key: attribute.value for key, attribute in node.attributes.items()}
    replace(graph, total.outputs[0], "Conv", inputs, attributes)
    return True


def _is_centered_depthwise(layer: Linear) -> bool:
    """Whether output (c, i, j) sees input (c, i, j) by the middle of its kernel."""
    attributes, kernel = layer.node.attributes, layer.weights.shape[2:]
    dilations = tuple(attributes.get_ints("dilations") or (1 for _ in kernel))
    reach = [dilation * (size // 2) for dilation, size in zip(dilations, kernel, strict=True)]
    shape = sizes(layer.output)
    return (
        attributes.get_int("group", 1) == layer.channels
        and layer.weights.shape[1] == 1
        and all(size % 2 for size in kernel)
        and set(attributes.get_ints("strides") or (1,)) == {1}
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and list(attributes.get_ints("pads") or [0] * 2 * len(kernel)) == [*reach, *reach]
        and shape is not None
        and sizes(layer.input) == shape
    )
