from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.identity_conv import fold_identity

C = 4


def depthwise(sketch: Sketch, x: str, kernel: int = 3, bias: bool = True, **attributes: object) -> str:
    inputs = [sketch.noise(C, 1, kernel, kernel), *([sketch.noise(C)] if bias else [])]
    return sketch.op("Conv", x, *inputs, **{"group": C, "pads": [kernel // 2] * 4, **attributes})


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.sampled_from([1, 3, 5]), dilation=st.integers(1, 2), bias=st.booleans(), is_first=st.booleans(),
    side=st.integers(3, 7),
)  # fmt: skip
def test_a_sum_with_the_convolution_s_own_input_becomes_part_of_it(
    kernel: int, dilation: int, bias: bool, is_first: bool, side: int
) -> None:
    sketch = Sketch((2, C, side, side + 1))
    pads = [dilation * (kernel // 2)] * 4
    y = depthwise(sketch, "input", kernel, bias, pads=pads, dilations=[dilation, dilation])
    model = sketch.model(sketch.op("Add", *(("input", y) if is_first else (y, "input"))))
    assert kinds(rewritten_same(fold_identity, model)) == {"Conv": 1}


def test_one_is_added_to_the_middle_of_each_kernel() -> None:
    sketch = Sketch((1, C, 5, 5))
    model = sketch.model(sketch.op("Add", "input", depthwise(sketch, "input")))
    before = numpy_helper.to_array(model.graph.initializer[0])
    result = rewritten_same(fold_identity, model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    added = weights[result.graph.node[0].input[1]] - before
    expected = np.zeros((C, 1, 3, 3))
    expected[:, :, 1, 1] = 1
    np.testing.assert_allclose(added, expected, atol=1e-6)


def test_two_in_a_row_are_both_folded() -> None:
    sketch = Sketch((1, C, 5, 5))
    x = sketch.op("Add", "input", depthwise(sketch, "input"))
    model = sketch.model(sketch.op("Add", depthwise(sketch, x, 5), x))
    assert kinds(rewritten_same(fold_identity, model)) == {"Conv": 2}


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [(3, {"pads": [0, 0, 2, 2]}), (2, {"pads": [0, 0, 1, 1]}), (3, {"auto_pad": "SAME_UPPER", "pads": []})],
)
def test_a_kernel_without_a_middle_of_its_own_stays(kernel: int, attributes: dict[str, object]) -> None:
    sketch = Sketch((1, C, 5, 5))
    given = {"group": C, "pads": [1] * 4, **attributes}
    y = sketch.op("Conv", "input", sketch.noise(C, 1, kernel, kernel), **{k: v for k, v in given.items() if v})
    model = sketch.model(sketch.op("Add", "input", y))
    assert fold_identity(model) is model


def test_a_sum_with_something_else_and_a_second_reader_stay() -> None:
    sketch = Sketch((1, C, 5, 5))
    other = sketch.op("Tanh", "input")
    model = sketch.model(sketch.op("Add", other, depthwise(sketch, "input")))
    assert fold_identity(model) is model
    sketch = Sketch((1, C, 5, 5))
    y = depthwise(sketch, "input")
    model = sketch.model(sketch.op("Add", "input", y), sketch.op("Tanh", y))
    assert fold_identity(model) is model


def test_a_dense_convolution_stays() -> None:
    sketch = Sketch((1, C, 5, 5))
    y = sketch.op("Conv", "input", sketch.noise(C, C, 3, 3), pads=[1] * 4)
    model = sketch.model(sketch.op("Add", "input", y))
    assert fold_identity(model) is model


def test_a_broadcast_sum_stays() -> None:
    sketch = Sketch((1, C, 1, 1))
    y = sketch.op("Conv", "input", sketch.noise(C, 1, 3, 3), group=C, pads=[2] * 4)  # (1, C, 3, 3)
    model = sketch.model(sketch.op("Add", "input", y))
    assert fold_identity(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    result = rewritten_same(fold_identity, family_graph)
    folded = kinds(family_graph)["Add"] - kinds(result)["Add"]
    assert (folded > 0) == (family == "efficientvit")
