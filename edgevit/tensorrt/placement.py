"""Placement: whether Q/DQ pairs stand where TensorRT can fuse them with the operators around."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgevit.quantize.explicit import is_dequantized, skip_input
from edgevit.quantize.wiring import Wiring
from edgevit.tensorrt.rules import RULES, Violation
from edgevit.tensorrt.scales import DEQUANTIZE, QUANTIZE, weight_behind

WEIGHTED = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Clip", "Elu", "Erf", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Sigmoid", "Tanh")
NORMALIZATIONS = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "Softmax")
BIAS_INPUT = 2


def check_placement(model: onnx.ModelProto, wiring: Wiring) -> list[Violation]:
    """Broken rules between Q/DQ nodes and their neighbours."""
    found: list[Violation] = []
    for node in model.graph.node:
        if node.op_type == QUANTIZE:
            found += _check_quantize(node, wiring)
        elif node.op_type == DEQUANTIZE:
            found += _check_dequantize(node, wiring)
        elif node.op_type in WEIGHTED:
            found += _check_weighted(node, wiring)
        elif node.op_type == "Add":
            found += _check_sum(node, wiring)
        elif node.op_type in NORMALIZATIONS and is_dequantized(node.input[0], wiring):
            found.append(Violation(RULES["normalization"], node.name, f"is a {node.op_type} that reads INT8"))
    return found


def _check_quantize(node: onnx.NodeProto, wiring: Wiring) -> Iterator[Violation]:
    readers = wiring.readers.get(node.output[0], [])
    stray = next((reader for reader in readers if reader.op_type != DEQUANTIZE), None)
    if stray is not None or not readers or node.output[0] in wiring.outputs:
        after = f"is read by the {stray.op_type} '{stray.name}'" if stray is not None else "has no DequantizeLinear"
        yield Violation(RULES["pair"], node.name, after)
    maker = wiring.makers.get(node.input[0])
    if maker is None or maker.op_type not in WEIGHTED:
        return
    for pair in readers:
        for reader in wiring.readers.get(pair.output[0], []):
            if reader.op_type in ACTIVATIONS:
                yield Violation(RULES["fusion"], node.name, f"parts '{maker.name}' from the {reader.op_type} after it")


def _check_dequantize(node: onnx.NodeProto, wiring: Wiring) -> Iterator[Violation]:
    maker = wiring.makers.get(node.input[0])
    if wiring.constant(node.input[0]) is None and (maker is None or maker.op_type != QUANTIZE):
        yield Violation(RULES["pair"], node.name, "follows no QuantizeLinear")
    readers = wiring.readers.get(node.output[0], [])
    if len(readers) > 1:
        names = " and ".join(f"'{reader.name}'" for reader in readers[:2])
        yield Violation(RULES["dedicated-pair"], node.name, f"is read {len(readers)} times, by {names}")


def _check_weighted(node: onnx.NodeProto, wiring: Wiring) -> Iterator[Violation]:
    quantized = [is_dequantized(name, wiring) for name in node.input[:2]]
    if any(quantized) and not all(quantized):
        names = node.input[quantized.index(True)], node.input[quantized.index(False)]
        yield Violation(RULES["weighted-inputs"], node.name, f"reads '{names[0]}' in INT8 and '{names[1]}' in float")
    if len(node.input) > BIAS_INPUT and node.input[BIAS_INPUT] and is_dequantized(node.input[BIAS_INPUT], wiring):
        maker = wiring.makers[node.input[BIAS_INPUT]]
        stored = wiring.constant(maker.input[0])
        if stored is None or stored.dtype.name != "int32":  # INT32 is told of at its DequantizeLinear
            yield Violation(RULES["bias"], node.name, "has a quantized bias")


def _check_sum(node: onnx.NodeProto, wiring: Wiring) -> Iterator[Violation]:
    if any(weight_behind(name, wiring) is not None for name in node.input):
        return
    quantized = [is_dequantized(name, wiring) for name in node.input]
    if any(quantized) and not all(quantized) and not _is_int8_weighted(node.input[quantized.index(False)], wiring):
        plain = node.input[quantized.index(False)]
        yield Violation(RULES["residual"], node.name, f"adds INT8 to '{plain}', which is float")
    skip = skip_input(node, wiring)
    if skip is not None and not any(quantized):
        yield Violation(RULES["residual-skip"], node.name, f"adds '{node.input[skip]}' in float")


def _is_int8_weighted(name: str, wiring: Wiring) -> bool:
    """Whether an INT8 operator makes the value, or the sum of one with its bias."""
    maker = wiring.makers.get(name)
    if maker is not None and maker.op_type == "Add":
        inner = [each for each in maker.input if wiring.constant(each) is None]
        maker = wiring.makers.get(inner[0]) if len(inner) == 1 else None
    return maker is not None and maker.op_type in WEIGHTED and is_dequantized(maker.input[0], wiring)
