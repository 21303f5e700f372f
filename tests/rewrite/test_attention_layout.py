from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.attention_fusion import fuse_attention
from edgevit.rewrite.attention_layout import fold_attention_scale, split_attention_inputs

TOKENS, HEADS, DEPTH = 5, 2, 4
WIDTH = HEADS * DEPTH
SCALE = 1 / math.sqrt(DEPTH)
SCALES = ("none", "queries", "keys", "both", "scores", "division")


def parts(sketch: Sketch, x: str, batch: int, how: str, bias: bool) -> list[str]:
    """q, k and v, (B, H, N, d) each, of one linear layer."""
    qkv = sketch.linear(x, WIDTH, 3 * WIDTH, bias)
    if how == "head by head":  # LeViT: each head's q, k and v side by side
        heads = sketch.op("Reshape", qkv, sketch.numbers(batch, TOKENS, HEADS, 3 * DEPTH))
        first = sketch.op("Split", heads, sketch.numbers(DEPTH, DEPTH, DEPTH), outputs=3, axis=3)
        return [sketch.op("Transpose", first[:-1] + str(index), perm=[0, 2, 1, 3]) for index in range(3)]
    parted = sketch.op("Reshape", qkv, sketch.numbers(batch, TOKENS, 3, HEADS, DEPTH))
    stacked = sketch.op("Transpose", parted, perm=[2, 0, 3, 1, 4])
    if how == "gather":
        return [sketch.op("Gather", stacked, sketch.constant(index, int), axis=0) for index in range(3)]
    if how == "split":
        first = sketch.op("Split", stacked, outputs=3, axis=0, num_outputs=3)
        return [sketch.op("Squeeze", first[:-1] + str(index), sketch.numbers(0)) for index in range(3)]
    cuts = [
        sketch.op("Slice", stacked, sketch.numbers(index), sketch.numbers(index + 1), sketch.numbers(0))
        for index in range(3)
    ]
    return [sketch.op("Squeeze", cut, sketch.numbers(0)) for cut in cuts]


def attention(
    batch: int = 1, how: str = "slice", scale: str = "queries", bias: bool = True, mask: bool = False
) -> onnx.ModelProto:
    sketch = Sketch((batch, TOKENS, WIDTH))
    q, k, v = parts(sketch, "input", batch, how, bias)
    root = sketch.constant(math.sqrt(SCALE))
    if scale == "queries":
        q = sketch.op("Mul", q, sketch.constant(SCALE))
    if scale == "both":
        q, k = sketch.op("Mul", q, root), sketch.op("Mul", root, k)
    k = sketch.op("Transpose", k, perm=[0, 1, 3, 2])
    if scale == "keys":
        k = sketch.op("Mul", k, sketch.constant(SCALE))
    scores = sketch.op("MatMul", q, k)
    if scale == "scores":
        scores = sketch.op("Mul", scores, sketch.constant([SCALE]))
    if scale == "division":
        scores = sketch.op("Div", scores, sketch.constant(math.sqrt(DEPTH)))
    if mask:
        scores = sketch.op("Add", scores, sketch.noise(1, HEADS, TOKENS, TOKENS))
    weighted = sketch.op("MatMul", sketch.op("Softmax", scores, axis=-1), v)
    tokens = sketch.op("Transpose", weighted, perm=[0, 2, 1, 3])
    merged = sketch.op("Reshape", tokens, sketch.numbers(batch, TOKENS, WIDTH))
    return sketch.model(sketch.linear(merged, WIDTH, WIDTH))


@settings(max_examples=20, deadline=None)
@given(
    batch=st.sampled_from([1, 4]), how=st.sampled_from(["slice", "gather", "split", "head by head"]),
    scale=st.sampled_from(SCALES), bias=st.booleans(), mask=st.booleans(),
)  # fmt: skip
def test_attention_says_the_same_however_it_is_written(
    batch: int, how: str, scale: str, bias: bool, mask: bool
) -> None:
    model = attention(batch, how, scale, bias, mask)
    split = rewritten_same(split_attention_inputs, model)
    assert kinds(split)["MatMul"] == 6
    assert not {"Slice", "Squeeze", "Split", "Gather"} & set(kinds(split))
    for graph in (model, split):
        folded = rewritten_same(fold_attention_scale, graph)
        assert (folded is graph) == (scale == "none")
        assert not {"Mul", "Div"} & set(kinds(folded))
    fused = rewritten_same(fuse_attention, model)
    assert (fused is model) == mask
    assert kinds(fused)["MultiHeadAttention"] == (not mask)


def qkv_weights(model: onnx.ModelProto) -> NDArray[np.float32]:
    tensors = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    return next(array for array in tensors if array.shape == (WIDTH, 3 * WIDTH))


def test_each_part_needs_one_transpose() -> None:
    """Keys go from (B, N, H, d) to (B, H, d, N) at once; with the output's that makes four."""
    assert kinds(split_attention_inputs(attention(scale="none")))["Transpose"] == 4


def test_one_operator_and_three_layers_are_left_of_plain_attention() -> None:
    fused = fuse_attention(attention())
    assert kinds(fused) == {"MatMul": 4, "Add": 4, "MultiHeadAttention": 1}


def test_a_scale_on_both_sides_is_folded_as_one_factor() -> None:
    model = attention(scale="both")
    before, after = qkv_weights(model), qkv_weights(fold_attention_scale(model))
    expected = np.concatenate([before[:, :WIDTH] * SCALE, before[:, WIDTH:]], axis=1)  # q's third alone
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_queries_that_are_read_by_others_too_keep_their_scale() -> None:
    sketch = Sketch((1, TOKENS, WIDTH))
    q, k, _ = parts(sketch, "input", 1, "slice", True)
    scores = sketch.op(
        "MatMul", sketch.op("Mul", q, sketch.constant(SCALE)), sketch.op("Transpose", k, perm=[0, 1, 3, 2])
    )
    model = sketch.model(scores, sketch.op("Relu", q))
    assert fold_attention_scale(model) is model


def test_a_scale_after_a_norm_of_the_queries_stays() -> None:
    sketch = Sketch((1, TOKENS, WIDTH))
    q, k, _ = parts(sketch, "input", 1, "slice", True)
    normed = sketch.op("LayerNormalization", q, sketch.noise(DEPTH), axis=-1)
    scores = sketch.op(
        "MatMul", sketch.op("Mul", normed, sketch.constant(SCALE)), sketch.op("Transpose", k, perm=[0, 1, 3, 2])
    )
    model = sketch.model(scores)
    assert fold_attention_scale(model) is model


@pytest.mark.parametrize("group", [1, WIDTH])
def test_queries_of_a_convolution_take_their_scale_too(group: int) -> None:
    """EfficientViT: q from a depthwise convolution, (B, C, H, W) to (B, C, N)."""
    sketch = Sketch((1, WIDTH, 3, 3))
    conv = sketch.op("Conv", "input", sketch.noise(WIDTH, WIDTH // group, 1, 1), sketch.noise(WIDTH), group=group)
    q, k = (sketch.op("Reshape", x, sketch.numbers(1, WIDTH, 9)) for x in (conv, "input"))
    q = sketch.op("Transpose", sketch.op("Mul", q, sketch.constant(0.25)), perm=[0, 2, 1])
    model = sketch.model(sketch.op("MatMul", q, k))
    assert kinds(rewritten_same(fold_attention_scale, model))["Mul"] == 0


def test_a_free_batch_size_leaves_attention_as_it_is() -> None:
    sketch = Sketch(("batch", TOKENS, WIDTH))
    q, k, _ = parts(sketch, "input", -1, "slice", True)
    model = sketch.model(sketch.op("MatMul", q, sketch.op("Transpose", k, perm=[0, 1, 3, 2])))
    assert split_attention_inputs(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    split = rewritten_same(split_attention_inputs, family_graph)
    assert (split is family_graph) == (family in ("efficientvit", "fastvit"))
    folded = rewritten_same(fold_attention_scale, family_graph)
    assert (folded is family_graph) == (family == "fastvit")
    fused = rewritten_same(fuse_attention, family_graph)
    assert ("Softmax" in kinds(fused)) == (family in ("efficientvit", "swin"))  # both add a bias to the scores
