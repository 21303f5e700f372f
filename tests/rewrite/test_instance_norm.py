from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, normal, outputs_of, rewritten_same

from edgevit.rewrite.instance_norm import normalize_rows_as_instances
from edgevit.rewrite.layer_norm import fold_layer_norm_affine


def norm(sketch: Sketch, width: int, gain: float = 1.0, offset: float | None = None, **attributes: object) -> str:
    inputs = [sketch.constant(np.full(width, gain))]
    inputs += [] if offset is None else [sketch.constant(np.full(width, offset))]
    return sketch.op("LayerNormalization", "input", *inputs, **{"axis": -1, "epsilon": 1e-6, **attributes})


@settings(max_examples=30, deadline=None)
@given(
    outer=st.lists(st.integers(1, 4), min_size=1, max_size=3), width=st.integers(2, 9),
    epsilon=st.sampled_from([1e-6, 1e-2]), offset=st.sampled_from([None, 0.0]),
)  # fmt: skip
def test_a_norm_of_rows_is_one_of_instances(outer: list[int], width: int, epsilon: float, offset: float | None) -> None:
    sketch = Sketch((*outer, width))
    model = sketch.model(sketch.op("Relu", norm(sketch, width, offset=offset, epsilon=epsilon)))
    result = kinds(rewritten_same(normalize_rows_as_instances, model))
    assert (result["InstanceNormalization"], result["LayerNormalization"]) == (1, 0)


def test_each_row_has_the_mean_and_variance_of_its_own_by_hand() -> None:
    sketch = Sketch((1, 2, 2))
    model = normalize_rows_as_instances(sketch.model(norm(sketch, 2, epsilon=3.0)))
    x = np.array([[[0.0, 2.0], [10.0, 10.0]]], np.float32)  # variances 1 and 0
    np.testing.assert_allclose(outputs_of(model, x)[0], [[[-0.5, 0.5], [0.0, 0.0]]], atol=1e-6)


def test_rows_of_a_large_mean_stay_as_exact_as_the_operator_s_own() -> None:
    sketch = Sketch((1, 5, 16))
    model = sketch.model(norm(sketch, 16))
    rewritten_same(normalize_rows_as_instances, model, 1e-3, normal((1, 5, 16)) + 100.0)


@pytest.mark.parametrize(
    ("gain", "offset", "attributes"),
    [(2.0, None, {}), (1.0, 0.5, {}), (1.0, None, {"axis": 1})],
    ids=["gain", "offset", "axis"],
)
def test_an_affine_part_and_another_axis_stay(gain: float, offset: float | None, attributes: dict[str, int]) -> None:
    sketch = Sketch((2, 1, 4))
    model = sketch.model(norm(sketch, 4, gain, offset, **attributes))
    assert normalize_rows_as_instances(model) is model


def test_a_free_batch_size_stays() -> None:
    sketch = Sketch(("batch", 3, 4))
    model = sketch.model(norm(sketch, 4))
    assert normalize_rows_as_instances(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    model = fold_layer_norm_affine(family_graph)
    result = rewritten_same(normalize_rows_as_instances, model)
    assert (kinds(result)["InstanceNormalization"] > 0) == (family not in ("efficientvit", "fastvit"))
