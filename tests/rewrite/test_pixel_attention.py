from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.attention_layout import fold_attention_scale
from edgevit.rewrite.channels_last import TO_FIRST, TO_LAST
from edgevit.rewrite.layout import remove_dead_layout
from edgevit.rewrite.pixel_attention import attend_with_channels_last

B, H, W = 2, 3, 4


def head(sketch: Sketch, channels: int, width: int, is_spread: bool = True) -> str:
    """softmax(qᵀ k), and v times it transposed, as timm's EfficientViT writes a head; (B, width, H, W)."""

    def conv(out: int) -> str:
        return sketch.op("Conv", "input", sketch.noise(out, channels, 1, 1))

    def flat(x: str, size: int) -> str:
        return sketch.op("Reshape", x, sketch.numbers(B, size, H * W))

    q, k, v = flat(conv(channels), channels), flat(conv(channels), channels), flat(conv(width), width)
    scores = sketch.op("MatMul", sketch.op("Transpose", q, perm=[0, 2, 1]), k)
    attention = sketch.op("Softmax", scores, axis=-1)
    y = sketch.op("MatMul", v, sketch.op("Transpose", attention, perm=[0, 2, 1]))
    return sketch.op("Reshape", y, sketch.numbers(B, width, H, W)) if is_spread else y


def orders(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    return [tuple(node.attribute[0].ints) for node in model.graph.node if node.op_type == "Transpose"]


@settings(max_examples=15, deadline=None)
@given(channels=st.integers(1, 4), width=st.integers(1, 5))
def test_a_head_changes_its_layout_only_where_pictures_are(channels: int, width: int) -> None:
    sketch = Sketch((B, channels, H, W))
    model = sketch.model(sketch.op("Relu", head(sketch, channels, width)))
    result = rewritten_same(attend_with_channels_last, model)
    assert sorted(orders(result)) == sorted([TO_LAST, TO_LAST, TO_FIRST])  # queries, values, and what comes out
    assert kinds(result)["MatMul"] == 2


def test_the_keys_stay_as_they_are() -> None:
    sketch = Sketch((B, 3, H, W))
    result = attend_with_channels_last(sketch.model(sketch.op("Relu", head(sketch, 3, 3))))
    scores = next(node for node in result.graph.node if node.op_type == "MatMul")
    keys = next(node for node in result.graph.node if scores.input[1] in node.output)
    assert keys.op_type == "Reshape"


def test_a_product_that_is_no_picture_afterwards_keeps_its_order() -> None:
    sketch = Sketch((B, 3, H, W))
    model = sketch.model(sketch.op("Relu", head(sketch, 3, 3, is_spread=False)))
    result = rewritten_same(attend_with_channels_last, model)
    assert sorted(orders(result)) == sorted([TO_LAST, (0, 2, 1)])  # only the queries' layout was changed


@pytest.mark.parametrize("shape", [(B, 6, 1, 5), (B, 6, 5, 1)])
def test_rows_that_were_no_picture_stay(shape: tuple[int, ...]) -> None:
    sketch = Sketch(shape)
    flat = sketch.op("Reshape", sketch.op("Tanh", "input"), sketch.numbers(B, 6, 5))
    model = sketch.model(sketch.op("Relu", sketch.op("Transpose", flat, perm=[0, 2, 1])))
    assert attend_with_channels_last(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    model = remove_dead_layout(fold_attention_scale(family_graph))
    result = rewritten_same(attend_with_channels_last, model)
    if family == "efficientvit":
        assert TO_LAST in orders(result)
        assert (0, 2, 1) not in orders(result)
