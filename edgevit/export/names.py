"""Names: what the nodes of an ONNX graph are called where the graph was converted to something else."""

from __future__ import annotations

import onnx

FUSED = ("Add", "Mul", "Relu", "Clip")
WEIGHTED = ("Conv", "Gemm", "MatMul")


def module_names(graph: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The nodes in their order, each by a name of its own that torch takes for a module's: letters, digits and '_'."""
    found: dict[str, onnx.NodeProto] = {}
    for index, node in enumerate(graph.graph.node):
        name = "n_" + "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in node.name)
        found[f"{name}_{index}" if name in found else name] = node
    return found


def fused_names(graph: onnx.ModelProto) -> dict[str, str]:
    """By the name of a module, the ONNX node that its operator was made of.

    A converter makes one operator of a product and the bias and activation after it, and calls it by the last.
    """
    makers = {output: node for node in graph.graph.node for output in node.output}
    names = {}
    for module, node in module_names(graph).items():
        origin = node
        while origin.op_type in FUSED and any(name in makers for name in origin.input):
            origin = makers[next(name for name in origin.input if name in makers)]
        names[module] = origin.name if origin.op_type in WEIGHTED else node.name
    return names
