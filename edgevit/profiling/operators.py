"""Operators: what each kind of node does, how many multiply-accumulates it makes, and where the time went."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from edgevit.profiling.document import Arithmetic, NodeTime, OperatorRow, Peak, TensorType
from edgevit.profiling.trace import NodeTiming

# Index of the input that a layer's weights are.
MATRIX_PRODUCTS = {
    "MatMul": 1, "FusedMatMul": 1, "TransposeMatMul": 1, "Gemm": 1, "FusedGemm": 1, "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1, "MatMulNBits": 1, "QLinearMatMul": 3, "QGemm": 3,
}  # fmt: skip
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
# They take float pictures or tokens, and multiply in 8 bits all the same.
QUANTIZES_ITSELF = frozenset({"DynamicQuantizeMatMul"})
INT8_TYPES = frozenset({"int8", "uint8"})

LINEAR, ATTENTION, CONVOLUTION = "linear layers", "attention products", "convolutions"
CONVERSIONS, LAYOUT, OTHER = "quantize, dequantize, cast", "layout", "other"
OPERATORS_OF_PART = {
    CONVERSIONS: "Cast DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
    LAYOUT: (
        "Concat Expand Flatten Gather Identity Pad QLinearConcat ReorderInput ReorderOutput Reshape Shape Slice Split "
        "Squeeze Tile Transpose Unsqueeze"
    ),
    "normalization": (
        "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization SimplifiedLayerNormalization "
        "SkipLayerNormalization"
    ),
    "softmax": "QLinearSoftmax Softmax",
    "activations": (
        "BiasGelu Clip Elu Erf FastGelu Gelu HardSigmoid HardSwish LeakyRelu QLinearLeakyRelu QLinearSigmoid QuickGelu "
        "Relu Sigmoid Silu Tanh"
    ),
    "elementwise": "Add Div Exp Mul Neg Pow QLinearAdd QLinearMul Reciprocal Sqrt Sub Sum Where",
    "pooling and means": (
        "AveragePool GlobalAveragePool GlobalMaxPool MaxPool QLinearAveragePool QLinearGlobalAveragePool "
        "QLinearReduceMean ReduceMax ReduceMean ReduceSum"
    ),
}
PART_OF_OPERATOR = {operator: part for part, operators in OPERATORS_OF_PART.items() for operator in operators.split()}
ONE_LINE = (CONVERSIONS, LAYOUT)


def weight_index(op_type: str) -> int | None:
    """Which input is the weights of a product or convolution; None for other operators."""
    return {**MATRIX_PRODUCTS, **CONVOLUTIONS}.get(op_type)


def part_of(op_type: str, has_weights: bool) -> str:
    """What a node is for. A product of two activations is attention's: queries by keys, or chances by values."""
    if op_type in CONVOLUTIONS:
        return CONVOLUTION
    if op_type in MATRIX_PRODUCTS:
        return LINEAR if has_weights else ATTENTION
    return PART_OF_OPERATOR.get(op_type, OTHER)


def arithmetic_of(op_type: str, inputs: Sequence[TensorType]) -> Arithmetic:
    is_int8 = op_type in QUANTIZES_ITSELF or (bool(inputs) and inputs[0].dtype in INT8_TYPES)
    return "int8" if is_int8 else "float"


def count_macs(
    op_type: str,
    inputs: Sequence[TensorType],
    outputs: Sequence[TensorType],
    *,
    weight_shape: Sequence[int] | None,
    is_first_transposed: bool,
) -> int | None:
    """Multiply-accumulates of one execution; None for an operator without, or whose shapes are not known.

    A matrix product makes (values of the output) x K, where K is the last axis of its first input, or the one before
    when that is read transposed. A convolution makes (values of the output) x (channels of a group) x (kernel area);
    weight_shape: (C_out, C_in / groups, kernel...). Channels with which a blocked layout is filled up count: they are
    computed.
    """
    if not inputs or not outputs:
        return None
    values = math.prod(outputs[0].shape)
    if op_type in MATRIX_PRODUCTS and inputs[0].shape:
        is_matrix = len(inputs[0].shape) > 1
        return values * inputs[0].shape[-2 if is_first_transposed and is_matrix else -1]
    if op_type in CONVOLUTIONS and weight_shape is not None:
        return values * math.prod(weight_shape[1:])
    return None


def operator_rows(nodes: Sequence[NodeTime], peak: Peak) -> tuple[OperatorRow, ...]:
    """Nodes of one operator, arithmetic and part together, most time first; conversions and layout are a line each."""
    rows: dict[Hashable, list[NodeTime]] = defaultdict(list)
    for node in nodes:
        rows[node.part if node.part in ONE_LINE else (node.op_type, node.part, node.arithmetic)].append(node)
    total_ms = total(nodes)
    return tuple(sorted((_row(row, total_ms, peak) for row in rows.values()), key=lambda row: -row.ms))


def float_weights(nodes: Sequence[NodeTime]) -> tuple[NodeTime, ...]:
    """Layers that multiply by their weights in float beside others that do so in INT8, most time first."""
    layers = [node for node in nodes if node.has_weights]
    if all(node.arithmetic == "float" for node in layers):
        return ()
    return tuple(sorted((node for node in layers if node.arithmetic == "float"), key=lambda node: -node.median_ms))


def total(nodes: Iterable[NodeTime | NodeTiming]) -> float:
    """Milliseconds."""
    return math.fsum(node.median_ms for node in nodes)


def percent_of(part: float, whole: float) -> float:
    """0 of nothing is 0."""
    return 100 * part / whole if whole > 0 else 0.0


def _row(nodes: Sequence[NodeTime], total_ms: float, peak: Peak) -> OperatorRow:
    first, ms = nodes[0], total(nodes)
    is_one_line = first.part in ONE_LINE
    macs = sum(node.macs for node in nodes if node.macs is not None) or None
    gmac_per_s = macs / ms / 1e6 if macs and ms > 0 else None
    reachable = peak.int8_gmac_per_s if first.arithmetic == "int8" else peak.fp32_gmac_per_s
    return OperatorRow(
        operator=first.part if is_one_line else first.op_type,
        part=first.part,
        arithmetic=None if is_one_line else first.arithmetic,
        nodes=len(nodes),
        ms=ms,
        share=percent_of(ms, total_ms),
        macs=macs,
        gmac_per_s=gmac_per_s,
        share_of_peak=None if gmac_per_s is None else percent_of(gmac_per_s, reachable),
    )
