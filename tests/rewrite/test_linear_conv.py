from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, outputs_of, rewritten_same

from edgevit.rewrite.linear_conv import convolve_rows


@settings(max_examples=30, deadline=None)
@given(
    outer=st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(lambda sizes: np.prod(sizes) > 1),
    width=st.integers(1, 6), out=st.integers(1, 6), bias=st.booleans(), relu=st.booleans(),
)  # fmt: skip
def test_a_linear_layer_of_rows_is_a_convolution(
    outer: list[int], width: int, out: int, bias: bool, relu: bool
) -> None:
    sketch = Sketch((*outer, width))
    y = sketch.linear("input", width, out, bias)
    result = kinds(rewritten_same(convolve_rows, sketch.model(sketch.op("Relu", y) if relu else y)))
    assert (result["Conv"], result["MatMul"], result["Add"]) == (1, 0, 0)


def test_rows_are_pixels_by_hand() -> None:
    sketch = Sketch((2, 2))
    product = sketch.op("MatMul", "input", sketch.constant([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    model = convolve_rows(sketch.model(sketch.op("Add", product, sketch.constant([0.1, 0.2, 0.3]))))
    found = outputs_of(model, np.array([[1.0, 0.0], [1.0, 1.0]], np.float32))[0]
    np.testing.assert_allclose(found, [[1.1, 2.2, 3.3], [11.1, 22.2, 33.3]], rtol=1e-6)


def test_queries_keys_and_values_share_one_picture_of_their_rows() -> None:
    sketch = Sketch((1, 5, 4))
    parts = [sketch.linear("input", 4, 4) for _ in range(3)]
    result = rewritten_same(convolve_rows, sketch.model(*parts))
    convs = [node for node in result.graph.node if node.op_type == "Conv"]
    assert len({node.input[0] for node in convs}) == 1
    assert kinds(result)["Transpose"] == 1 + 3


@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 4), ("batch", 3, 4)])
def test_one_row_and_unknown_sizes_stay(shape: tuple[int | str, ...]) -> None:
    sketch = Sketch(shape)
    model = sketch.model(sketch.linear("input", 4, 3))
    assert convolve_rows(model) is model


def test_a_product_of_activations_stays() -> None:
    sketch = Sketch((2, 4, 4))
    model = sketch.model(sketch.op("MatMul", "input", sketch.op("Tanh", "input")))
    assert convolve_rows(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    result = rewritten_same(convolve_rows, family_graph)
    assert (result is family_graph) == (family in ("efficientvit", "fastvit"))
