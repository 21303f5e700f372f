"""Explicit INT8: Q/DQ pairs as TensorRT wants them, symmetric and signed, around weighted operators alone.

Weights stay float constants with a pair of their own, per output channel: INT8 constants before a DequantizeLinear are
imported by some of its versions only. Biases and the outputs of weighted operators stay in float, so that activations
and sums are fused with them.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
and ONNX Runtime's onnxruntime-inference-examples, quantization/nlp/bert/trt, for the quantizer's options.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QDQQuantizer, QuantType, TensorsData

from edgevit.errors import EdgevitError
from edgevit.quantize.calibration import SMALLEST_SCALE
from edgevit.quantize.wiring import Wiring, copy_of

INT8_MAX = 127
DEQUANTIZE = "DequantizeLinear"


def quantize_explicit(model: onnx.ModelProto, nodes: Sequence[str], ranges: TensorsData) -> onnx.ModelProto:
    """A copy of `model` whose `nodes` (Conv, Gemm, MatMul) compute in INT8, and what is added to INT8 convolutions.

    ranges: of the tensors that these nodes and the model's sums touch (see calibration).
    Raises EdgevitError when ONNX Runtime's quantizer fails.
    """
    wanted = set(nodes)
    kinds = sorted({node.op_type for node in model.graph.node if node.name in wanted})
    quantizer = QDQQuantizer(
        copy_of(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=kinds,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": kinds,
        },
    )
    try:
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    except Exception as error:  # the quantizer has no exceptions of its own
        raise EdgevitError(f"ONNX Runtime cannot quantize this model: {type(error).__name__} {error}") from error
    return _with_skips(_alone(quantizer.model.model, wanted), ranges)


def skip_input(node: onnx.NodeProto, wiring: Wiring) -> int | None:
    """Which input of an Add is the skip connection past an INT8 convolution; None for any other sum.

    Of two convolutions the second counts as the skip, as in a residual network's shortcut.
    """
    if node.op_type != "Add" or any(wiring.constant(name) is not None for name in node.input):
        return None
    is_conv = [_is_int8_conv(name, wiring) for name in node.input]
    return 1 if is_conv[0] else 0 if is_conv[1] else None


def is_dequantized(name: str, wiring: Wiring) -> bool:
    """Whether a DequantizeLinear makes the value."""
    maker = wiring.makers.get(name)
    return maker is not None and maker.op_type == DEQUANTIZE


def _is_int8_conv(name: str, wiring: Wiring) -> bool:
    maker = wiring.makers.get(name)
    return maker is not None and maker.op_type == "Conv" and is_dequantized(maker.input[0], wiring)


def _alone(model: onnx.ModelProto, wanted: set[str]) -> onnx.ModelProto:
    """The same model in which only the `wanted` read dequantized values; edited in place.

    Where one of a value's readers is quantized, ONNX Runtime's quantizer gives the others the rounded value, too.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.name in wanted or node.op_type in ("QuantizeLinear", DEQUANTIZE):
            continue
        for index, name in enumerate(node.input):
            if name in makers and makers[name].op_type == DEQUANTIZE:
                quantize = makers[makers[name].input[0]]
                node.input[index] = quantize.input[0]
    return model


def _with_skips(model: onnx.ModelProto, ranges: TensorsData) -> onnx.ModelProto:
    """The same model with a Q/DQ pair on each skip connection past an INT8 convolution; edited in place."""
    wiring = Wiring(model.graph)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        skip = skip_input(node, wiring)
        # one without a range stays in float, and the rules of edgevit.tensorrt tell
        if (
            skip is not None
            and node.input[skip] in ranges
            and not any(is_dequantized(name, wiring) for name in node.input)
        ):
            nodes += _pair(model.graph, node, skip, ranges)
        nodes.append(node)
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return model


def _pair(graph: onnx.GraphProto, node: onnx.NodeProto, index: int, ranges: TensorsData) -> list[onnx.NodeProto]:
    """Q and DQ for input `index` of `node`, which then reads them."""
    source = node.input[index]
    stem = f"{source}_skip_of_{node.name}"
    data = ranges[source]
    largest = max(abs(float(data.lowest)), abs(float(data.highest)))
    scale = np.array(max(largest / INT8_MAX, SMALLEST_SCALE), np.float32)
    graph.initializer.append(numpy_helper.from_array(scale, f"{stem}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{stem}_zero_point"))
    constants = [f"{stem}_scale", f"{stem}_zero_point"]
    quantize = helper.make_node("QuantizeLinear", [source, *constants], [f"{stem}_int8"], f"{stem}_QuantizeLinear")
    dequantize = helper.make_node(DEQUANTIZE, [f"{stem}_int8", *constants], [f"{stem}_float"], f"{stem}_{DEQUANTIZE}")
    node.input[index] = f"{stem}_float"
    return [quantize, dequantize]
