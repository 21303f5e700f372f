"""SiLU as one operator: x · sigmoid(x) is ONNX Runtime's QuickGelu with alpha 1."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import MICROSOFT, made_by, only_reader, replace, rewritten


def fuse_silu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each Sigmoid and Mul of x · sigmoid(x) as one com.microsoft QuickGelu. Exact."""
    return rewritten(model, _fuse)


def _fuse(graph: ir.Graph) -> bool:
    products = [node for node in graph if node.op_type == "Mul" and _gated(node) is not None]
    for node in products:
        replace(graph, node.outputs[0], "QuickGelu", [_gated(node)], {"alpha": 1.0}, domain=MICROSOFT)
    return bool(products)


def _gated(node: ir.Node) -> ir.Value | None:
    """x of x · sigmoid(x), when nothing else reads the sigmoid."""
    for x, gate in (node.inputs, reversed(node.inputs)):
        sigmoid = made_by(gate, "Sigmoid")
        if sigmoid is not None and sigmoid.inputs[0] is x and only_reader(sigmoid.outputs[0]) is node:
            return x
    return None
