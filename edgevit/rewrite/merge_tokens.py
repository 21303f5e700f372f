"""Merge tokens: the most similar pairs of patches become one token between a block's attention and its MLP.

Bipartite soft matching: each token at an even position has its most similar one at an odd position (cosine of their
keys, averaged over heads), and the most similar pairs are merged. A token weighs as many patches as it stands for, in
later merges, in an average pool, and in later attention: the logarithm of its size is added to its scores.
Source: Bolya et al., "Token Merging: Your ViT But Faster", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.errors import InputError
from edgevit.policy import TokenReduction
from edgevit.rewrite.graph import constant, made_by, only_reader, sizes
from edgevit.rewrite.token_blocks import TOKEN_AXIS, TokenBlock, downstream, is_attention
from edgevit.rewrite.token_reduction import Step, redirect, with_fewer_tokens


def merge_tokens(model: onnx.ModelProto, reduction: TokenReduction) -> onnx.ModelProto:
    """The model with `removed[i]` tokens fewer after block i's attention; the model itself when all are zero.

    The prefix (class token, distillation token, registers) is never merged and stays in its place; the unmerged tokens
    of even positions follow, then those of odd ones.
    The new products are Gemms: INT8 may be asked for attention's, which are MatMuls, and sizes do not bear it.
    Raises InputError for a model or a schedule that does not allow it.
    """
    assert reduction.method == "merge"

    def reduce(graph: ir.Graph, blocks: tuple[TokenBlock, ...]) -> None:
        pools = _average_pools(blocks[-1].stream)
        by_softmax = {block.softmax: (block, n) for block, n in zip(blocks, reduction.removed, strict=False)}
        all_tokens, prefix = blocks[0].tokens, blocks[0].prefix
        behind = {blocks[0].softmax, *downstream([blocks[0].stream])}
        tokens, size = all_tokens, None
        for softmax in [node for node in graph if node in behind and is_attention(node)]:
            if size is not None:
                _attend_by_size(graph, softmax, size)
            block, count = by_softmax.get(softmax, (blocks[-1], 0))
            if count:
                size = _merge(graph, block, _Halves(prefix, tokens, count), size)
                tokens -= count
        assert size is not None
        for reader, skipped in pools:
            _weigh(graph, reader, size, (tokens - skipped) / (all_tokens - skipped))

    return with_fewer_tokens(model, reduction.removed, _most_merged, reduce)


@dataclass(frozen=True)
class _Halves:
    """Which of `tokens` positions can be merged into which others; `merged` of them will be."""

    prefix: int
    tokens: int
    merged: int

    @property
    def sources(self) -> range:
        return range(self.prefix + self.prefix % 2, self.tokens, 2)

    @property
    def targets(self) -> range:
        return range(self.prefix + 1 - self.prefix % 2, self.tokens, 2)

    @property
    def unmerged(self) -> int:
        return len(self.sources) - self.merged


def _most_merged(block: TokenBlock, tokens: int) -> int:
    halves = _Halves(block.prefix, tokens, 0)
    return len(halves.sources) if halves.targets else 0


def _merge(graph: ir.Graph, block: TokenBlock, halves: _Halves, size: ir.Value | None) -> ir.Value:
    """The sizes (N - merged, 1) of the tokens after it; size: (N, 1) of those before, None while each is one patch."""
    shape = sizes(block.stream)
    assert shape is not None
    sizes_after: list[ir.Value] = []

    def reduce(step: Step) -> ir.Value:
        sources, stay, is_target = _matched(step, block, halves)
        first = step.ints("first", 0)
        rows = step.op("Squeeze", [block.stream, first], "rows")  # (N, C)
        if size is not None:
            rows = step.op("Mul", [rows, size], "sums")
        before = size or step.array("sizes_before", np.ones((halves.tokens, 1), np.float32))
        rows = step.op("Concat", [rows, before], "sums_and_sizes", axis=1)  # (N, C + 1)
        left = step.op("Gather", [rows, stay], "left", axis=0)  # (N - merged, C + 1)
        moved = step.op("Gather", [rows, sources], "moved", axis=0)  # (merged, C + 1)
        merged = step.op("Gemm", [is_target, moved, left], "merged")
        types = {"merged_sums": ir.DataType.FLOAT, "sizes": ir.DataType.FLOAT}
        sums, after = step.typed("Split", [merged, step.ints("parts", shape[-1], 1)], types, axis=1)
        sizes_after.append(after)
        means = step.op("Div", [sums, after], "means")
        return step.op("Unsqueeze", [means, first], "tokens")  # (1, N - merged, C)

    redirect(graph, block.stream, reduce)
    return sizes_after[0]


def _matched(step: Step, block: TokenBlock, halves: _Halves) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Positions of the tokens that leave (merged,) and of those that stay (N - merged,), and which merges into which.

    The third is one-hot, float (N - merged, merged): a row for each that stays.
    """
    similarity = _similarity(step, block, halves)  # (sources, targets)
    best = step.reduced("ReduceMax", similarity, [1], "best_similarity")
    target_of = step.index("ArgMax", [similarity], "best_target", axis=1, keepdims=0)
    types = {"similarities": ir.DataType.FLOAT, "order": ir.DataType.INT64}
    _, order = step.typed("TopK", [best, step.ints("source_count", len(halves.sources))], types, axis=0, sorted=1)
    positions = step.ints("source_positions", *halves.sources)
    leaving, others = _parted(step, order, positions, halves)
    prefix = [step.ints("prefix", *range(halves.prefix))] if halves.prefix else []
    targets = step.ints("target_positions", *halves.targets)
    stay = step.index("Concat", [*prefix, *others, targets], "staying_positions", axis=0)
    target = step.index("Gather", [target_of, leaving], "targets_of_merged", axis=0)
    rows = [-1] * (halves.prefix + halves.unmerged) + list(range(len(halves.targets)))
    row_of_target = step.array("target_of_row", np.array(rows, np.int64)[:, np.newaxis])
    (is_target,) = step.typed("Equal", [row_of_target, target], {"is_target": ir.DataType.BOOL})
    one_hot = step.op("Cast", [is_target], "one_hot", to=ir.DataType.FLOAT.value)
    return step.index("Gather", [positions, leaving], "merged_positions", axis=0), stay, one_hot


def _parted(step: Step, order: ir.Value, positions: ir.Value, halves: _Halves) -> tuple[ir.Value, tuple[ir.Value, ...]]:
    """Indices of the sources that leave, and the positions of the others, rising; none where all leave."""
    if not halves.unmerged:
        return order, ()
    types = {"merged_sources": ir.DataType.INT64, "unmerged_sources": ir.DataType.INT64}
    parts = step.ints("source_parts", halves.merged, halves.unmerged)
    leaving, others = step.typed("Split", [order, parts], types, axis=0)
    types = {"unmerged_in_order": ir.DataType.INT64, "unmerged_ranks": ir.DataType.INT64}
    count = step.ints("unmerged_count", halves.unmerged)
    others, _ = step.typed("TopK", [others, count], types, axis=0, largest=0, sorted=1)
    return leaving, (step.index("Gather", [positions, others], "unmerged_positions", axis=0),)


def _similarity(step: Step, block: TokenBlock, halves: _Halves) -> ir.Value:
    """Cosines (sources, targets) of the keys' means over heads."""
    means = step.reduced("ReduceMean", block.keys, [0, 1], "mean_keys")  # (d, N)
    keys = step.op("LpNormalization", [means], "unit_keys", axis=0, p=2)

    def half(positions: range, suffix: str) -> ir.Value:
        bounds = {"start": positions.start, "end": positions.stop, "axis": 1, "stride": 2}
        return step.op("Slice", [keys, *(step.ints(f"{suffix}_{k}", v) for k, v in bounds.items())], suffix)

    return step.op("Gemm", [half(halves.sources, "sources"), half(halves.targets, "targets")], "similarity", transA=1)


def _attend_by_size(graph: ir.Graph, softmax: ir.Node, size: ir.Value) -> None:
    scores = softmax.inputs[0]
    assert scores is not None
    step = Step(graph, softmax, str(scores.name))
    row = step.op("Squeeze", [step.op("Log", [size], "log_size"), step.ints("size_axis", 1)], "size_row")  # (N,)
    softmax.replace_input_with(0, step.op("Add", [scores, row], "by_size"))


def _average_pools(stream: ir.Value) -> list[tuple[ir.Node, int]]:
    """(node, tokens skipped) of each mean over tokens behind the stream: a ReduceMean, or the Slice that it reads."""
    found = []
    for node in downstream([stream]):
        source = node.inputs[0] if node.op_type == "ReduceMean" else None
        if source is None or source.shape is None or len(source.shape) != 3 or _mean_axes(node) not in ([1], [-2]):
            continue
        cut = made_by(source, "Slice")
        if cut is None:
            found.append((node, 0))
            continue
        starts, axes = constant(cut.inputs[1]), constant(cut.inputs[3]) if len(cut.inputs) > 3 else None
        if only_reader(source) is not node or starts is None or axes is None or axes.tolist() != [TOKEN_AXIS]:
            raise InputError(f"Merged tokens cannot be weighed in the average pool '{node.name}'. Choose 'prune'.")
        found.append((cut, int(starts.item())))
    return found


def _mean_axes(node: ir.Node) -> list[int]:
    if len(node.inputs) > 1:
        axes = constant(node.inputs[1])
        return [] if axes is None else [int(axis) for axis in axes]
    return list(node.attributes.get_ints("axes", []))


def _weigh(graph: ir.Graph, reader: ir.Node, size: ir.Value, share: float) -> None:
    """share: of the tokens that the mean was over, those left; the mean of size·share·x is then that over patches."""
    source = reader.inputs[0]
    assert source is not None
    step = Step(graph, reader, str(source.name))
    weight = step.op("Mul", [size, step.array("share", np.array(share, np.float32))], "weight")  # (N, 1)
    reader.replace_input_with(0, step.op("Mul", [source, weight], "weighted"))
