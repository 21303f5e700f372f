from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, normal, outputs_of

from edgevit.rewrite.graph import rewritten
from edgevit.rewrite.linear import absorb_inputs, linear_of, scale_outputs

C, K = 4, 6
LAYERS = ("matmul", "matmul and bias", "gemm", "gemm transposed", "conv", "grouped conv", "convtranspose")


def draw(kind: str) -> onnx.ModelProto:
    sketch = Sketch((2, C) if "gemm" in kind or "matmul" in kind else (2, C, 3, 3))
    match kind:
        case "matmul" | "matmul and bias":
            y = sketch.linear("input", C, K, bias="bias" in kind)
        case "gemm":
            y = sketch.op("Gemm", "input", sketch.noise(C, K), sketch.noise(K))
        case "gemm transposed":
            y = sketch.op("Gemm", "input", sketch.noise(K, C), transB=1)
        case "conv":
            y = sketch.op("Conv", "input", sketch.noise(K, C, 2, 2), sketch.noise(K))
        case "grouped conv":
            y = sketch.op("Conv", "input", sketch.noise(K, C // 2, 1, 1), group=2)
        case _:
            y = sketch.op("ConvTranspose", "input", sketch.noise(C, K // 2, 2, 2), sketch.noise(K), group=2)
    return sketch.model(y)


def vectors(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0.5, 2.0, size), generator.normal(size=size)


def edited(model: onnx.ModelProto, change, gain: np.ndarray, offset: np.ndarray) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    def edit(graph: ir.Graph) -> bool:
        layer = linear_of(next(node for node in graph if node.op_type != "Add"))
        assert layer is not None
        change(graph, layer, gain, offset)
        return True

    return rewritten(model, edit)


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(LAYERS), seed=st.integers(0, 99))
def test_scaled_outputs_are_the_outputs_scaled(kind: str, seed: int) -> None:
    model = draw(kind)
    x = normal((2, C) if "gemm" in kind or "matmul" in kind else (2, C, 3, 3))
    factor, shift = vectors(seed, K)
    (before,), (after,) = outputs_of(model, x), outputs_of(edited(model, scale_outputs, factor, shift), x)
    shape = (1, K) + (1,) * (before.ndim - 2)
    np.testing.assert_allclose(after, before * factor.reshape(shape) + shift.reshape(shape), rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(LAYERS[:-1]), seed=st.integers(0, 99))
def test_absorbed_inputs_are_applied_by_the_layer(kind: str, seed: int) -> None:
    model = draw(kind)
    x = normal((2, C) if "gemm" in kind or "matmul" in kind else (2, C, 3, 3))
    gain, offset = vectors(seed, C)
    shape = (1, C) + (1,) * (x.ndim - 2)
    affine = (x * gain.reshape(shape) + offset.reshape(shape)).astype(np.float32)
    (before,), (after,) = outputs_of(model, affine), outputs_of(edited(model, absorb_inputs, gain, offset), x)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("change", [{"alpha": 0.5}, {"transA": 1}])
def test_a_gemm_that_does_more_is_no_linear_layer(change: dict[str, float]) -> None:
    sketch = Sketch((4, 4))
    model = sketch.model(sketch.op("Gemm", "input", sketch.noise(4, 4), **change))
    graph = ir.from_proto(model).graph
    assert linear_of(graph.node(0)) is None
