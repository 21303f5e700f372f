from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, outputs_of, rewritten_same

from edgevit.policy import NORM_PART
from edgevit.rewrite.norm_parts import write_out_layer_norm


def norm(sketch: Sketch, width: int, has_offset: bool = True, **attributes: object) -> str:
    inputs = [sketch.noise(width), *([sketch.noise(width)] if has_offset else [])]
    return sketch.op("LayerNormalization", "input", *inputs, **{"axis": -1, "epsilon": 1e-6, **attributes})


@settings(max_examples=30, deadline=None)
@given(
    outer=st.lists(st.integers(1, 4), min_size=1, max_size=3), width=st.integers(2, 9),
    epsilon=st.sampled_from([1e-6, 1e-2]), has_offset=st.booleans(), opset=st.sampled_from([17, 18]),
)  # fmt: skip
def test_a_norm_written_out_computes_the_same(
    outer: list[int], width: int, epsilon: float, has_offset: bool, opset: int
) -> None:
    sketch = Sketch((*outer, width), opset=opset)
    model = sketch.model(sketch.op("Relu", norm(sketch, width, has_offset, epsilon=epsilon)))
    result = kinds(rewritten_same(write_out_layer_norm, model))
    assert (result["LayerNormalization"], result["ReduceMean"], result["Sqrt"]) == (0, 2, 1)


def test_a_row_by_hand() -> None:
    sketch = Sketch((1, 2))
    gain, offset = sketch.constant([2.0, 3.0]), sketch.constant([10.0, 20.0])
    model = sketch.model(sketch.op("LayerNormalization", "input", gain, offset, axis=-1, epsilon=3.0))
    x = np.array([[0.0, 2.0]], np.float32)  # mean 1, variance 1, √(1 + 3) = 2
    np.testing.assert_allclose(outputs_of(write_out_layer_norm(model), x)[0], [[9.0, 21.5]], atol=1e-6)


def test_the_parts_whose_numbers_float16_cannot_hold_are_named_so() -> None:
    sketch = Sketch((1, 5, 4))
    result = write_out_layer_norm(sketch.model(norm(sketch, 4)))
    named = [node.op_type for node in result.graph.node if NORM_PART in node.name]
    assert named == ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div"]
    assert len(result.graph.node) == len(named) + 2  # gain and offset


@pytest.mark.parametrize("attributes", [{"axis": 1}, {"axis": 0}])
def test_another_axis_stays(attributes: dict[str, int]) -> None:
    sketch = Sketch((2, 3, 4))
    gain = sketch.noise(*(3, 4) if attributes["axis"] == 1 else (2, 3, 4))
    model = sketch.model(sketch.op("LayerNormalization", "input", gain, **attributes))
    assert write_out_layer_norm(model) is model


def test_a_free_batch_size_stays() -> None:
    sketch = Sketch(("batch", 3, 4))
    model = sketch.model(norm(sketch, 4))
    assert write_out_layer_norm(model) is model
