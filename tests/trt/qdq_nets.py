"""Small graphs with Q/DQ pairs by hand: a right one, and whatever a test makes wrong in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)


class Net:
    """Nodes and constants of a graph while it is made; every value is named by what makes it."""

    def __init__(self, shape: tuple[int | str, ...] = (1, 3, 8, 8), opset: int = 17) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shape, self.opset = shape, opset

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name, domain=domain, **attributes))
        return f"{name}_out"

    def pair(self, value: str, scale: Any = 0.1, zero: int = 0, kind: type = np.int8, axis: int | None = None) -> str:
        """`value` through a QuantizeLinear and a DequantizeLinear."""
        scales = np.asarray(scale, np.float32)
        constants = self.constant(scales), self.constant(np.full(scales.shape, zero, kind))
        attributes = {} if axis is None else {"axis": axis}
        quantized = self.op("QuantizeLinear", value, *constants, **attributes)
        return self.op("DequantizeLinear", quantized, *constants, **attributes)

    def weight(self, *shape: int, axis: int = 0) -> str:
        """Random weights with a pair of their own, per channel along `axis`."""
        array = RNG.normal(size=shape).astype(np.float32)
        others = tuple(index for index in range(len(shape)) if index != axis)
        return self.pair(self.constant(array), np.abs(array).max(axis=others) / 127, axis=axis)

    def conv(self, value: str, outputs: int = 4, inputs: int = 3) -> str:
        """A right INT8 convolution, 3x3 with padding, with a float bias."""
        bias = self.constant(np.zeros(outputs, np.float32))
        return self.op("Conv", self.pair(value), self.weight(outputs, inputs, 3, 3), bias, pads=[1, 1, 1, 1])

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        domains = [helper.make_opsetid("", self.opset)]
        if any(node.domain for node in self.nodes):
            domains.append(helper.make_opsetid("com.microsoft", 1))
        return helper.make_model(graph, opset_imports=domains, ir_version=8)


def residual_net() -> onnx.ModelProto:
    """conv, Relu, conv, + skip, Relu, pooling, linear: all as TensorRT wants it."""
    net = Net()
    stem = net.op("Relu", net.conv("input"))
    branch = net.conv(stem, 4, 4)
    summed = net.op("Relu", net.op("Add", branch, net.pair(stem)))
    pooled = net.op("Flatten", net.op("GlobalAveragePool", summed))
    return net.model(net.op("MatMul", net.pair(pooled), net.weight(4, 10, axis=1)))
