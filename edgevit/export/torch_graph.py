"""Torch graph: an ONNX graph as a torch module again, for converters that start from torch.

So the rewrites of the graph, and an .onnx file that somebody else made, reach runtimes that take no ONNX.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from edgevit.errors import EdgevitError
from edgevit.export.names import module_names
from edgevit.export.torch_operators import OPERATORS, TYPES


class GraphModule(nn.Module):
    """An ONNX graph of fixed shapes; one submodule a node, by the node's name, so that converters keep the names.

    Raises EdgevitError for an operator that is not in OPERATORS.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        super().__init__()
        source = graph.graph.input[0]
        self._input, self._output = source.name, graph.graph.output[0].name
        self.input_shape = tuple(max(1, size.dim_value) for size in source.type.tensor_type.shape.dim)
        self.input_type = TYPES[source.type.tensor_type.elem_type]
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
        for node in graph.graph.node:
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._wiring: list[tuple[str, list[str], list[str]]] = []
        for name, node in module_names(graph).items():
            if node.op_type == "Constant":
                continue
            self.add_module(name, _Node(node, constants))
            live = [source for source in node.input if source and source not in constants]
            self._wiring.append((name, live, list(node.output)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(1, classes) of (1, C, H, W)."""
        values: dict[str, Any] = {self._input: pixels}
        for name, sources, targets in self._wiring:
            result = getattr(self, name)(*[values[source] for source in sources])
            values.update(zip(targets, result if isinstance(result, (tuple, list)) else [result], strict=False))
        logits: torch.Tensor = values[self._output]
        return logits


class _Node(nn.Module):
    """One node: its float constants as buffers, all others as Python values."""

    def __init__(self, node: onnx.NodeProto, constants: dict[str, Any]) -> None:
        super().__init__()
        if (node.domain, node.op_type) not in OPERATORS:
            kind = f"{node.domain}:{node.op_type}".lstrip(":")
            raise EdgevitError(f"The ONNX operator {kind} ({node.name}) is not known to what makes torch of a graph.")
        self._function = OPERATORS[node.domain, node.op_type]
        self._attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        self._attributes["outputs"] = len(node.output)
        self._operands: list[Any] = []
        for position, source in enumerate(node.input):
            if not source:
                self._operands.append(("value", None))
            elif source not in constants:
                self._operands.append(("live", None))
            elif constants[source].dtype.kind == "f":
                self.register_buffer(f"constant_{position}", torch.from_numpy(constants[source].copy()))
                self._operands.append(("buffer", f"constant_{position}"))
            else:
                self._operands.append(("value", constants[source]))

    def forward(self, *live: torch.Tensor) -> Any:
        given = iter(live)
        operands = [
            next(given) if kind == "live" else getattr(self, what) if kind == "buffer" else what
            for kind, what in self._operands
        ]
        return self._function(operands, self._attributes)
