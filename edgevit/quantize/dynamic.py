"""Dynamic INT8: linear layers quantize their input at run time; no calibration."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import onnx
from onnxruntime.quantization import QuantizationMode, QuantType
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

from edgevit.device import QuantizationPreset
from edgevit.errors import EdgevitError
from edgevit.quantize.nodes import LINEAR


def quantize_dynamic(model: onnx.ModelProto, nodes: Sequence[str], preset: QuantizationPreset) -> onnx.ModelProto:
    """A copy of `model` whose MatMul and Gemm `nodes` multiply in INT8.

    Never a Conv: ONNX Runtime's ConvInteger made MobileViT-S four times slower than float (246 ms against 61 ms,
    2 x86 cores with AVX2, ONNX Runtime 1.31). Weights are symmetric INT8, per channel where the preset says so;
    the input is UINT8, the only type that DynamicQuantizeLinear has.
    Raises EdgevitError when ONNX Runtime's quantizer fails.
    """
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    quantizer = ONNXQuantizer(
        duplicate,
        per_channel=preset.per_channel,
        reduce_range=preset.reduce_range,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],  # a Gemm becomes MatMul and Add first
        nodes_to_exclude=[],
        op_types_to_quantize=list(LINEAR),
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
    )
    try:
        with _without_root_warnings():
            quantizer.quantize_model()
            quantizer.model.topological_sort()
    except Exception as error:  # the quantizer has no exceptions of its own
        raise EdgevitError(f"ONNX Runtime cannot quantize this model: {type(error).__name__} {error}") from error
    return quantizer.model.model


@contextlib.contextmanager
def _without_root_warnings() -> Iterator[None]:
    """On the root logger the quantizer warns of doing it twice when a graph's convolutions are INT8 already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
