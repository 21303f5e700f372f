"""Prune tokens: patches that matter little are dropped between a block's attention and its MLP.

A patch matters by the attention that the class token pays to it, summed over heads. That is EViT's criterion; its fused
token is a weighted mean here, not a weighted sum, which only a model that was trained on it knows how to take.
Source: Liang et al., "Not All Patches are What You Need", 2022.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.errors import InputError
from edgevit.policy import TokenReduction
from edgevit.rewrite.graph import sizes
from edgevit.rewrite.token_blocks import QUERY_AXIS, TOKEN_AXIS, TokenBlock
from edgevit.rewrite.token_reduction import Step, redirect, with_fewer_tokens

LEAST_SCORE = 1e-12  # the dropped patches' scores have a sum to divide by, even where attention underflows


def prune_tokens(model: onnx.ModelProto, reduction: TokenReduction) -> onnx.ModelProto:
    """The model with `removed[i]` tokens fewer after block i's attention; the model itself when all are zero.

    The prefix (class token, distillation token, registers) always stays, in its place; patches follow, best score
    first. method 'fuse' drops one patch more and appends the mean of all that it drops, weighted by their scores.
    A model that does not classify by a class token is scored by the attention that a patch receives from all tokens,
    and its average pool is that of the patches left; 'fuse' is refused, as the pool would count the fused one once.
    After the last block of a class token's model nothing but its MLP is saved, which
    compute_last_block_for_class_token saves too, and more.
    Raises InputError for a model or a schedule that does not allow it.
    """
    assert reduction.method in ("prune", "fuse")
    fuses = reduction.method == "fuse"

    def most_removed(block: TokenBlock, tokens: int) -> int:
        return tokens - block.prefix - (2 if fuses else 1)  # a patch stays, and the fused one if there is one

    def reduce(graph: ir.Graph, blocks: tuple[TokenBlock, ...]) -> None:
        if fuses and not blocks[0].has_class_token:
            raise InputError("Fusing tokens needs a model that classifies by a class token. Choose 'prune' or 'merge'.")
        tokens = blocks[0].tokens
        for block, count in zip(blocks, reduction.removed, strict=False):
            if count and fuses:
                _fuse(graph, block, tokens, kept=tokens - count - 1)
            elif count:
                _prune(graph, block, tokens, kept=tokens - count)
            tokens -= count

    return with_fewer_tokens(model, reduction.removed, most_removed, reduce)


def _prune(graph: ir.Graph, block: TokenBlock, tokens: int, kept: int) -> None:
    def reduce(step: Step) -> ir.Value:
        _, best = _ranked(step, block, tokens, kept)
        return step.op("Gather", [block.stream, best], "kept", axis=TOKEN_AXIS)  # (1, K, C)

    redirect(graph, block.stream, reduce)


def _fuse(graph: ir.Graph, block: TokenBlock, tokens: int, kept: int) -> None:
    def reduce(step: Step) -> ir.Value:
        scores, order = _ranked(step, block, tokens, tokens)
        parts = step.ints("parts", kept, tokens - kept)
        types = {"kept_indices": ir.DataType.INT64, "dropped_indices": ir.DataType.INT64}
        kept_indices, dropped_indices = step.typed("Split", [order, parts], types, axis=0)
        stay = step.op("Gather", [block.stream, kept_indices], "kept", axis=TOKEN_AXIS)  # (1, K, C)
        leave = step.op("Gather", [block.stream, dropped_indices], "dropped", axis=TOKEN_AXIS)  # (1, D, C)
        tail = [step.ints("tail_start", kept), step.ints("tail_end", tokens), step.ints("tail_axis", 0)]
        weights = step.op("Slice", [scores, *tail], "weights")  # (D,)
        total = step.reduced("ReduceSum", weights, [0], "total_weight", keepdims=True)
        shares = step.op("Div", [weights, total], "shares")
        column = step.op("Unsqueeze", [shares, step.ints("column_axis", 1)], "column")  # (D, 1)
        weighted = step.op("Mul", [leave, column], "weighted")
        fused = step.reduced("ReduceSum", weighted, [TOKEN_AXIS], "fused", keepdims=True)  # (1, 1, C)
        return step.op("Concat", [stay, fused], "kept_and_fused", axis=TOKEN_AXIS)

    redirect(graph, block.stream, reduce)


def _ranked(step: Step, block: TokenBlock, tokens: int, count: int) -> tuple[ir.Value, ir.Value]:
    """Scores and indices (count,) of the tokens that matter most, the prefix first."""
    attention = block.attention  # (1, H, N, N)
    if block.has_class_token:
        row = [step.ints("row_start", 0), step.ints("row_end", 1), step.ints("row_axis", QUERY_AXIS)]
        attention = step.op("Slice", [attention, *row], "class_attention")  # (1, H, 1, N)
    scores = step.reduced("ReduceSum", attention, [0, 1, QUERY_AXIS], "scores")  # (N,)
    if block.prefix:
        scores = step.op("Max", [scores, step.array("least_scores", _least_scores(block, tokens))], "ranks")
    types = {"top_scores": ir.DataType.FLOAT, "top_indices": ir.DataType.INT64}
    values, indices = step.typed("TopK", [scores, step.ints("count", count)], types, axis=0, sorted=1)
    return values, indices


def _least_scores(block: TokenBlock, tokens: int) -> NDArray[np.float32]:
    """(N,): for the prefix more than any patch has, and falling, so that it keeps its order whatever breaks ties."""
    shape = sizes(block.attention)
    assert shape is not None
    _, heads, queries, _ = shape
    most = heads * (1 if block.has_class_token else queries)
    prefix = most + np.arange(block.prefix, 0, -1)
    return np.concatenate([prefix, np.full(tokens - block.prefix, LEAST_SCORE)]).astype(np.float32)
