"""Half: a graph as float16 rounds it, to judge on a CPU what an fp16 engine would say."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevit.policy import NORM_PART
from edgevit.quantize.wiring import copy_of

# TensorRT 8.6 and later compute a normalization layer in fp32 by default; for 8.5 its parts are held there.
# Source: INormalizationLayer::setComputePrecision,
# https://docs.nvidia.com/deeplearning/tensorrt/api/c_api/classnvinfer1_1_1_i_normalization_layer.html


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights and activations are rounded to float16; sums are taken in float32, as tensor cores do.

    Between the parts of a layer norm nothing is rounded. What float16 cannot hold becomes infinite, as on the board.
    """
    half = onnx.shape_inference.infer_shapes(copy_of(model))
    graph = half.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                rounded = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.input)}
    nodes = [*_rounding(graph.input[0].name, graph)]
    for node in list(graph.node):
        nodes.append(node)
        if NORM_PART not in node.name:
            for name in node.output:
                if kinds.get(name) == TensorProto.FLOAT:
                    nodes += _rounding(name, graph)
    graph.ClearField("node")
    graph.node.extend(nodes)
    return half


def float32_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the parts of layer norms that were written out: squares of activations leave float16's range."""
    return tuple(node.name for node in model.graph.node if NORM_PART in node.name)


def _rounding(name: str, graph: onnx.GraphProto) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Two Casts of the value, whose other readers now read the second."""
    stored, rounded = f"{name}_float16", f"{name}_rounded"
    for node in graph.node:
        for index, source in enumerate(node.input):
            if source == name:
                node.input[index] = rounded
    return (
        helper.make_node("Cast", [name], [stored], f"{stored}_Cast", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [stored], [rounded], f"{rounded}_Cast", to=TensorProto.FLOAT),
    )
