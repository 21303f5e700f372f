"""Linear: a layer with constant weights, MatMul (+ Add), Gemm, Conv or ConvTranspose, as rewrites see and change it.

K are its output channels, C its input channels. New weights are computed in double precision and stored in float32;
they are new constants, because several layers may share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.rewrite.graph import constant, initializer, insert, only_reader, replace, sizes, with_constant

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """node: the product or convolution; add: the Add of its bias, of a MatMul only; output: what both compute."""

    node: ir.Node
    weights: Array
    bias: Array  # (K,), zeros where the layer has none
    add: ir.Node | None
    output: ir.Value

    @property
    def input(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def channels(self) -> int:
        """K"""
        return len(self.bias)

    @property
    def matrix(self) -> Array:
        """The weights of a MatMul or Gemm as (C, K)."""
        return self.weights.T if _is_transposed(self.node) else self.weights


def linear_of(node: ir.Node | None) -> Linear | None:
    """The layer whose product is `node`; None without constant weights, and for a Gemm that is more than that."""
    if node is None or node.domain != "" or len(node.inputs) < 2:
        return None
    weights = constant(node.inputs[1])
    if weights is None or weights.dtype != np.float32 or constant(node.inputs[0]) is not None:
        return None
    if node.op_type == "MatMul":
        return _product(node, weights) if weights.ndim == 2 else None
    if node.op_type == "Gemm":
        attributes = node.attributes
        is_plain = attributes.get_float("alpha", 1.0) == attributes.get_float("beta", 1.0) == 1.0
        channels = weights.shape[0 if _is_transposed(node) else 1]
        return _with_own_bias(node, weights, channels) if is_plain and not attributes.get_int("transA", 0) else None
    if node.op_type == "Conv":
        return _with_own_bias(node, weights, weights.shape[0])
    if node.op_type == "ConvTranspose":
        return _with_own_bias(node, weights, weights.shape[1] * node.attributes.get_int("group", 1))
    return None


def linear_into(value: ir.Value | None) -> Linear | None:
    """The layer whose output, bias included, is `value`."""
    node = value.producer() if value is not None else None
    if node is None:
        return None
    if node.op_type == "Add":
        operands = with_constant(node)
        node = operands[0].producer() if operands else None
    layer = linear_of(node)
    return layer if layer is not None and layer.output is value else None


def scale_outputs(graph: ir.Graph, layer: Linear, factor: Array, shift: Array) -> None:
    """The layer computes y · factor + shift from now on; factor, shift: (K,)."""
    _set_parameters(graph, layer, layer.weights * _along_outputs(layer, factor), layer.bias * factor + shift)


def absorb_inputs(graph: ir.Graph, layer: Linear, gain: Array, offset: Array) -> None:
    """The layer computes of x what it computed of x · gain + offset; gain, offset: (C,). A Conv must not pad."""
    if layer.node.op_type in ("MatMul", "Gemm"):
        matrix = layer.matrix * gain[:, None]
        weights = matrix.T if _is_transposed(layer.node) else matrix
        _set_parameters(graph, layer, weights, layer.bias + offset @ layer.matrix)
        return
    assert layer.node.op_type == "Conv"
    groups = layer.node.attributes.get_int("group", 1)
    parted = layer.weights.reshape(groups, -1, *layer.weights.shape[1:])  # (groups, K / groups, C / groups, kernel…)
    by_input = (groups, 1, layer.weights.shape[1], *(1 for _ in layer.weights.shape[2:]))
    shift = (parted * offset.reshape(by_input)).reshape(layer.channels, -1).sum(axis=1)
    _set_parameters(graph, layer, (parted * gain.reshape(by_input)).reshape(layer.weights.shape), layer.bias + shift)


def _product(node: ir.Node, weights: NDArray[Any]) -> Linear:
    output, channels = node.outputs[0], weights.shape[1]
    double = weights.astype(np.float64)
    add = only_reader(output)
    operands = with_constant(add) if add is not None and add.op_type == "Add" else None
    if add is None or operands is None or operands[1].size != channels or operands[1].shape[-1:] != (channels,):
        return Linear(node, double, np.zeros(channels), None, output)
    return Linear(node, double, operands[1].reshape(-1).astype(np.float64), add, add.outputs[0])


def _with_own_bias(node: ir.Node, weights: NDArray[Any], channels: int) -> Linear | None:
    bias: NDArray[Any] | None = np.zeros(channels)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = constant(node.inputs[2])
    if bias is None or bias.size != channels:
        return None
    return Linear(node, weights.astype(np.float64), bias.reshape(-1).astype(np.float64), None, node.outputs[0])


def _is_transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def _along_outputs(layer: Linear, factor: Array) -> Array:
    """(K,) shaped to be multiplied with the weights."""
    kind, shape = layer.node.op_type, layer.weights.shape
    if kind == "ConvTranspose":  # (C, K / groups, kernel…): group g's rows make group g's channels
        groups = layer.node.attributes.get_int("group", 1)
        rows = np.repeat(factor.reshape(groups, -1), shape[0] // groups, axis=0)
        return rows.reshape(*rows.shape, *(1 for _ in shape[2:]))
    if kind == "Conv" or _is_transposed(layer.node):
        return factor.reshape(-1, *(1 for _ in shape[1:]))
    return factor


def _set_parameters(graph: ir.Graph, layer: Linear, weights: Array, bias: Array) -> None:
    node, name = layer.node, layer.output.name
    node.replace_input_with(1, initializer(graph, f"{name}_weights", weights.astype(np.float32)))
    if not bias.any() and not layer.bias.any():
        return
    if layer.add is not None:
        side = 0 if constant(layer.add.inputs[0]) is not None else 1
        bias = bias.reshape(sizes(layer.add.inputs[side]) or (-1,))
        layer.add.replace_input_with(side, initializer(graph, f"{name}_bias", bias.astype(np.float32)))
        return
    value = initializer(graph, f"{name}_bias", bias.astype(np.float32))
    if node.op_type == "MatMul":
        product = insert(graph, node, "MatMul", node.inputs, name=f"{name}_product", shape=layer.output.shape)
        replace(graph, layer.output, "Add", [product, value])
    else:
        node.resize_inputs(3)
        node.replace_input_with(2, value)
