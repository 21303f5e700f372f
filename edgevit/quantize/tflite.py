"""The operators of a .tflite file that INT8 is offered to, by the kinds that policies speak of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgevit.policy import ConvKind
from edgevit.quantize.nodes import PICTURE_CHANNELS, QuantizableNodes

CONV, DEPTHWISE, LINEAR, ATTENTION = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"
WEIGHTED = (CONV, DEPTHWISE, LINEAR)
INT16, INT8 = 7, 9  # of TensorType in LiteRT's schema
LARGEST = {INT8: 127, INT16: 32767}
# They hand activations on as they are, or take their largest or mean.
PASSING = frozenset({
    "RESHAPE", "TRANSPOSE", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "SLICE", "STRIDED_SLICE", "SPLIT",
    "RELU",
})  # fmt: skip
# How the converter names a tensor: the path of the torch modules that made it, of which the last is a node's.
NODE_NAME = re.compile(r"\._Node_(\w+);\d*$")


@dataclass(frozen=True)
class Operator:
    """`scope`: its outputs' names, by which the quantizer knows it; `node`: what it was made of. `inputs`, `outputs`:
    tensors, without the constant ones, and `shapes` of these inputs. weight: the shape of a constant second input.
    is_int8: whether that, or else the first input, holds integers.
    """

    kind: str
    scope: str
    node: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    weight: tuple[int, ...] | None
    is_int8: bool


class Scale(NamedTuple):
    """Of a tensor with one scale for all its values. kind: INT8 or INT16."""

    tensor: str
    kind: int
    scale: float
    zero_point: int

    @property
    def top(self) -> float:
        """The largest value that it can hold."""
        return self.scale * (LARGEST[self.kind] - self.zero_point)


@dataclass(frozen=True)
class QuantizableOperators:
    """`nodes`: scopes by kind. By scope: the ONNX node's name, LiteRT's kind of operator, its tensors' numbers.

    origins: by what any node is called in the file, its name in the ONNX graph.
    """

    nodes: QuantizableNodes
    names: Mapping[str, str]
    kinds: Mapping[str, str]
    tensors: Mapping[str, tuple[int, ...]]
    origins: Mapping[str, str]


def read_operators(path: Path) -> tuple[Operator, ...]:
    """All operators of the file's only graph, in their order."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    names = {value: name for name, value in vars(flatbuffer_utils.BuiltinOperator).items() if isinstance(value, int)}
    (graph,) = model.subgraphs
    return tuple(
        _operator(names[model.operatorCodes[operator.opcodeIndex].builtinCode], operator, graph.tensors, model.buffers)
        for operator in graph.operators
    )


def tensor_ranks(path: Path) -> dict[str, int]:
    """How many dimensions each tensor of the file's only graph has, by its name."""
    from ai_edge_litert.tools import flatbuffer_utils

    (graph,) = flatbuffer_utils.read_model(str(path)).subgraphs
    return {tensor.name.decode(): len(_shape(tensor)) for tensor in graph.tensors}


def tensor_scales(path: Path) -> dict[int, Scale]:
    """By its number, the scale of each tensor of the file's only graph that holds integers by a single one."""
    from ai_edge_litert.tools import flatbuffer_utils

    (graph,) = flatbuffer_utils.read_model(str(path)).subgraphs
    return {
        number: Scale(tensor.name.decode(), tensor.type, float(entry.scale[0]), int(entry.zeroPoint[0]))
        for number, tensor in enumerate(graph.tensors)
        if tensor.type in (INT8, INT16) and (entry := tensor.quantization) is not None
        if entry.scale is not None and len(entry.scale) == 1
    }


def quantizable_operators(operators: Iterable[Operator], names: Mapping[str, str]) -> QuantizableOperators:
    """What INT8 can be done to. names: by what a node is called in the file, its name in the ONNX graph."""
    operators = tuple(operators)
    linear = [operator for operator in operators if operator.kind == LINEAR and operator.weight]
    convs = [operator for operator in operators if operator.kind in (CONV, DEPTHWISE)]
    silu = list(_silu_pairs(operators))
    residual = [operator for operator in operators if operator.kind == "ADD" and _is_even(operator)]
    attention = [operator for operator in operators if operator.kind == ATTENTION]
    passing = _passing(operators, (*convs, *linear, *residual, *silu))
    nodes = QuantizableNodes(
        linear=_scopes(linear),
        conv=_scopes(convs),
        silu=_scopes(silu),
        attention=_scopes(attention),
        residual=_scopes(residual),
        passing=_scopes(passing),
        conv_kinds={operator.scope: _conv_kind(operator) for operator in convs},
    )
    offered = (*linear, *convs, *silu, *residual, *attention, *passing)
    return QuantizableOperators(
        nodes,
        {operator.scope: names.get(operator.node, operator.node) for operator in offered},
        {operator.scope: operator.kind for operator in offered},
        {operator.scope: (*operator.inputs, *operator.outputs) for operator in offered},
        dict(names),
    )


def _operator(kind: str, operator: Any, tensors: list[Any], buffers: list[Any]) -> Operator:
    def is_constant(index: int) -> bool:
        return buffers[tensors[index].buffer].data is not None

    inputs = [int(index) for index in operator.inputs if index >= 0]
    live = [index for index in inputs if not is_constant(index)]
    outputs = [int(index) for index in operator.outputs]
    weight = inputs[1] if len(inputs) > 1 and is_constant(inputs[1]) else None
    decisive = inputs[0] if weight is None or kind not in WEIGHTED else weight
    names = [tensors[index].name.decode() for index in outputs]
    found = NODE_NAME.search(names[0])
    return Operator(
        kind=kind,
        scope="".join(f"{name};" for name in names),
        node=found.group(1) if found else "",
        inputs=tuple(live),
        outputs=tuple(outputs),
        shapes=tuple(_shape(tensors[index]) for index in live),
        weight=None if weight is None else _shape(tensors[weight]),
        is_int8=tensors[decisive].type in (INT8, INT16),
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape)


def _scopes(operators: Iterable[Operator]) -> tuple[str, ...]:
    return tuple(operator.scope for operator in operators)


def _is_even(operator: Operator) -> bool:
    return len(operator.shapes) == 2 and operator.shapes[0] == operator.shapes[1] and len(operator.shapes[0]) > 1


def _silu_pairs(operators: tuple[Operator, ...]) -> Iterable[Operator]:
    """LOGISTIC and MUL of each x·sigmoid(x)."""
    gates = {operator.outputs[0]: operator for operator in operators if operator.kind == "LOGISTIC"}
    for operator in operators:
        if operator.kind == "MUL" and len(operator.inputs) == 2:
            for gate, signal in (operator.inputs, operator.inputs[::-1]):
                if gate in gates and gates[gate].inputs[0] == signal:
                    yield gates[gate]
                    yield operator


def _passing(operators: tuple[Operator, ...], sources: Iterable[Operator]) -> list[Operator]:
    """What hands on nothing but the outputs of `sources`."""
    made = {output for operator in sources for output in operator.outputs}
    found = []
    for operator in operators:
        if operator.kind in PASSING and operator.inputs and made.issuperset(operator.inputs):
            found.append(operator)
            made.update(operator.outputs)
    return found


def _conv_kind(operator: Operator) -> ConvKind:
    """weight: (O, kH, kW, I / groups). See nodes._conv_kind."""
    assert operator.weight is not None
    channels = operator.shapes[0][-1]
    if operator.kind == DEPTHWISE or operator.weight[-1] < channels:
        return "depthwise"
    if channels <= PICTURE_CHANNELS:
        return "stem"
    return "pointwise" if operator.weight[1:3] == (1, 1) else "dense"
