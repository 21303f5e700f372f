"""Which nodes INT8 is offered to; a policy decides among them. LayerNorm, Softmax and GELU always stay in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from edgevit.policy import ConvKind, Kind

LINEAR = ("MatMul", "Gemm")
PATCH_EMBEDDING_CONVS = 4
PICTURE_CHANNELS = 4
# A Clip (ReLU6) in float between two INT8 convolutions keeps ONNX Runtime from joining them: EfficientNet-lite0 5.9 ms,
# with INT8 ones 3.9 ms.
PASSING = ("Clip", "Concat", "Relu", "Split")
# Of ONNX and of ONNX Runtime, by how their names begin.
INT8_OPERATORS = (
    "ConvInteger", "DequantizeLinear", "DynamicQuantize", "MatMulInteger", "QGemm", "QLinear", "QuantizeLinear",
)  # fmt: skip


@dataclass(frozen=True)
class QuantizableNodes:
    """Names of nodes. `linear` and `conv` have constant weights; `silu` are the Sigmoid and Mul of x·sigmoid(x);
    `attention` are products of two activations, `residual` their sums, `passing` what hands activations on: Split,
    Concat, Relu, Clip. conv_kinds: of each of `conv`.
    """

    linear: tuple[str, ...]
    conv: tuple[str, ...]
    silu: tuple[str, ...]
    attention: tuple[str, ...]
    residual: tuple[str, ...]
    passing: tuple[str, ...]
    conv_kinds: Mapping[str, ConvKind]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.linear, *self.conv, *self.silu, *self.attention, *self.residual, *self.passing)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether something in the graph is in INT8 already."""
    return any(node.op_type.startswith(INT8_OPERATORS) for node in model.graph.node)


def quantizable_nodes(model: onnx.ModelProto) -> QuantizableNodes:
    """What INT8 can be done to; a policy says to which of them it is.

    Products of attention gain only where their sums become float directly (see quantize_static): DeiT-Ti 12.3 ms with
    them in INT8, 12.8 ms without; by way of 8 bits 17.9 and 15.8 (one thread, AVX-512 VNNI, ONNX Runtime 1.31).
    """
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    weighted = [node for node in model.graph.node if len(node.input) > 1 and node.input[1] in constants]
    even_sums = _even_sums(model)
    convs = [node for node in weighted if node.op_type == "Conv"]
    return QuantizableNodes(
        linear=tuple(node.name for node in weighted if node.op_type in LINEAR),
        conv=tuple(node.name for node in convs),
        silu=tuple(node.name for pair in silu_pairs(model) for node in pair),
        attention=_of_activations(model, "MatMul", constants),
        residual=tuple(name for name in _of_activations(model, "Add", constants) if name in even_sums),
        passing=tuple(node.name for node in model.graph.node if node.op_type in PASSING and node.domain == ""),
        conv_kinds={node.name: _conv_kind(node, constants[node.input[1]]) for node in convs},
    )


def _of_activations(model: onnx.ModelProto, kind: str, constants: Mapping[str, object]) -> tuple[str, ...]:
    found = (node for node in model.graph.node if node.op_type == kind and node.domain == "")
    return tuple(node.name for node in found if not constants.keys() & set(node.input))


def _even_sums(model: onnx.ModelProto) -> frozenset[str]:
    """Adds of two tensors of one known shape: residual sums, not what is added to attention's scores."""
    shapes = {info.name: info.type.tensor_type.shape.SerializeToString() for info in model.graph.value_info}
    sums = (
        (node.name, [shapes.get(name) for name in node.input]) for node in model.graph.node if node.op_type == "Add"
    )
    return frozenset(name for name, (left, right) in sums if left == right is not None)


def _conv_kind(node: onnx.NodeProto, weight_shape: tuple[int, ...]) -> ConvKind:
    """weight_shape: (O, I/groups, kH, kW). Every grouped convolution counts as depthwise: its kernels are alike.

    A stem reads the picture: with so few channels INT8 fills no vector.
    """
    if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute):
        return "depthwise"
    if weight_shape[1] <= PICTURE_CHANNELS:
        return "stem"
    return "pointwise" if all(size == 1 for size in weight_shape[2:]) else "dense"


def silu_pairs(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """(Sigmoid, Mul) of each x·sigmoid(x)."""
    sigmoids = {node.output[0]: node for node in model.graph.node if node.op_type == "Sigmoid"}
    products = (node for node in model.graph.node if node.op_type == "Mul")
    return [
        (sigmoids[gate], product)
        for product in products
        for gate, signal in (product.input, reversed(product.input))
        if gate in sigmoids and sigmoids[gate].input[0] == signal
    ]


def model_kind(model: onnx.ModelProto) -> Kind:
    """What the graph mostly is. A transformer's only convolutions embed its patches."""
    types = [node.op_type for node in model.graph.node]
    if types.count("Softmax") + types.count("LayerNormalization") == 0:
        return "cnn"
    return "transformer" if types.count("Conv") <= PATCH_EMBEDDING_CONVS else "hybrid"
