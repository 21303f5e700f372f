from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sketch import Sketch, kinds, rewritten_same

from edgevit.rewrite.layer_norm import fold_layer_norm_affine, fuse_layer_norm

WIDTH = 6


def written_out(sketch: Sketch, x: str, has_gain: bool, has_offset: bool, is_power: bool, axis: int = -1) -> str:
    def mean(value: str) -> str:
        if sketch.opset < 18:
            return sketch.op("ReduceMean", value, axes=[axis], keepdims=1)
        return sketch.op("ReduceMean", value, sketch.numbers(axis), keepdims=1)

    centered = sketch.op("Sub", x, mean(x))
    square = sketch.op("Pow", centered, sketch.constant(2.0)) if is_power else sketch.op("Mul", centered, centered)
    deviation = sketch.op("Sqrt", sketch.op("Add", mean(square), sketch.constant(1e-5)))
    y = sketch.op("Div", centered, deviation)
    y = sketch.op("Mul", sketch.noise(WIDTH), y) if has_gain else y
    return sketch.op("Add", y, sketch.noise(WIDTH)) if has_offset else y


@settings(max_examples=16, deadline=None)
@given(
    has_gain=st.booleans(), has_offset=st.booleans(), is_power=st.booleans(), opset=st.sampled_from([17, 18]),
    axis=st.sampled_from([-1, 2]),
)  # fmt: skip
def test_a_layer_norm_written_out_becomes_one_operator(
    has_gain: bool, has_offset: bool, is_power: bool, opset: int, axis: int
) -> None:
    sketch = Sketch((2, 3, WIDTH), opset)
    y = written_out(sketch, "input", has_gain, has_offset, is_power, axis)
    model = sketch.model(sketch.op("Relu", y))
    assert kinds(rewritten_same(fuse_layer_norm, model)) == {"LayerNormalization": 1, "Relu": 1}


@pytest.mark.parametrize(("opset", "axis"), [(16, -1), (18, 1)])
def test_a_runtime_without_the_operator_and_a_norm_over_tokens_keep_it_written_out(opset: int, axis: int) -> None:
    sketch = Sketch((2, WIDTH, WIDTH), opset)
    model = sketch.model(written_out(sketch, "input", True, True, True, axis))
    assert fuse_layer_norm(model) is model


@settings(max_examples=20, deadline=None)
@given(
    biases=st.lists(st.booleans(), min_size=1, max_size=3), has_offset=st.booleans(), is_gemm=st.booleans()
)  # fmt: skip
def test_gain_and_offset_go_into_all_readers(biases: list[bool], has_offset: bool, is_gemm: bool) -> None:
    sketch = Sketch((3, WIDTH) if is_gemm else (2, 3, WIDTH))
    offset = [sketch.noise(WIDTH)] if has_offset else []
    normed = sketch.op("LayerNormalization", "input", sketch.noise(WIDTH), *offset, axis=-1)
    outputs = []
    for has_bias in biases:
        if is_gemm:
            bias = [sketch.noise(4)] if has_bias else []
            outputs.append(sketch.op("Gemm", normed, sketch.noise(4, WIDTH), *bias, transB=1))
        else:
            outputs.append(sketch.linear(normed, WIDTH, 4, has_bias))
    folded = rewritten_same(fold_layer_norm_affine, sketch.model(*outputs))
    norm = next(node for node in folded.graph.node if node.op_type == "LayerNormalization")
    assert len(norm.input) == 2
    gain = next(tensor for tensor in folded.graph.initializer if tensor.name == norm.input[1])
    assert (onnx.numpy_helper.to_array(gain) == 1.0).all()


def test_a_norm_that_a_residual_add_reads_keeps_its_gain() -> None:
    sketch = Sketch((2, 3, WIDTH))
    normed = sketch.op("LayerNormalization", "input", sketch.noise(WIDTH), axis=-1)
    model = sketch.model(sketch.op("Add", normed, sketch.linear(normed, WIDTH, WIDTH)))
    assert fold_layer_norm_affine(model) is model


def as_pixels(sketch: Sketch, x: str, order: list[int], channels: int = WIDTH) -> str:
    """(1, 4, WIDTH) -> (1, channels, 2, ...)"""
    x = sketch.op("Reshape", x, sketch.numbers(1, 2, 2, WIDTH))
    return sketch.op("Conv", sketch.op("Transpose", x, perm=order), sketch.noise(3, channels, 1, 1))


def test_gain_and_offset_go_into_a_convolution_that_reads_the_norm_as_pixels() -> None:
    sketch = Sketch((1, 4, WIDTH))
    normed = sketch.op("LayerNormalization", "input", sketch.noise(WIDTH), sketch.noise(WIDTH), axis=-1)
    folded = rewritten_same(fold_layer_norm_affine, sketch.model(as_pixels(sketch, normed, [0, 3, 1, 2])))
    norm = next(node for node in folded.graph.node if node.op_type == "LayerNormalization")
    assert len(norm.input) == 2


def test_a_convolution_that_mixes_the_norm_s_channels_up_keeps_its_gain() -> None:
    sketch = Sketch((1, 4, WIDTH))
    normed = sketch.op("LayerNormalization", "input", sketch.noise(WIDTH), sketch.noise(WIDTH), axis=-1)
    model = sketch.model(as_pixels(sketch, normed, [0, 1, 3, 2], channels=2))
    assert fold_layer_norm_affine(model) is model


def test_a_convolution_that_pads_keeps_its_gain() -> None:
    sketch = Sketch((1, 4, WIDTH))
    normed = sketch.op("LayerNormalization", "input", sketch.noise(WIDTH), sketch.noise(WIDTH), axis=-1)
    x = sketch.op("Transpose", sketch.op("Reshape", normed, sketch.numbers(1, 2, 2, WIDTH)), perm=[0, 3, 1, 2])
    model = sketch.model(sketch.op("Conv", x, sketch.noise(3, WIDTH, 3, 3), pads=[1, 1, 1, 1]))
    assert fold_layer_norm_affine(model) is model


def test_real_graphs_keep_their_logits(family: str, family_graph: onnx.ModelProto) -> None:
    assert rewritten_same(fuse_layer_norm, family_graph) is family_graph  # the exporter writes the operator
    folded = rewritten_same(fold_layer_norm_affine, family_graph)
    assert (folded is family_graph) == (family in ("efficientvit", "fastvit"))
