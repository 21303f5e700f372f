"""Scales: whether each QuantizeLinear and DequantizeLinear is of the kind that TensorRT computes with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.quantize.wiring import Wiring, attribute
from edgevit.tensorrt.rules import RULES, Violation

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
ONNX_DEFAULT_AXIS = 1


def check_scales(model: onnx.ModelProto, wiring: Wiring) -> list[Violation]:
    """Broken rules of single Q and DQ nodes: zero points, types, scales, axes."""
    found: list[Violation] = []
    for node in model.graph.node:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            if _is_bias(node, wiring):
                found.append(Violation(RULES["bias"], node.name, "dequantizes INT32"))
            else:
                found += _check_type(node, wiring)
                found += _check_scale(node, wiring)
    return found


def weight_behind(name: str, wiring: Wiring) -> NDArray[np.generic] | None:
    """The constant that a value is, or that it was quantized and dequantized from; None for an activation."""
    while (maker := wiring.makers.get(name)) is not None and maker.op_type in (QUANTIZE, DEQUANTIZE):
        name = maker.input[0]
    return wiring.constant(name)


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of output channels in the weights that `node` reads as input 1. rank: of the weights."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1


def _is_bias(node: onnx.NodeProto, wiring: Wiring) -> bool:
    constant = wiring.constant(node.input[0])
    return node.op_type == DEQUANTIZE and constant is not None and constant.dtype == np.int32


def _check_type(node: onnx.NodeProto, wiring: Wiring) -> Iterator[Violation]:
    zero_point = wiring.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if zero_point is None:
        # ONNX takes a missing zero point for uint8's, and a DQ takes the type of its input.
        stored = wiring.constant(node.input[0])
        if node.op_type == QUANTIZE or (stored is not None and stored.dtype != np.int8):
            yield Violation(RULES["signed"], node.name, "has no zero point, which stands for uint8")
        return
    if zero_point.dtype != np.int8:
        yield Violation(RULES["signed"], node.name, f"is {zero_point.dtype}")
    if np.any(zero_point != 0):
        yield Violation(RULES["zero-point"], node.name, f"has zero point {int(np.ravel(zero_point)[0])}")


def _check_scale(node: onnx.NodeProto, wiring: Wiring) -> Iterator[Violation]:
    scale = wiring.constant(node.input[1])
    if scale is None:
        yield Violation(RULES["scale"], node.name, f"reads its scale from '{node.input[1]}', which is computed")
        return
    values = scale.astype(np.float64)
    if values.size == 0 or not np.all(np.isfinite(values) & (values > 0)):
        worst = float(values.min()) if values.size else float("nan")
        yield Violation(RULES["scale"], node.name, f"has a scale of {worst:g}")
    weight = weight_behind(node.input[0], wiring)
    if weight is None:
        if scale.size > 1:
            yield Violation(RULES["per-tensor"], node.name, f"quantizes an activation with {scale.size} scales")
        return
    for reader in _weighted_readers(node, wiring):
        yield from _check_weight(node, reader, weight, scale)


def _check_weight(
    node: onnx.NodeProto, reader: onnx.NodeProto, weight: NDArray[np.generic], scale: NDArray[np.generic]
) -> Iterator[Violation]:
    axis = channel_axis(reader, weight.ndim)
    channels = weight.shape[axis]
    if scale.size == 1 < channels:
        yield Violation(RULES["per-channel"], node.name, f"has one scale for {channels} channels of '{reader.name}'")
        return
    given = attribute(node, "axis", ONNX_DEFAULT_AXIS) % weight.ndim
    if scale.size > 1 and (given != axis or scale.size != channels):
        detail = (
            f"has {scale.size} scales along axis {given} of a weight {weight.shape}, whose channels are axis {axis}"
        )
        yield Violation(RULES["channel-axis"], node.name, detail)


def _weighted_readers(node: onnx.NodeProto, wiring: Wiring) -> Iterator[onnx.NodeProto]:
    """The operators that read what this node hands on as their weights."""
    for reader in wiring.readers.get(node.output[0], []):
        if reader.op_type == DEQUANTIZE:
            yield from _weighted_readers(reader, wiring)
        elif reader.op_type in ("Conv", "Gemm", "MatMul") and reader.input[1] == node.output[0]:
            yield reader
