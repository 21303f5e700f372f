from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.wide_conv import widen_convolutions


def strided(sketch: Sketch, filters: int, kernel: int = 3, bias: bool = True, **attributes: object) -> str:
    inputs = [sketch.noise(filters, sketch.shape[1], kernel, kernel), *([sketch.noise(filters)] if bias else [])]  # type: ignore[arg-type]
    return sketch.op("Conv", "input", *inputs, **{"strides": [2, 2], "pads": [1, 1, 1, 1], **attributes})


def conv_of(model: onnx.ModelProto) -> tuple[np.ndarray, dict[str, list[int]]]:
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    return numpy_helper.to_array(weights), {a.name: list(a.ints) for a in node.attribute if a.ints}


def test_a_stem_makes_four_neighbouring_outputs_at_a_time() -> None:
    sketch = Sketch((1, 3, 16, 16))
    model = sketch.model(sketch.op("Relu", strided(sketch, 8)))
    result = rewritten_same(widen_convolutions, model)
    assert kinds(result) == {"Conv": 1, "Relu": 1, "Transpose": 2, "Reshape": 1}
    assert [node.op_type for node in result.graph.node][:2] == ["Conv", "Relu"]  # ONNX Runtime makes one of both
    weights, attributes = conv_of(result)
    assert weights.shape == (4 * 8, 3, 3, 9)  # 3 + 3 strides of 2
    assert attributes["strides"] == [2, 8]
    assert attributes["pads"] == [1, 1, 1, 0]  # (8 - 1) * 2 + 3 columns are seen: 1 before the picture's 16


def test_the_weights_are_the_same_ones_a_stride_on_and_zeros() -> None:
    sketch = Sketch((1, 3, 16, 16))
    model = sketch.model(strided(sketch, 8))
    narrow, _ = conv_of(model)
    wide, _ = conv_of(rewritten_same(widen_convolutions, model))
    for index, part in enumerate(wide.reshape(4, 8, 3, 3, 9)):
        np.testing.assert_array_equal(part[..., 2 * index : 2 * index + 3], narrow)
        assert np.count_nonzero(part) == np.count_nonzero(narrow)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2), channels=st.integers(1, 8), filters=st.integers(1, 9), height=st.integers(5, 9),
    width=st.integers(8, 40), kernel=st.integers(2, 5), stride=st.integers(2, 3), left=st.integers(0, 2),
    right=st.integers(0, 2), bias=st.booleans(), relu=st.booleans(),
)  # fmt: skip
def test_any_strided_convolution_computes_the_same(
    batch: int, channels: int, filters: int, height: int, width: int, kernel: int, stride: int, left: int, right: int,
    bias: bool, relu: bool,
) -> None:  # fmt: skip
    sketch = Sketch((batch, channels, height, width))
    y = strided(sketch, filters, kernel, bias, strides=[2, stride], pads=[1, left, 0, right])
    rewritten_same(widen_convolutions, sketch.model(sketch.op("Relu", y) if relu else y))


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [1, 1]},
        {"strides": [2, 1]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
        {"auto_pad": "SAME_UPPER", "pads": []},
    ],
)
def test_what_gains_nothing_or_is_not_plain_stays(attributes: dict[str, object]) -> None:
    sketch = Sketch((1, 3, 16, 16))
    inputs = ["input", sketch.noise(8, 3, 3, 3)]
    given = {"strides": [2, 2], "pads": [1, 1, 1, 1], **attributes}
    model = sketch.model(sketch.op("Conv", *inputs, **{key: value for key, value in given.items() if value}))
    assert widen_convolutions(model) is model


@pytest.mark.parametrize(
    ("shape", "filters", "kernel"),
    [
        ((1, 64, 16, 16), 128, 3),  # enough channels to multiply
        ((1, 3, 32, 32), 192, 16),  # a patch embedding: nothing overlaps
        ((1, 3, 18, 18), 8, 3),  # 9 outputs a row: neither 2 nor 4 at a time
        (("batch", 3, 16, 16), 8, 3),  # sizes must be known
    ],
)
def test_a_convolution_that_would_not_be_cheaper_stays(shape: tuple[int | str, ...], filters: int, kernel: int) -> None:
    sketch = Sketch(shape)
    stride = 16 if kernel == 16 else 2
    model = sketch.model(strided(sketch, filters, kernel, strides=[stride] * 2, pads=[int(kernel == 3)] * 4))
    assert widen_convolutions(model) is model


def test_a_grouped_convolution_stays() -> None:
    sketch = Sketch((1, 4, 16, 16))
    weights = sketch.noise(4, 1, 3, 3)
    model = sketch.model(sketch.op("Conv", "input", weights, strides=[2, 2], pads=[1, 1, 1, 1], group=4))
    assert widen_convolutions(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    result = rewritten_same(widen_convolutions, family_graph)
    assert (result is family_graph) == (family in ("vit", "deit distilled"))  # enough to multiply
