from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.heads import merge_heads, pool_before_linear

TOKENS, WIDTH, CLASSES = 5, 4, 3


def head(sketch: Sketch, x: str, is_gemm: bool) -> str:
    if is_gemm:
        return sketch.op("Gemm", x, sketch.noise(CLASSES, WIDTH), sketch.noise(CLASSES), transB=1)
    return sketch.linear(x, WIDTH, CLASSES)


def token(sketch: Sketch, index: int) -> str:
    return sketch.op("Gather", "input", sketch.constant(index, int), axis=1)


@settings(max_examples=25, deadline=None)
@given(
    first=st.integers(0, TOKENS - 1),
    second=st.integers(0, TOKENS - 1),
    kinds_of_heads=st.tuples(st.booleans(), st.booleans()),
    half=st.sampled_from(["none", "Div", "Mul"]),
    tokens=st.sampled_from([2, TOKENS]),
)
def test_two_heads_say_the_same_as_one(
    first: int, second: int, kinds_of_heads: tuple[bool, bool], half: str, tokens: int
) -> None:
    sketch = Sketch((2, tokens, WIDTH))
    heads = [
        head(sketch, token(sketch, index % tokens), is_gemm)
        for index, is_gemm in zip((first, second), kinds_of_heads, strict=True)
    ]
    y = sketch.op("Add", *heads)
    if half != "none":
        y = sketch.op(half, y, sketch.constant(2.0 if half == "Div" else 0.5))
    merged = kinds(rewritten_same(merge_heads, sketch.model(y)))
    assert merged["Gemm"] == 1
    assert not {"MatMul", "Add", "Div", "Mul"} & set(merged)


def test_the_only_two_tokens_are_read_by_a_reshape() -> None:
    sketch = Sketch((2, 2, WIDTH))
    model = sketch.model(sketch.op("Add", *(head(sketch, token(sketch, index), True) for index in (0, 1))))
    assert kinds(rewritten_same(merge_heads, model)) == {"Reshape": 1, "Gemm": 1}


def test_two_heads_of_one_tensor_are_one_layer() -> None:
    sketch = Sketch((2, WIDTH))
    model = sketch.model(sketch.op("Add", head(sketch, "input", True), head(sketch, "input", False)))
    assert kinds(rewritten_same(merge_heads, model)) == {"Gemm": 1}


def test_logits_that_are_outputs_too_keep_their_heads() -> None:
    sketch = Sketch((2, WIDTH))
    first, second = head(sketch, "input", True), head(sketch, "input", True)
    model = sketch.model(sketch.op("Add", first, second), first)
    assert merge_heads(model) is model


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["linear", "scale", "bias", "relu", "residual"]), min_size=1, max_size=5),
    keepdims=st.booleans(),
    opset=st.sampled_from([17, 18]),
)
def test_the_mean_over_tokens_passes_what_is_linear(steps: list[str], keepdims: bool, opset: int) -> None:
    sketch = Sketch((2, TOKENS, WIDTH), opset)
    x, earlier = "input", "input"
    for step in steps:
        earlier, last = x, earlier
        if step == "linear":
            x = sketch.linear(x, WIDTH, WIDTH)
        elif step == "scale":
            x = sketch.op("Mul", x, sketch.noise(WIDTH))
        elif step == "bias":
            x = sketch.op("Add", sketch.noise(1, TOKENS, WIDTH), x)  # of each token: it stays before the mean
        elif step == "relu":
            x = sketch.op("Relu", x)
        else:
            x = sketch.op("Add", x, last)
    axes = {"axes": [1]} if opset < 18 else {}
    given_axes = [sketch.numbers(1)] if opset >= 18 else []
    model = sketch.model(sketch.op("Relu", sketch.op("ReduceMean", x, *given_axes, keepdims=int(keepdims), **axes)))
    pooled = rewritten_same(pool_before_linear, model)
    if steps[-1] == "linear":
        assert pooled is not model
    if "linear" not in steps:
        assert pooled is model


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean"])
def test_a_pointwise_convolution_before_a_residual_add_is_computed_for_one_pixel(pool: str) -> None:
    sketch = Sketch((1, WIDTH, 3, 3))
    inner = sketch.op("Relu", sketch.op("Conv", "input", sketch.noise(8, WIDTH, 1, 1)))
    total = sketch.op("Add", "input", sketch.op("Conv", inner, sketch.noise(WIDTH, 8, 1, 1), sketch.noise(WIDTH)))
    axes = [sketch.numbers(-1, -2)] if pool == "ReduceMean" else []
    pooled = rewritten_same(pool_before_linear, sketch.model(sketch.op("Relu", sketch.op(pool, total, *axes))))
    last = [node for node in pooled.graph.node if node.op_type == "Conv"][-1]
    shape = next(info for info in pooled.graph.value_info if info.name == last.output[0]).type.tensor_type.shape
    assert [size.dim_value for size in shape.dim] == [1, WIDTH, 1, 1]


@pytest.mark.parametrize(
    ("kernel", "attributes"), [(3, {}), (1, {"pads": [1, 1, 1, 1]}), (1, {"strides": [2, 2]})], ids=str
)
def test_a_convolution_that_mixes_or_leaves_out_pixels_stays_before_the_mean(
    kernel: int, attributes: dict[str, list[int]]
) -> None:
    sketch = Sketch((1, WIDTH, 5, 5))
    conv = sketch.op("Conv", "input", sketch.noise(WIDTH, WIDTH, kernel, kernel), **attributes)
    model = sketch.model(sketch.op("GlobalAveragePool", conv))
    assert pool_before_linear(model) is model


def test_a_mean_over_channels_stays_after_their_layer() -> None:
    sketch = Sketch((2, TOKENS, WIDTH))
    model = sketch.model(sketch.op("ReduceMean", sketch.linear("input", WIDTH, WIDTH), sketch.numbers(-1)))
    assert pool_before_linear(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    rewritten_same(pool_before_linear, family_graph)
    merged = rewritten_same(merge_heads, family_graph)
    assert (merged is not family_graph) == (family == "deit distilled")
