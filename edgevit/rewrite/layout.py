"""Layout: Reshapes and Transposes that move nothing, or move it back, are removed.

Two changes, as long as either finds something: a chain of layout operators is written as the shortest one of the same
meaning (`factors`), and a Transpose moves above elementwise operators to where it meets another that cancels it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.rewrite.factors import Move, Sizes, Step, best_move
from edgevit.rewrite.graph import (
    BINARY,
    UNARY,
    bypass,
    constant,
    initializer,
    insert,
    made_by,
    only_reader,
    replace,
    rewritten,
    sizes,
)

LAYOUT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


def remove_dead_layout(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each chain of layout operators as short as it can be, and Transposes cancelled across elementwise operators.

    A change is made only if fewer bytes are transposed, or as many by fewer operators. Graphs whose sizes are not all
    known (a free batch size) are left as they are. Exact to the bit.
    """
    return rewritten(model, _shorten_all)


def chain_of_layout(last: ir.Node) -> Iterator[ir.Node]:
    """The layout operators that lead to `last`, itself first, as far as sizes are known."""
    node: ir.Node | None = last
    while node is not None and _is_layout(node) and _is_sized(node.inputs[0]) and _is_sized(node.outputs[0]):
        yield node
        node = node.inputs[0].producer() if node.inputs[0] is not None else None


def steps_of_layout(nodes: Sequence[ir.Node]) -> list[Step]:
    """Layout operators, from the first to the last, as steps of `best_move`."""
    return [
        Step(order=_order(node)) if node.op_type == "Transpose" else Step(sizes=sizes(node.outputs[0]) or ())
        for node in nodes
    ]


def _shorten_all(graph: ir.Graph) -> bool:
    """Ends, because every change lowers (bytes transposed, operators)."""
    count = 0
    while any(_shorten(graph, node) or _move_above(graph, node) for node in reversed(list(graph)) if _is_layout(node)):
        count += 1
    return count > 0


def _shorten(graph: ir.Graph, last: ir.Node) -> bool:
    """Rewrites the longest chain ending in `last` that can be had for less."""
    chain = list(chain_of_layout(last))
    for length in range(len(chain), 0, -1):
        nodes = chain[:length]
        source, output = nodes[-1].inputs[0], last.outputs[0]
        before, after = sizes(source), sizes(output)
        assert source is not None
        assert before is not None
        assert after is not None
        move = best_move(before, steps_of_layout(nodes[::-1]))
        if move is not None and (move.is_transposed * math.prod(after), move.steps(before, after)) < _cost(nodes):
            _write(graph, source, output, move)
            for node in nodes:
                _remove_unread(graph, node)
            return True
    return False


def _cost(nodes: Sequence[ir.Node]) -> tuple[int, int]:
    """(elements transposed, operators) that go away with the chain: up to where something else reads it too."""
    dying = [nodes[0]]
    for node in nodes[1:]:
        if only_reader(node.outputs[0]) is None:
            break
        dying.append(node)
    transposed = [math.prod(sizes(node.outputs[0]) or ()) for node in dying if node.op_type == "Transpose"]
    return sum(transposed), len(dying)


def _write(graph: ir.Graph, source: ir.Value, output: ir.Value, move: Move) -> None:
    start, target, place = sizes(source), sizes(output), output.producer()
    assert place is not None
    if not move.is_transposed:
        if start == target:
            bypass(graph, output, source)
        else:
            replace(graph, output, "Reshape", [source, _shape(graph, output, "shape", target)])
        return
    value = source
    if move.before != start:
        shape = _shape(graph, output, "factors_shape", move.before)
        value = insert(graph, place, "Reshape", [value, shape], name=f"{output.name}_factors", shape=move.before)
    if move.after == target:
        replace(graph, output, "Transpose", [value], {"perm": move.order})
        return
    name = f"{output.name}_permuted"
    value = insert(graph, place, "Transpose", [value], {"perm": move.order}, name=name, shape=move.after)
    replace(graph, output, "Reshape", [value, _shape(graph, output, "shape", target)])


def _shape(graph: ir.Graph, output: ir.Value, suffix: str, shape: Sizes | None) -> ir.Value:
    return initializer(graph, f"{output.name}_{suffix}", np.array(shape, np.int64))


def _move_above(graph: ir.Graph, node: ir.Node) -> bool:
    """Moves a Transpose above the elementwise operators before it, where it meets others that cancel it."""
    value, output = node.inputs[0], node.outputs[0]
    if node.op_type != "Transpose" or value is None or not _is_elementwise(value) or output.is_graph_output():
        return False
    if _added(value, _order(node)) >= math.prod(sizes(value) or ()):
        return False
    bypass(graph, output, _moved(graph, value, _order(node)))
    _remove_unread(graph, node)
    return True


def _added(value: ir.Value, order: Sizes) -> int:
    """Elements transposed in addition to have `value` transposed: negative when one before it goes away."""
    count = math.prod(sizes(value) or ())
    earlier = made_by(value, "Transpose")
    if earlier is not None:
        composed = tuple(_order(earlier)[axis] for axis in order)
        return (composed != tuple(sorted(composed))) * count - (only_reader(value) is not None) * count
    if not _is_elementwise(value):
        return count
    producer = value.producer()
    assert producer is not None
    return sum(_added(v, order) for v in dict.fromkeys(producer.inputs) if v is not None and constant(v) is None)


def _moved(graph: ir.Graph, value: ir.Value, order: Sizes) -> ir.Value:
    """`value` transposed, by its operators applied to what they read, transposed."""
    array = constant(value)
    if array is not None:
        if array.size == 1:
            return value
        full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
        return initializer(graph, f"{value.name}_transposed", np.ascontiguousarray(full.transpose(order)))
    shape = sizes(value)
    assert shape is not None
    transposed = tuple(shape[axis] for axis in order)
    name = f"{value.name}_transposed"
    earlier = made_by(value, "Transpose")
    if earlier is not None:
        composed = tuple(_order(earlier)[axis] for axis in order)
        source = earlier.inputs[0]
        assert source is not None
        if composed == tuple(sorted(composed)):
            return source
        return insert(graph, earlier, "Transpose", [source], {"perm": composed}, name=name, shape=transposed)
    producer = value.producer()
    if not _is_elementwise(value):
        reader = value.consumers()[0]
        return insert(graph, reader, "Transpose", [value], {"perm": order}, name=name, shape=transposed)
    assert producer is not None
    moved = {v: _moved(graph, v, order) for v in producer.inputs if v is not None}
    inputs = [v if v is None else moved[v] for v in producer.inputs]
    attributes = {key: attribute.value for key, attribute in producer.attributes.items()}
    return insert(
        graph, producer, producer.op_type, inputs, attributes, name=name, shape=transposed, domain=producer.domain
    )


def _is_elementwise(value: ir.Value) -> bool:
    """Whether the value is read once and made by an operator that can as well be applied to transposed inputs."""
    node = value.producer()
    if node is None or len(node.outputs) != 1 or only_reader(value) is None:
        return False
    if node.op_type not in UNARY | BINARY or (node.op_type in UNARY and len(node.inputs) != 1):
        return False
    rank = len(sizes(value) or ())
    return rank > 0 and all(constant(v) is not None or len(sizes(v) or ()) == rank for v in node.inputs)


def _remove_unread(graph: ir.Graph, node: ir.Node) -> None:
    """Removes the node and what only it needed, so that it is not counted as a reader."""
    if node.graph is not graph or any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    sources = [value.producer() for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    for source in sources:
        if source is not None:
            _remove_unread(graph, source)


def _is_sized(value: ir.Value | None) -> bool:
    shape = sizes(value)
    return bool(shape) and 0 not in (shape or ())


def _is_layout(node: ir.Node) -> bool:
    return node.op_type in LAYOUT and node.domain == ""


def _order(node: ir.Node) -> Sizes:
    rank = max(len(sizes(value) or ()) for value in (node.inputs[0], node.outputs[0]))
    return tuple(node.attributes.get_ints("perm") or range(rank)[::-1])
