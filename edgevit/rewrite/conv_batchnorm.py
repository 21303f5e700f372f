"""Batch norms in the weights of their neighbours: of the layer before, else of the convolutions after.

In inference a batch norm is y = x · gain + offset per channel, with gain = γ / √(σ² + ε) and offset = β - μ · gain.
The exporter's simplifier folds most of them into a convolution before; this finds what is left.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import bypass, constant, only_reader, rewritten, sizes
from edgevit.rewrite.linear import Array, Linear, absorb_inputs, linear_into, linear_of, scale_outputs

EPSILON = 1e-5  # the operator's default


def fold_batchnorm(model: onnx.ModelProto) -> onnx.ModelProto:
    """BatchNormalization after Conv, ConvTranspose, Gemm or a MatMul of rows, and before layers that do not pad.

    A padded Conv after it keeps it: the zeros of its border are not normalized. Exact but for rounding.
    """
    return rewritten(model, _fold_all)


def _fold_all(graph: ir.Graph) -> bool:
    norms = [node for node in graph if node.op_type == "BatchNormalization" and len(node.outputs) == 1]
    count = sum(_fold(graph, node) for node in norms)
    return count > 0


def _fold(graph: ir.Graph, norm: ir.Node) -> bool:
    source, output = norm.inputs[0], norm.outputs[0]
    affine = _affine(norm)
    if source is None or affine is None or output.is_graph_output():
        return False
    gain, offset = affine
    before = linear_into(source)
    if before is not None and only_reader(source) is norm and _has_channels_second(before):
        scale_outputs(graph, before, gain, offset)
    else:
        after = [linear_of(node) for node in output.consumers()]
        if not all(layer is not None and _takes(layer, output) for layer in after):
            return False
        for layer in after:
            assert layer is not None
            absorb_inputs(graph, layer, gain, offset)
    source = norm.inputs[0]  # by now the output of a bias's Add, where the layer had none
    assert source is not None
    bypass(graph, output, source)
    return True


def _affine(norm: ir.Node) -> tuple[Array, Array] | None:
    """(gain, offset) per channel."""
    arrays = [constant(value) for value in norm.inputs[1:]]
    if len(arrays) != 4 or any(array is None for array in arrays):
        return None
    scale, bias, mean, variance = (array.astype(np.float64) for array in arrays if array is not None)
    gain = scale / np.sqrt(variance + norm.attributes.get_float("epsilon", EPSILON))
    return gain, bias - mean * gain


def _has_channels_second(layer: Linear) -> bool:
    """Whether axis 1, which a batch norm normalizes, is the layer's output channels."""
    return layer.node.op_type != "MatMul" or len(sizes(layer.output) or ()) == 2


def _takes(layer: Linear, value: ir.Value) -> bool:
    """Whether the layer reads the value as its input, in channels of axis 1, and sees nothing else."""
    if layer.input is not value or layer.node.op_type == "ConvTranspose":
        return False
    if layer.node.op_type == "Conv":
        is_explicit = layer.node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        return is_explicit and not any(layer.node.attributes.get_ints("pads") or ())
    return _has_channels_second(layer)
