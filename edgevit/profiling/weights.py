"""Weights: what the executed graph's nodes multiply by, which the profiler's shapes leave out once they are packed."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgevit.profiling.operators import weight_index

# What a constant passes through without another shape, where the session does not fold it.
KEEPS_SHAPE = frozenset({"Cast", "DequantizeLinear", "Identity"})


@dataclass(frozen=True)
class Weights:
    """Of a product or convolution. shape: None when it multiplies two activations."""

    shape: tuple[int, ...] | None = None
    is_first_transposed: bool = False


def weights_of_nodes(executed: onnx.ModelProto) -> dict[str, Weights]:
    """By name of the node, for each matrix product and convolution of the graph that the runtime executes."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in executed.graph.initializer}
    found = {}
    for node in executed.graph.node:
        if node.op_type in KEEPS_SHAPE and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        index = weight_index(node.op_type)
        if index is not None and index < len(node.input):
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            found[node.name] = Weights(constants.get(node.input[index]), transposed)
    return found
