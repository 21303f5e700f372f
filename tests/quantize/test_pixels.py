"""Bytes that are multiplied as they come give what they gave after a detour through float."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, constants_of, preset
from numpy.typing import NDArray
from onnxruntime.quantization import TensorsData
from tiny_models import DEIT_SHAPE, deit_graph, is_sorted, mobilevit_graph, op_types, run_graph

from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.pixels import skip_pixel_quantization, with_pixel_ranges
from edgevit.quantize.static import quantize_static
from edgevit.rewrite.uint8_input import take_uint8_pixels

HALF = (0.5, 0.5, 0.5)
PATCHES = "patches_as_float"


def picture(seed: int, brightest: int = 255) -> NDArray[np.uint8]:
    _, channels, height, width = DEIT_SHAPE
    pixels = np.random.default_rng(seed).integers(0, brightest + 1, (1, height, width, channels), dtype=np.uint8)
    pixels[0, 0, 0] = brightest
    return pixels


@functools.cache
def bytes_graph() -> onnx.ModelProto:
    return take_uint8_pixels(deit_graph(), HALF, HALF)


@functools.cache
def dim_ranges() -> TensorsData:
    """Of pictures that are not brighter than 200."""
    linear = quantizable_nodes(bytes_graph()).linear
    return activation_ranges(bytes_graph(), [picture(seed, 200) for seed in range(4)], linear)


def static(ranges: TensorsData, activation: str = "uint8") -> onnx.ModelProto:
    linear = quantizable_nodes(bytes_graph()).linear
    return quantize_static(bytes_graph(), linear, ranges, preset(activation))  # type: ignore[arg-type]


def test_the_patch_embedding_is_offered_to_int8() -> None:
    assert PATCHES in {name for node in bytes_graph().graph.node if node.op_type == "MatMul" for name in node.input}
    assert len(quantizable_nodes(bytes_graph()).linear) == len(quantizable_nodes(deit_graph()).linear) + 1


def test_bytes_have_a_range_of_their_own_and_nothing_else_changes() -> None:
    found = with_pixel_ranges(bytes_graph(), dim_ranges())
    assert [value.item() for value in dim_ranges()[PATCHES].range_value] == [0.0, 200.0]
    assert [value.item() for value in found[PATCHES].range_value] == [0.0, 255.0]
    others = [name for name, _ in dim_ranges().items() if name != PATCHES]
    assert len(others) > 3
    assert all(found[name] is dim_ranges()[name] for name in others)


def test_static_bytes_are_multiplied_as_they_come_with_the_same_result() -> None:
    before = static(with_pixel_ranges(bytes_graph(), dim_ranges()))
    after = skip_pixel_quantization(before)
    assert op_types(after).count("QuantizeLinear") == op_types(before).count("QuantizeLinear") - 1
    assert "Cast" not in op_types(after)
    assert is_sorted(after)
    for seed in range(3):
        np.testing.assert_array_equal(run_graph(after, picture(seed)), run_graph(before, picture(seed)))


def test_static_bytes_with_another_scale_or_type_are_quantized_as_before() -> None:
    for model in (static(dim_ranges()), static(with_pixel_ranges(bytes_graph(), dim_ranges()), "int8")):
        assert skip_pixel_quantization(model) is model


@pytest.mark.parametrize("brightest", [255, 200])
def test_dynamic_bytes_need_no_range_of_the_picture(brightest: int) -> None:
    before = quantize_dynamic(bytes_graph(), quantizable_nodes(bytes_graph()).linear, preset())
    after = skip_pixel_quantization(before)
    assert op_types(after).count("DynamicQuantizeLinear") == op_types(before).count("DynamicQuantizeLinear") - 1
    assert (constants_of(after)["patches_as_float_scale_of_bytes"], is_sorted(after)) == (1.0, True)
    pixels = picture(1, brightest)
    exact, plain, direct = (run_graph(model, pixels) for model in (bytes_graph(), before, after))
    if brightest == 255:  # the scale that is found at run time is 1 as well
        np.testing.assert_allclose(direct, plain, rtol=0, atol=1e-5 * np.abs(plain).max())
    np.testing.assert_allclose(direct, exact, rtol=0, atol=0.1 * np.abs(exact).max())


def test_what_takes_or_multiplies_no_bytes_is_left_alone() -> None:
    unquantized = bytes_graph()
    assert skip_pixel_quantization(unquantized) is unquantized
    floats = quantize_dynamic(deit_graph(), quantizable_nodes(deit_graph()).linear, preset())
    assert skip_pixel_quantization(floats) is floats
    # A padded convolution multiplies bytes less the mean: they are no codes.
    padded = take_uint8_pixels(mobilevit_graph(), HALF, HALF)
    nodes = quantizable_nodes(padded).conv
    pixels = [np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)]
    ranges = activation_ranges(padded, pixels, nodes)
    assert dict(with_pixel_ranges(padded, ranges).items()) == dict(ranges.items())
    quantized = quantize_static(padded, nodes, ranges, preset())
    assert skip_pixel_quantization(quantized) is quantized
