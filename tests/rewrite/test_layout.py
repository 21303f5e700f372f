from __future__ import annotations

import math

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, outputs_of, rewritten_same

from edgevit.rewrite.layout import remove_dead_layout

SHAPES = [(1, 6, 4), (2, 3, 4), (2, 12), (1, 2, 3, 4), (24,), (4, 6, 1)]


def elements_transposed(model: onnx.ModelProto) -> int:
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*model.graph.value_info, *model.graph.output)}
    return sum(
        math.prod(size.dim_value for size in shapes[node.output[0]])
        for node in model.graph.node
        if node.op_type == "Transpose"
    )


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from(SHAPES), st.sampled_from(["Relu", "Tanh", "bias", "residual", "square"]), st.integers(0, 23)
        ),
        min_size=1,
        max_size=9,
    ),
    is_branching=st.booleans(),
)
def test_any_mix_of_layout_and_elementwise_operators_keeps_its_bits(
    steps: list[tuple[int, ...] | str | int], is_branching: bool
) -> None:
    """A step: a shape to take, an elementwise operator, or the number of a permutation."""
    sketch = Sketch((2, 3, 4))
    x, shape = "input", (2, 3, 4)
    seen = [(x, shape)]
    for step in steps:
        if isinstance(step, tuple):
            x, shape = sketch.op("Reshape", x, sketch.numbers(*step)), step
        elif isinstance(step, int):
            order = permutation(step, len(shape))
            x, shape = sketch.op("Transpose", x, perm=order), tuple(shape[axis] for axis in order)
        elif step == "bias":
            x = sketch.op("Add", sketch.noise(shape[-1]), x)
        elif step == "square":
            x = sketch.op("Mul", x, x)
        elif step == "residual":
            x = sketch.op("Add", x, next(name for name, other in reversed(seen) if other == shape))
        else:
            x = sketch.op(step, x)
        seen.append((x, shape))
    outputs = [x, seen[len(seen) // 2][0]] if is_branching and seen[len(seen) // 2][0] not in (x, "input") else [x]
    model = sketch.model(*outputs)
    result = rewritten_same(remove_dead_layout, model, 0.0)
    assert elements_transposed(result) <= elements_transposed(model)


def permutation(number: int, rank: int) -> list[int]:
    """One of the rank! orders of the axes."""
    rest, order = list(range(rank)), []
    for size in range(rank, 0, -1):
        order.append(rest.pop(number % size))
        number //= size
    return order


def test_transposes_that_undo_each_other_leave_nothing() -> None:
    sketch = Sketch((2, 3, 4))
    there = sketch.op("Transpose", "input", perm=[1, 2, 0])
    model = sketch.model(sketch.op("Relu", sketch.op("Transpose", there, perm=[2, 0, 1])))
    assert kinds(rewritten_same(remove_dead_layout, model, 0.0)) == {"Relu": 1}


def test_a_graph_output_keeps_its_name() -> None:
    sketch = Sketch((2, 3, 4))
    model = sketch.model(sketch.op("Transpose", sketch.op("Relu", "input"), perm=[0, 1, 2]))
    result = rewritten_same(remove_dead_layout, model, 0.0)
    assert [value.name for value in result.graph.output] == [value.name for value in model.graph.output]
    assert "Transpose" not in kinds(result)


def test_squeezes_and_flattens_are_reshapes_too() -> None:
    sketch = Sketch((1, 3, 4, 1))
    squeezed = sketch.op("Squeeze", "input", sketch.numbers(0))
    flat = sketch.op("Flatten", sketch.op("Unsqueeze", squeezed, sketch.numbers(0)), axis=1)
    result = rewritten_same(remove_dead_layout, sketch.model(sketch.op("Relu", flat)), 0.0)
    assert kinds(result) == {"Reshape": 1, "Relu": 1}


def test_transposes_around_an_elementwise_operator_cancel() -> None:
    sketch = Sketch((2, 3, 4))
    there = sketch.op("Transpose", "input", perm=[0, 2, 1])
    scaled = sketch.op("Mul", sketch.op("Relu", sketch.op("Add", there, sketch.noise(4, 3))), sketch.constant(0.5))
    model = sketch.model(sketch.op("Relu", sketch.op("Transpose", scaled, perm=[0, 2, 1])))
    assert kinds(rewritten_same(remove_dead_layout, model, 0.0)) == {"Add": 1, "Relu": 2, "Mul": 1}


def test_a_transpose_stays_where_moving_it_would_transpose_more() -> None:
    sketch = Sketch((2, 3, 4))
    total = sketch.op("Add", sketch.op("Relu", "input"), sketch.op("Tanh", "input"))
    model = sketch.model(sketch.op("Relu", sketch.op("Transpose", total, perm=[0, 2, 1])))
    assert remove_dead_layout(model) is model


def test_a_small_tensor_is_transposed_for_a_large_one_s_sake() -> None:
    """(2, 3, 1) is broadcast to (2, 3, 4): its transpose costs 6 elements and saves 24."""
    sketch = Sketch((2, 3, 4))
    small = sketch.op("ReduceSum", "input", sketch.numbers(2), keepdims=1)
    there = sketch.op("Transpose", "input", perm=[1, 0, 2])
    flipped = sketch.op(
        "Transpose", sketch.op("Mul", sketch.op("Transpose", there, perm=[1, 0, 2]), small), perm=[0, 1, 2]
    )
    assert kinds(rewritten_same(remove_dead_layout, sketch.model(flipped), 0.0))["Transpose"] == 0


def test_what_is_read_by_others_is_not_transposed_twice() -> None:
    sketch = Sketch((2, 3, 4))
    there = sketch.op("Transpose", sketch.op("Relu", "input"), perm=[1, 2, 0])
    model = sketch.model(sketch.op("Tanh", there), sketch.op("Tanh", sketch.op("Transpose", there, perm=[2, 0, 1])))
    result = rewritten_same(remove_dead_layout, model, 0.0)
    assert kinds(result) == {"Relu": 1, "Transpose": 1, "Tanh": 2}


def test_a_free_batch_size_leaves_the_graph_alone() -> None:
    sketch = Sketch(("batch", 3, 4))
    twice = sketch.op("Transpose", sketch.op("Transpose", "input", perm=[0, 2, 1]), perm=[0, 2, 1])
    model = sketch.model(sketch.op("Relu", twice))
    assert remove_dead_layout(model) is model


def test_an_empty_tensor_is_left_alone() -> None:
    sketch = Sketch((0, 3))
    model = sketch.model(sketch.op("Relu", sketch.op("Reshape", "input", sketch.numbers(0, 3))))
    assert outputs_of(remove_dead_layout(model), np.zeros((0, 3), np.float32))[0].shape == (0, 3)


def test_real_graphs_keep_their_bits(family: str, family_graph: onnx.ModelProto) -> None:
    result = rewritten_same(remove_dead_layout, family_graph, 0.0)
    assert elements_transposed(result) <= elements_transposed(family_graph)


def test_patches_are_moved_by_one_transpose_instead_of_two(graph_of) -> None:  # type: ignore[no-untyped-def]
    """MobileViT's three blocks part and join their pixels: six pairs of Transposes."""
    model = graph_of("mobilevit")
    result = remove_dead_layout(model)
    assert elements_transposed(result) < elements_transposed(model)
    assert kinds(model)["Transpose"] - kinds(result)["Transpose"] >= 6
