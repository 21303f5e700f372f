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
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output)}
    source = graph.input[0].name
    nodes = list(_rounding(source, f"{source}_rounded"))
    for node in graph.node:
        node.input[:] = [f"{name}_rounded" if name == source else name for name in node.input]
        nodes.append(node)
        for index, name in enumerate(node.output):
            if kinds.get(name) == TensorProto.FLOAT and NORM_PART not in node.name:
                node.output[index] = f"{name}_exact"
                nodes += _rounding(f"{name}_exact", name)
    graph.ClearField("node")
    graph.node.extend(nodes)
    return half


def float32_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the parts of layer norms that were written out: squares of activations leave float16's range."""
    return tuple(node.name for node in model.graph.node if NORM_PART in node.name)


def _rounding(exact: str, rounded: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Two Casts that make the value `rounded` of `exact`."""
    return (
        helper.make_node("Cast", [exact], [f"{rounded}_float16"], f"{rounded}_to_float16", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{rounded}_float16"], [rounded], f"{rounded}_to_float32", to=TensorProto.FLOAT),
    )
