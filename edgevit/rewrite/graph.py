"""Graph: what every rewrite needs to look at an ONNX graph and to change a copy of it.

A rewrite is a function of a graph that edits it in place and says whether it did; `rewritten` makes it pure.
Values are onnx_ir's: they know their producer, their readers and, for an initializer, their array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
# Elementwise operators of one tensor, and of two that are broadcast.
UNARY = frozenset({
    "Abs", "Cast", "Erf", "Exp", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "Neg", "QuickGelu", "Relu",
    "Sigmoid", "Sqrt", "Tanh",
})  # fmt: skip
BINARY = frozenset({"Add", "Div", "Mul", "Pow", "Sub"})

Attributes = Mapping[str, int | float | str | Sequence[int]]


def rewritten(model: onnx.ModelProto, edit: Callable[[ir.Graph], bool]) -> onnx.ModelProto:
    """What `edit` makes of a copy of the model, shapes inferred, dead nodes gone; `model` itself when it is False."""
    graph_model = ir.from_proto(model)
    if not edit(graph_model.graph):
        return model
    if any(node.domain == MICROSOFT for node in graph_model.graph):
        graph_model.graph.opset_imports.setdefault(MICROSOFT, 1)
    RemoveUnusedNodesPass()(graph_model)
    return onnx.shape_inference.infer_shapes(_without_initializer_shapes(ir.to_proto(graph_model)))


def opset(graph: ir.Graph) -> int:
    """The version of ai.onnx."""
    return int(graph.opset_imports.get("", graph.opset_imports.get("ai.onnx", 0)))


def made_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The node of one of the `kinds` of ai.onnx, with one output, that produces the value."""
    node = value.producer() if value is not None else None
    is_kind = node is not None and node.op_type in kinds and node.domain == "" and len(node.outputs) == 1
    return node if is_kind else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads the value, however often; None when others do, or it is a graph output."""
    readers = value.consumers()
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    if value is None or value.const_value is None:
        return None
    array: NDArray[Any] = value.const_value.numpy()
    return array


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant that holds one, in whatever rank."""
    array = constant(value)
    return float(array.item()) if array is not None and array.size == 1 else None


def with_constant(node: ir.Node) -> tuple[ir.Value, NDArray[Any]] | None:
    """(other operand, constant) of a commutative operator with one constant operand, whichever side it stands on."""
    for value, other in (node.inputs, reversed(node.inputs)):
        array = constant(value)
        if array is not None and other is not None and constant(other) is None:
            return other, array
    return None


def sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    """The value's shape; None when any size is unknown."""
    if value is None or value.shape is None:
        return None
    known = tuple(size for size in value.shape if isinstance(size, int))
    return known if len(known) == len(value.shape) else None


def dim(value: ir.Value, axis: int) -> int | None:
    if value.shape is None or axis >= len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """A new constant, called `name` or, where that is taken, name_1 and on."""
    tensor = ir.tensor(array, name=unique_name(graph, name))
    value = ir.Value(
        name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
    )
    graph.register_initializer(value)
    return value


def insert(
    graph: ir.Graph,
    place: ir.Node,
    kind: str,
    inputs: Sequence[ir.Value | None],
    attributes: Attributes | None = None,
    *,
    name: str,
    shape: Sequence[int] | ir.Shape | None = None,
    domain: str = "",
) -> ir.Value:
    """The output of a new node before `place`, of the first input's type and of the torch module of `place`."""
    first = inputs[0]
    assert first is not None
    unique = unique_name(graph, name)
    output = ir.Value(name=unique, type=first.type, shape=ir.Shape(shape) if shape is not None else None)
    node = ir.node(kind, inputs, attributes, domain=domain, outputs=[output], name=unique)
    node.metadata_props.update(place.metadata_props)
    graph.insert_before(place, node)
    return output


def replace(
    graph: ir.Graph,
    old: ir.Value,
    kind: str,
    inputs: Sequence[ir.Value | None],
    attributes: Attributes | None = None,
    *,
    domain: str = "",
) -> ir.Value:
    """The output of a new node in the place of the one that makes `old` alone, with its name, shape and readers."""
    producer = old.producer()
    assert producer is not None
    assert len(producer.outputs) == 1
    output = ir.Value(name=old.name, type=old.type, shape=old.shape)
    node = ir.node(kind, inputs, attributes, domain=domain, outputs=[output], name=producer.name)
    node.metadata_props.update(producer.metadata_props)
    graph.insert_before(producer, node)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.remove(producer, safe=True)
    return output


def bypass(graph: ir.Graph, old: ir.Value, source: ir.Value) -> None:
    """Readers of `old` read `source`; a graph output keeps its name by an Identity."""
    if old.is_graph_output():
        replace(graph, old, "Identity", [source])
    else:
        old.replace_all_uses_with(source)


def unique_name(graph: ir.Graph, name: str) -> str:
    """`name`, or the first of name_1, name_2 and on that no node and no value of the graph has."""
    taken = {value.name for node in graph for value in node.outputs} | {node.name for node in graph}
    taken.update([*graph.initializers, *(value.name for value in graph.inputs)])
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def _without_initializer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnx_ir writes initializers' shapes as value_info; the quantizer leaves them stale when it transposes one."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in constants]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model
