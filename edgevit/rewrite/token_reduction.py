"""Token reduction: what pruning and merging share. The schedule's bounds, and shapes that follow fewer tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.errors import InputError
from edgevit.rewrite.graph import MICROSOFT, constant, initializer, opset, rewritten, sizes, unique_name
from edgevit.rewrite.token_blocks import TokenBlock, downstream, find_blocks, is_attention

AS_IN_INPUT = (0, 0)  # what a Reshape calls the batch and the tokens that it does not change
UNARY_BY_MICROSOFT = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")  # of their first input's shape


@dataclass(frozen=True)
class Step:
    """New nodes before `place`; theirs and their values' names begin with `name`."""

    graph: ir.Graph
    place: ir.Node
    name: str

    def op(self, kind: str, inputs: Sequence[ir.Value], suffix: str, **attributes: int) -> ir.Value:
        """A float tensor."""
        return self.typed(kind, inputs, {suffix: ir.DataType.FLOAT}, **attributes)[0]

    def index(self, kind: str, inputs: Sequence[ir.Value], suffix: str, **attributes: int) -> ir.Value:
        """An int64 tensor."""
        return self.typed(kind, inputs, {suffix: ir.DataType.INT64}, **attributes)[0]

    def typed(
        self, kind: str, inputs: Sequence[ir.Value], outputs: Mapping[str, ir.DataType], **attributes: int
    ) -> tuple[ir.Value, ...]:
        """outputs: their suffixes and types; the node is called after the first."""
        values = [
            ir.Value(name=unique_name(self.graph, f"{self.name}_{suffix}"), type=ir.TensorType(dtype))
            for suffix, dtype in outputs.items()
        ]
        node = ir.node(kind, inputs, attributes, outputs=values, name=values[0].name)
        node.metadata_props.update(self.place.metadata_props)
        self.graph.insert_before(self.place, node)
        return tuple(values)

    def reduced(
        self, kind: str, value: ir.Value, axes: Sequence[int], suffix: str, *, keepdims: bool = False
    ) -> ir.Value:
        """A ReduceSum, ReduceMean or ReduceMax, whose axes became an input in opset 13 and 18."""
        if kind == "ReduceSum" or opset(self.graph) >= 18:
            return self.op(kind, [value, self.ints(f"{suffix}_axes", *axes)], suffix, keepdims=int(keepdims))
        reduced = self.op(kind, [value], suffix, keepdims=int(keepdims))
        producer = reduced.producer()
        assert producer is not None
        producer.attributes["axes"] = ir.AttrInt64s("axes", axes)
        return reduced

    def ints(self, suffix: str, *numbers: int) -> ir.Value:
        return self.array(suffix, np.array(numbers, np.int64))

    def array(self, suffix: str, array: NDArray[np.generic]) -> ir.Value:
        return initializer(self.graph, f"{self.name}_{suffix}", array)


def with_fewer_tokens(
    model: onnx.ModelProto,
    removed: Sequence[int],
    most_removed: Callable[[TokenBlock, int], int],
    reduce: Callable[[ir.Graph, tuple[TokenBlock, ...]], None],
) -> onnx.ModelProto:
    """What `reduce` makes of the model's blocks, all shapes behind them inferred anew; the model itself without work.

    most_removed: how many of so many tokens a block can do without.
    Raises InputError when the schedule does not fit the model, or an operator needs the tokens that it removes.
    """
    if not any(removed):
        return model

    def edit(graph: ir.Graph) -> bool:
        blocks = find_blocks(graph)
        _check_schedule(graph, blocks, removed, most_removed)
        behind = list(downstream(block.stream for block, count in zip(blocks, removed, strict=False) if count))
        _take_token_counts_from_inputs(graph, behind)
        reduce(graph, blocks)
        for node in behind:
            for value in node.outputs:
                value.shape = value.shape if value.is_graph_output() else None
        return True

    return _shaped(rewritten(model, edit))


def redirect(graph: ir.Graph, value: ir.Value, reduce: Callable[[Step], ir.Value]) -> None:
    """Readers of `value` read what `reduce` makes of it."""
    uses = list(value.uses())
    readers = {reader for reader, _ in uses}
    result = reduce(Step(graph, next(node for node in graph if node in readers), str(value.name)))
    for reader, index in uses:
        reader.replace_input_with(index, result)


def _check_schedule(
    graph: ir.Graph,
    blocks: Sequence[TokenBlock],
    removed: Sequence[int],
    most_removed: Callable[[TokenBlock, int], int],
) -> None:
    if not blocks:
        raise InputError("Token reduction needs a plain ViT, and this model has no blocks of one. Set tokens to null.")
    if blocks[0].batch != 1:
        raise InputError("Token reduction works on one picture at a time. Export the model with a fixed batch of 1.")
    if len({node.outputs[0].shape[-1] for node in graph if is_attention(node) and node.outputs[0].shape}) > 1:
        raise InputError("Token reduction was done to this model before. Give the model that it was done to.")
    if len(removed) > len(blocks):
        raise InputError(f"Token reduction names {len(removed)} blocks, this model has only {len(blocks)}.")
    tokens = blocks[0].tokens
    for index, (block, count) in enumerate(zip(blocks, removed, strict=False)):
        most = max(0, most_removed(block, tokens))
        if count > most:
            problem = f"cannot remove {count} of {tokens} tokens after block {index}'s attention"
            raise InputError(f"Token reduction {problem}: at most {most} can go there.")
        tokens -= count


def _take_token_counts_from_inputs(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    """Reshapes from (B, N, …) to (B, N, …) keep the batch and the tokens of their input, however many they are."""
    for node in nodes:
        shape = constant(node.inputs[1]) if node.op_type == "Reshape" else None
        before, after = sizes(node.inputs[0]) if shape is not None else None, sizes(node.outputs[0])
        if shape is None or before is None or after is None or before[:2] != after[:2] or len(before) < 2:
            continue
        follows = np.array([*AS_IN_INPUT, *shape[2:]], np.int64)
        node.replace_input_with(1, initializer(graph, f"{node.name}_shape", follows))
        node.attributes.pop("allowzero", None)


def _shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all shapes inferred. Raises InputError when those behind a reduction contradict each other."""
    stand_in = onnx.ModelProto()
    stand_in.CopyFrom(model)
    for node in stand_in.graph.node:
        if node.domain == MICROSOFT and node.op_type in UNARY_BY_MICROSOFT:
            node.domain, node.op_type = "", "Identity"  # onnx does not know their shapes
            del node.input[1:], node.attribute[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(stand_in, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).replace("[ShapeInferenceError] ", "").removeprefix("Inference error(s): ").splitlines()[0]
        raise _needs_all_tokens(reason) from error
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    _check_reshapes(model)
    return model


def _check_reshapes(model: onnx.ModelProto) -> None:
    """onnx infers a Reshape's result without looking whether as many values go in."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    counts = {v.name: math.prod(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    for node in model.graph.node:
        before, after = counts.get(node.input[0], 0) if node.input else 0, counts.get(node.output[0], 0)
        if node.op_type == "Reshape" and 0 < before != after > 0:
            raise _needs_all_tokens(f"Reshape {node.name}")


def _needs_all_tokens(where: str) -> InputError:
    return InputError(f"This model cannot do with fewer tokens: an operator needs them all ({where}).")
