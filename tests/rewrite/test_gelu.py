from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Rewriting, Sketch, kinds, normal, outputs_of, rewritten_same

from edgevit.rewrite.gelu import (
    PIECEWISE_ERROR,
    SIGMOID_ERROR,
    TANH_ERROR,
    approximate_gelu_by_sigmoid,
    approximate_gelu_by_tanh,
    approximate_gelu_piecewise,
    fuse_gelu,
)

APPROXIMATIONS = {
    approximate_gelu_by_tanh: TANH_ERROR,
    approximate_gelu_by_sigmoid: SIGMOID_ERROR,
    approximate_gelu_piecewise: PIECEWISE_ERROR,
}
ROUNDING = 1e-6


def erf_chain(sketch: Sketch, x: str, order: int = 0, is_divided: bool = True) -> str:
    """GELU of x; order: which of the ways to multiply x, 1/2 and (1 + erf) together."""
    half, one = sketch.constant(0.5), sketch.constant(1.0)
    if is_divided:
        scaled = sketch.op("Div", x, sketch.constant(math.sqrt(2)))
    else:
        scaled = sketch.op("Mul", sketch.constant([math.sqrt(0.5)]), x)
    gate = sketch.op("Add", sketch.op("Erf", scaled), one)
    match order:
        case 0:
            return sketch.op("Mul", x, sketch.op("Mul", half, gate))
        case 1:
            return sketch.op("Mul", sketch.op("Mul", x, gate), half)
        case _:
            return sketch.op("Mul", sketch.op("Mul", x, half), gate)


def one_gelu(opset: int = 18) -> onnx.ModelProto:
    sketch = Sketch((2, 5), opset)
    return sketch.model(erf_chain(sketch, sketch.op("Relu", "input")))


@settings(max_examples=20, deadline=None)
@given(
    orders=st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=3),
    opset=st.sampled_from([18, 20]),
    shape=st.sampled_from([(1, 3, 4), (2, 3, 2, 2), (5,)]),
)
def test_erf_chains_in_any_order_become_one_operator_each(
    orders: list[tuple[int, bool]], opset: int, shape: tuple[int, ...]
) -> None:
    sketch = Sketch(shape, opset)
    x = "input"
    for order, is_divided in orders:
        x = erf_chain(sketch, x, order, is_divided)
    model = sketch.model(x)
    assert kinds(rewritten_same(fuse_gelu, model, ROUNDING)) == {"Gelu": len(orders)}
    for approximate, error in APPROXIMATIONS.items():
        result = rewritten_same(approximate, model, error * 1.2 ** len(orders) * len(orders))
        assert "Erf" not in kinds(result)


@pytest.mark.parametrize(("opset", "domain"), [(18, "com.microsoft"), (20, "")])
def test_the_operator_is_onnx_s_own_where_there_is_one(opset: int, domain: str) -> None:
    fused = fuse_gelu(one_gelu(opset))
    assert [(node.op_type, node.domain) for node in fused.graph.node] == [("Relu", ""), ("Gelu", domain)]


@pytest.mark.parametrize(("rewrite", "error"), APPROXIMATIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_stated_error_is_the_largest_one(rewrite: Rewriting, error: float) -> None:
    """Against math.erf in double precision, on a fine grid: reached within 1 %, and nowhere exceeded."""
    grid = np.linspace(-8, 8, 64_001, dtype=np.float32)
    exact = np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in grid.tolist()])
    sketch = Sketch((len(grid),))
    found = outputs_of(rewrite(sketch.model(erf_chain(sketch, "input"))), grid)[0]
    largest = float(np.abs(found - exact).max())
    assert 0.99 * error < largest <= error


@pytest.mark.parametrize("rewrite", APPROXIMATIONS)
@pytest.mark.parametrize("opset", [18, 20])
def test_an_approximation_also_replaces_the_exact_operator(rewrite: Rewriting, opset: int) -> None:
    model = one_gelu(opset)
    expected = outputs_of(rewrite(model), normal((2, 5)))
    np.testing.assert_array_equal(outputs_of(rewrite(fuse_gelu(model)), normal((2, 5))), expected)


def test_an_approximated_gelu_is_not_approximated_again() -> None:
    sketch = Sketch((2, 5), 20)
    model = sketch.model(sketch.op("Gelu", "input", approximate="tanh"))
    assert approximate_gelu_by_sigmoid(model) is model
    fast = approximate_gelu_by_tanh(one_gelu())
    assert approximate_gelu_by_sigmoid(fast) is fast


def off_by_a_constant(sketch: Sketch) -> str:
    gate = sketch.op("Add", sketch.op("Erf", sketch.op("Div", "input", sketch.constant(1.5))), sketch.constant(1.0))
    return sketch.op("Mul", "input", sketch.op("Mul", sketch.constant(0.5), gate))


def gate_of_another_tensor(sketch: Sketch) -> str:
    scaled = sketch.op("Div", sketch.op("Neg", "input"), sketch.constant(math.sqrt(2)))
    gate = sketch.op("Add", sketch.op("Erf", scaled), sketch.constant(1.0))
    return sketch.op("Mul", "input", sketch.op("Mul", sketch.constant(0.5), gate))


def squared(sketch: Sketch) -> str:
    scaled = sketch.op("Div", "input", sketch.constant(math.sqrt(2)))
    gate = sketch.op("Add", sketch.op("Erf", scaled), sketch.constant(1.0))
    return sketch.op("Mul", "input", sketch.op("Mul", "input", gate))


def read_by_another(sketch: Sketch) -> str:
    scaled = sketch.op("Div", "input", sketch.constant(math.sqrt(2)))
    gate = sketch.op("Add", sketch.op("Erf", scaled), sketch.constant(1.0))
    gelu = sketch.op("Mul", "input", sketch.op("Mul", sketch.constant(0.5), gate))
    return sketch.op("Add", gelu, gate)


@pytest.mark.parametrize("draw", [off_by_a_constant, gate_of_another_tensor, squared, read_by_another])
def test_what_is_no_gelu_is_left_alone(draw: Callable[[Sketch], str]) -> None:
    sketch = Sketch((2, 5))
    model = sketch.model(draw(sketch))
    for rewrite in (fuse_gelu, *APPROXIMATIONS):
        assert rewrite(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    fused = rewritten_same(fuse_gelu, family_graph)
    assert "Erf" not in kinds(fused)
    assert (fused is family_graph) == (family in ("mobilevit", "efficientvit"))  # SiLU, ReLU
