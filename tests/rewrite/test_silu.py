from __future__ import annotations

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.silu import fuse_silu


@settings(max_examples=15, deadline=None)
@given(sides=st.lists(st.booleans(), min_size=1, max_size=4), shape=st.sampled_from([(4,), (1, 3, 4), (2, 3, 2, 2)]))
def test_a_sigmoid_times_its_own_input_becomes_one_operator(sides: list[bool], shape: tuple[int, ...]) -> None:
    sketch = Sketch(shape)
    x = "input"
    for is_left in sides:
        gate = sketch.op("Sigmoid", x)
        x = sketch.op("Mul", *((gate, x) if is_left else (x, gate)))
    assert kinds(rewritten_same(fuse_silu, sketch.model(x), 1e-6)) == {"QuickGelu": len(sides)}


def test_a_gate_of_another_tensor_is_left_alone() -> None:
    sketch = Sketch((2, 5))
    model = sketch.model(sketch.op("Mul", "input", sketch.op("Sigmoid", sketch.op("Neg", "input"))))
    assert fuse_silu(model) is model


def test_a_sigmoid_that_is_read_twice_is_left_alone() -> None:
    sketch = Sketch((2, 5))
    gate = sketch.op("Sigmoid", "input")
    model = sketch.model(sketch.op("Add", gate, sketch.op("Mul", "input", gate)))
    assert fuse_silu(model) is model
    also_output = Sketch((2, 5))
    gate = also_output.op("Sigmoid", "input")
    model = also_output.model(also_output.op("Mul", "input", gate), gate)
    assert fuse_silu(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    fused = rewritten_same(fuse_silu, family_graph)
    assert (fused is not family_graph) == (family == "mobilevit")
    assert kinds(fused)["Sigmoid"] == {"efficientvit": 2, "fastvit": 1}.get(family, 0)  # squeeze-and-excite
