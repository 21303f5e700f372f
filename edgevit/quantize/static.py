"""Static INT8: activations quantized with ranges learned beforehand, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType, TensorsData

from edgevit.device import QuantizationPreset
from edgevit.errors import EdgevitError

TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}


def quantize_static(
    model: onnx.ModelProto,
    nodes: Sequence[str],
    ranges: TensorsData,
    preset: QuantizationPreset,
    float_outputs: Sequence[str] = (),
) -> onnx.ModelProto:
    """A copy of `model` whose `nodes` run in INT8 between Q/DQ pairs; all others stay in float.

    ranges: of the tensors that these nodes touch (see calibration). Biases become INT32. float_outputs: types of
    operators whose 32-bit sums become float directly, not by way of 8 bits: nearer to fp32, and cheaper where float is
    wanted next.
    Raises EdgevitError when ONNX Runtime's quantizer fails.
    """
    wanted = set(nodes)
    quantizer = QDQQuantizer(
        _copy(model),
        per_channel=preset.per_channel,
        reduce_range=preset.reduce_range,
        weight_qType=TYPES[preset.weight],
        activation_qType=TYPES[preset.activation],
        tensors_range=ranges,
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({node.op_type for node in model.graph.node if node.name in wanted}),
        extra_options={
            "ActivationSymmetric": preset.symmetric,
            "WeightSymmetric": preset.weight == "int8",
            "OpTypesToExcludeOutputQuantization": list(float_outputs),
        },
    )
    try:
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    except Exception as error:  # the quantizer has no exceptions of its own
        raise EdgevitError(f"ONNX Runtime cannot quantize this model: {type(error).__name__} {error}") from error
    return quantizer.model.model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    return duplicate
