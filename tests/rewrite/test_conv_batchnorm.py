from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.conv_batchnorm import fold_batchnorm


def batch_norm(sketch: Sketch, x: str, channels: int) -> str:
    scale, bias, mean = (sketch.noise(channels) for _ in range(3))
    variance = sketch.constant(np.random.default_rng(channels).uniform(0.3, 3.0, channels))
    return sketch.op("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["Conv", "ConvTranspose"]),
    groups=st.sampled_from([1, 2]),
    has_bias=st.booleans(),
    is_before=st.booleans(),
    pads=st.sampled_from([0, 1]),
)
def test_a_batch_norm_beside_a_convolution_goes_where_that_is_exact(
    kind: str, groups: int, has_bias: bool, is_before: bool, pads: int
) -> None:
    sketch = Sketch((2, 4, 5, 5))
    shape = (6, 4 // groups, 3, 3) if kind == "Conv" else (4, 6 // groups, 3, 3)
    x = batch_norm(sketch, "input", 4) if is_before else "input"
    bias = [sketch.noise(6)] if has_bias else []
    x = sketch.op(kind, x, sketch.noise(*shape), *bias, group=groups, pads=[pads] * 4)
    model = sketch.model(sketch.op("Relu", x if is_before else batch_norm(sketch, x, 6)))
    folded = rewritten_same(fold_batchnorm, model)
    stays = is_before and (pads == 1 or kind == "ConvTranspose")
    assert kinds(folded)["BatchNormalization"] == stays


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_batch_norm_of_rows_goes_into_the_product_before_or_after(has_bias: bool) -> None:
    sketch = Sketch((3, 4))
    x = sketch.linear(batch_norm(sketch, "input", 4), 4, 6, has_bias)
    model = sketch.model(sketch.op("Relu", batch_norm(sketch, x, 6)))
    assert kinds(rewritten_same(fold_batchnorm, model)) == {"MatMul": 1, "Add": 1, "Relu": 1}


def test_a_batch_norm_over_tokens_is_not_taken_for_one_over_channels() -> None:
    sketch = Sketch((2, 6, 6))
    model = sketch.model(sketch.op("Relu", batch_norm(sketch, sketch.linear("input", 6, 6), 6)))
    assert fold_batchnorm(model) is model


def test_what_another_operator_reads_keeps_its_batch_norm() -> None:
    sketch = Sketch((2, 4, 5, 5))
    x = sketch.op("Conv", "input", sketch.noise(4, 4, 1, 1))
    model = sketch.model(sketch.op("Add", x, batch_norm(sketch, x, 4)))
    assert fold_batchnorm(model) is model


def test_real_graphs_have_none_left_but_for_branches_of_a_batch_norm_alone(
    family: str, family_graph: onnx.ModelProto
) -> None:
    """FastViT before its fusion adds a batch norm of a block's input to the convolutions of it."""
    left = kinds(rewritten_same(fold_batchnorm, family_graph))["BatchNormalization"]
    assert (left > 0) == (family == "fastvit")
