"""Graph: the operators of an ONNX graph as a runtime runs it."""

from __future__ import annotations

import math

import onnx

from edgevit.cost.work import VIEWS, Tensors
from edgevit.latency.operators import Kind, Operator, Precision, merged
from edgevit.profiling.document import TensorType
from edgevit.profiling.operators import (
    ATTENTION,
    CONVERSIONS,
    CONVOLUTIONS,
    LAYOUT,
    arithmetic_of,
    count_macs,
    part_of,
    weight_index,
)

NONLINEAR = frozenset(
    {
        "Erf", "Exp", "Gelu", "FastGelu", "QuickGelu", "BiasGelu", "Sigmoid", "HardSwish", "HardSigmoid", "Silu",
        "Tanh", "Softmax", "QLinearSoftmax", "QLinearSigmoid", "LayerNormalization", "SkipLayerNormalization",
        "InstanceNormalization", "GroupNormalization", "SimplifiedLayerNormalization", "Sqrt", "Reciprocal", "Pow",
    }
)  # fmt: skip
DTYPES = {"f32": "float", "f16": "float16", "u8": "uint8", "s8": "int8"}


def operators_of(model: onnx.ModelProto) -> tuple[Operator, ...]:
    """The operators of a graph as a runtime runs it, with shapes in value_info (see cost.armgraph); nodes alike in one.

    Nodes that only rename a tensor are left out: they do nothing.
    """
    tensors = Tensors(model)
    nodes = (node for node in model.graph.node if node.op_type not in VIEWS and node.output)
    return merged(_operator(node, tensors) for node in nodes)


def _operator(node: onnx.NodeProto, tensors: Tensors) -> Operator:
    index = weight_index(node.op_type)
    inputs = [_tensor(name, tensors) for name in node.input if name]
    outputs = [_tensor(name, tensors) for name in node.output if name]
    is_constant = index is not None and node.input[index] in tensors.constants
    shape = tensors.shape(node.input[index]) if index is not None else ()
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    macs = count_macs(
        node.op_type, inputs, outputs, weight_shape=shape, is_first_transposed=bool(attributes.get("transA", 0))
    )
    kind = _kind(node, is_constant, shape, attributes)
    return Operator(
        kind=kind,
        precision=_precision(node, inputs),
        macs=macs or 0,
        weights=math.prod(shape) if is_constant else 0,
        activations=tensors.elements([*node.input, *node.output]),
    )


def _kind(node: onnx.NodeProto, has_weights: bool, weights: tuple[int, ...], attributes: dict[str, object]) -> Kind:
    if node.op_type in CONVOLUTIONS:
        return _convolution(weights, attributes)
    part = part_of(node.op_type, has_weights)
    if part == ATTENTION:
        return "attention"
    if weight_index(node.op_type) is not None:
        return "linear"
    if node.op_type in NONLINEAR:
        return "nonlinear"
    return "layout" if part in (LAYOUT, CONVERSIONS) else "elementwise"


def _convolution(weights: tuple[int, ...], attributes: dict[str, object]) -> Kind:
    """weights: (C_out, C_in / groups, kernel...). Winograd's algorithm serves 3x3 without stride, a kind of its own."""
    group = attributes.get("group", 1)
    strides, dilations = attributes.get("strides", [1]), attributes.get("dilations", [1])
    if group != 1:
        return "depthwise" if weights[1] == 1 else "grouped"
    if math.prod(weights[2:]) == 1:
        return "pointwise"
    is_plain = set(strides) | set(dilations) == {1}  # type: ignore[call-overload]
    return "dense 3x3" if is_plain and weights[2:] == (3, 3) else "dense"


def _precision(node: onnx.NodeProto, inputs: list[TensorType]) -> Precision:
    if arithmetic_of(node.op_type, inputs) == "int8":
        return "int8"
    return "fp16" if inputs and inputs[0].dtype == "float16" else "fp32"


def _tensor(name: str, tensors: Tensors) -> TensorType:
    return TensorType(dtype=DTYPES.get(tensors.type(name), "other"), shape=tensors.shape(name))
