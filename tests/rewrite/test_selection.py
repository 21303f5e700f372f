from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from sketch import Sketch, outputs_of

from edgevit.rewrite.selection import indices, leaves

SHAPE = (2, 6, 4)


def draw(sketch: Sketch, kind: str) -> str:
    match kind:
        case "transpose":
            return sketch.op("Transpose", "input", perm=[1, 2, 0])
        case "slice":
            return sketch.op("Slice", "input", *(sketch.numbers(number) for number in (1, -1, 1)))
        case "slice of no named axes":
            return sketch.op("Slice", "input", sketch.numbers(0, 2), sketch.numbers(1, 100))
        case "gather":
            return sketch.op("Gather", "input", sketch.numbers(3, 0), axis=1)
        case "split":
            return sketch.op("Split", "input", sketch.numbers(1, 5), outputs=2, axis=1)[:-1] + "1"
        case _:
            return sketch.op("Reshape", "input", sketch.numbers(2, -1))


@pytest.mark.parametrize(
    "kind", ["transpose", "slice", "slice of no named axes", "gather", "split", "reshape"]
)  # fmt: skip
def test_indices_are_what_onnx_runtime_makes_of_a_numbered_tensor(kind: str) -> None:
    sketch = Sketch(SHAPE)
    name = draw(sketch, kind)
    model = sketch.model(name)
    numbered = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    graph = ir.from_proto(model).graph
    value = next(output for node in graph for output in node.outputs if output.name == name)
    np.testing.assert_array_equal(indices(value, graph.inputs[0]), outputs_of(model, numbered)[0])


def test_a_stepping_slice_and_a_computed_tensor_have_no_indices() -> None:
    sketch = Sketch(SHAPE)
    stepped = sketch.op("Slice", "input", *(sketch.numbers(number) for number in (0, 6, 1, 2)))
    graph = ir.from_proto(sketch.model(stepped, sketch.op("Relu", "input"))).graph
    assert [indices(value, graph.inputs[0]) for value in graph.outputs] == [None, None]


def test_leaves_are_what_others_read() -> None:
    sketch = Sketch(SHAPE)
    cut = sketch.op("Gather", "input", sketch.numbers(0), axis=1)
    turned = sketch.op("Transpose", cut)
    graph = ir.from_proto(sketch.model(sketch.op("Relu", cut), turned)).graph
    assert [value.name for value in leaves(graph.inputs[0])] == [cut, turned]
