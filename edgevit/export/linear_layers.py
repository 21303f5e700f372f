"""Linear layers: a product with constant weights and the sum after it, as one node of a graph.

Of a MatMul and an Add torch makes two operators, and XNNPACK's quantizer and delegate know neither as a layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

DOMAIN, LINEAR = "edgevit", "Linear"
Constants = Mapping[str, NDArray[np.float32]]


def with_linear_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in nodes 'Linear' of the domain 'edgevit': x (…, C), weights (K, C) and, if any, bias (K,).

    They bear the names of the products. No other reader of a product's output is left without it.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input) + Counter(out.name for out in graph.output)
    readers = {name: node for node in graph.node for name in node.input}
    made: dict[str, onnx.TensorProto] = {}
    dropped = []
    for node in graph.node:
        weights = _weights(node, constants)
        if weights is None:
            continue
        bias, output = node.input[2] if len(node.input) > 2 else "", node.output[0]
        add = readers.get(output)
        if not bias and add is not None and reads[output] == 1 and add.op_type == "Add":
            other = next((name for name in add.input if name != output), "")
            if other in constants and constants[other].shape[-1:] == (len(weights),) == (constants[other].size,):
                bias, output = other, add.output[0]
                dropped.append(add)
        names = [f"{node.input[1]}_rows", f"{bias}_row"] if bias else [f"{node.input[1]}_rows"]
        values = [weights, constants[bias].reshape(-1)] if bias else [weights]
        made.update(
            (name, numpy_helper.from_array(np.ascontiguousarray(value), name))
            for name, value in zip(names, values, strict=True)
        )
        node.CopyFrom(helper.make_node(LINEAR, [node.input[0], *names], [output], name=node.name, domain=DOMAIN))
    for node in dropped:
        graph.node.remove(node)
    graph.initializer.extend(made.values())
    return result


def _weights(node: onnx.NodeProto, constants: Constants) -> NDArray[np.float32] | None:
    """(K, C); None where the node is no such product, or more than that."""
    if node.domain != "" or node.op_type not in ("MatMul", "Gemm") or node.input[0] in constants:
        return None
    weights = constants.get(node.input[1])
    if weights is None or weights.ndim != 2 or weights.dtype != np.float32:
        return None
    if node.op_type == "MatMul":
        return weights.T
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    bias = constants.get(node.input[2]) if len(node.input) > 2 else None
    has_bias = len(node.input) > 2 and node.input[2] != ""
    rows = weights if values.get("transB") else weights.T
    is_plain = values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0 and not values.get("transA")
    if not is_plain or (has_bias and (bias is None or bias.size != len(rows))):
        return None
    return rows
