"""Wiring: who makes and who reads each value of a graph, and how to give one reader another constant."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class Wiring:
    """A graph, indexed once, whose constants may then be replaced; the nodes and edges stay as they are."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = {node.name: node for node in graph.node}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}
        self._ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in (*graph.value_info, *graph.input)}
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The array of an initializer; None for any other value."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def rank(self, name: str) -> int | None:
        """How many axes an activation has, where shape inference told."""
        return self._ranks.get(name)

    def inner_readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value, once for each input; none when it is also the graph's output."""
        return [] if name in self.outputs else self.readers.get(name, [])

    def replace_constant(self, node: onnx.NodeProto, index: int, array: NDArray[np.generic]) -> None:
        """Gives `node` alone another constant for its input `index`; the type stays.

        The exporter merges equal initializers: one that others read as well stays, and the node gets its own.
        """
        name = node.input[index]
        old = self._constants[name]
        array = array.astype(numpy_helper.to_array(old).dtype)
        if len(self.readers[name]) == 1 and name not in self.outputs:
            old.CopyFrom(numpy_helper.from_array(array, name))
            return
        own = self._unused(f"{name}_of_{node.name}")
        self.readers[name].remove(node)
        self.readers[own] = [node]
        self._graph.initializer.append(numpy_helper.from_array(array, own))
        self._constants[own] = self._graph.initializer[-1]
        node.input[index] = own

    def scale_constant(self, node: onnx.NodeProto, index: int, axis: int, factors: NDArray[np.floating]) -> None:
        """Multiplies the constant that `node` alone reads at `index` along one axis; factors: (size of that axis,)."""
        array = self.constant(node.input[index])
        assert array is not None
        shape = [1] * array.ndim
        shape[axis] = -1
        self.replace_constant(node, index, array.astype(np.float64) * factors.reshape(shape))

    def _unused(self, name: str) -> str:
        while name in self._constants or name in self.makers:
            name += "_"
        return name


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    return duplicate
