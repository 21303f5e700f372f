"""The graph of a picture's bytes against the float graph: each sum to within its rounding, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_models import (
    DEIT_SHAPE,
    MOBILEVIT_SHAPE,
    VIT_SHAPE,
    deit_graph,
    is_sorted,
    mobilevit_graph,
    op_types,
    run_graph,
    vit_graph,
)

from edgevit.board.preprocess import Preprocess, to_input
from edgevit.errors import InputError
from edgevit.export.onnx import MODULES_KEY
from edgevit.rewrite.uint8_input import take_uint8_pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROUNDING = 2.0**-24  # of one float32 operation
Shape = tuple[int, int, int, int]


def pictures(count: int, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def float_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a board makes of the bytes for the float graph."""
    _, height, width, channels = pixels.shape
    color = {1: "L", 3: "RGB"}.get(channels, "bands")
    mean, std = MEAN[:channels], STD[:channels]
    return to_input(pixels, Preprocess(height, width, channels, None, "squash", "nearest", mean, std, color))


def conv_graph(
    shape: Shape, features: int, kernel: tuple[int, int], *, bias: bool = True, readers: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """'input' through `readers` equal convolutions, added up."""
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(features, shape[1] // attributes.get("group", 1), *kernel)).astype(np.float32)
    constants = {"weights": weights, "bias": generator.normal(size=features).astype(np.float32)}
    names = ["input", *list(constants)[: 2 if bias else 1]]
    nodes = [helper.make_node("Conv", names, [f"conv{i}"], name=f"conv{i}", **attributes) for i in range(readers)]
    nodes.append(helper.make_node("Sum", [f"conv{i}" for i in range(readers)], ["logits"], name="sum"))
    return graph_of(nodes, constants, shape)


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, Any], shape: Shape) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def assert_equal_sums(model: onnx.ModelProto, pixels: NDArray[np.uint8], expected: NDArray[np.float64]) -> None:
    """Equal but for rounding: less than one part in 2^24 for each term of the sum, of the terms' absolute sum."""
    weights = next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == "weights")
    bytes_graph = take_uint8_pixels(model, MEAN[: pixels.shape[3]], STD[: pixels.shape[3]])
    terms = weights[0].size + 3
    # a normalized pixel is at most (255 + 124) / 255 / std < 7 in size while its mean is not yet subtracted
    largest = 7.0 * np.abs(weights).reshape(len(weights), -1).sum(axis=1).max() + 5.0
    np.testing.assert_allclose(run_graph(bytes_graph, pixels), expected, rtol=0, atol=terms * ROUNDING * largest)


def exact_conv(model: onnx.ModelProto, pixels: NDArray[np.uint8], **options: Any) -> NDArray[np.float64]:
    """torch's convolution of the normalized picture in float64."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    channels = pixels.shape[3]
    picture = ((pixels / 255.0 - np.array(MEAN[:channels])) / np.array(STD[:channels])).transpose(0, 3, 1, 2)
    weights, bias = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("weights", "bias"))
    has_bias = len(model.graph.node[0].input) == 3
    result = torch.nn.functional.conv2d(
        torch.from_numpy(picture.copy()), weights, bias if has_bias else None, **options
    )
    return result.numpy()


def test_a_padded_convolution_is_exact_up_to_its_border() -> None:
    model = conv_graph((1, 3, 9, 11), 8, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    pixels = pictures(1, 9, 11, 3)
    assert_equal_sums(model, pixels, exact_conv(model, pixels, stride=2, padding=1))
    assert op_types(take_uint8_pixels(model, MEAN, STD))[:4] == ["Transpose", "Cast", "Sub", "Conv"]


def test_a_picture_of_the_mean_gives_the_bias_at_the_border_as_inside() -> None:
    model = conv_graph((1, 1, 6, 6), 4, (3, 3), pads=[1, 1, 1, 1])
    bias = next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == "bias")
    bytes_graph = take_uint8_pixels(model, (0.2,), (0.5,))
    found = run_graph(bytes_graph, np.full((1, 6, 6, 1), 51, np.uint8))  # 0.2 * 255
    np.testing.assert_array_equal(found, np.broadcast_to(bias[:, None, None], (1, 4, 6, 6)))


@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER"])
def test_automatic_padding_is_padding(padding: str) -> None:
    model = conv_graph((1, 3, 8, 8), 4, (3, 3), auto_pad=padding)
    pixels = pictures(1, 8, 8, 3)
    assert_equal_sums(model, pixels, exact_conv(model, pixels, padding=1))


@pytest.mark.parametrize("bias", [True, False])
def test_without_padding_the_mean_is_in_the_bias(bias: bool) -> None:
    model = conv_graph((1, 3, 8, 10), 5, (3, 3), bias=bias, strides=[2, 2])
    pixels = pictures(1, 8, 10, 3)
    assert_equal_sums(model, pixels, exact_conv(model, pixels, stride=2))
    assert op_types(take_uint8_pixels(model, MEAN, STD))[:3] == ["Transpose", "Cast", "Conv"]


def test_a_convolution_of_single_channels_gets_the_float_picture() -> None:
    model = conv_graph((1, 3, 8, 8), 6, (3, 3), group=3)
    pixels = pictures(1, 8, 8, 3)
    assert_equal_sums(model, pixels, exact_conv(model, pixels, groups=3))
    assert op_types(take_uint8_pixels(model, MEAN, STD))[:5] == ["Transpose", "Cast", "Sub", "Mul", "Conv"]


def test_several_readers_share_one_float_picture() -> None:
    model = conv_graph((1, 3, 8, 8), 6, (3, 3), readers=2)
    pixels = pictures(1, 8, 8, 3)
    assert_equal_sums(model, pixels, 2 * exact_conv(model, pixels))
    assert op_types(take_uint8_pixels(model, MEAN, STD)).count("Cast") == 1


def embedding(height: int, width: int, kernel: tuple[int, int], **attributes: Any) -> onnx.ModelProto:
    """A patch embedding of 5 features: Conv, Reshape, Transpose."""
    options = {"strides": list(kernel), **attributes}
    model = conv_graph((1, 3, height, width), 5, kernel, **options)
    flat = np.array([1, 5, -1], np.int64)
    nodes = [
        model.graph.node[0],
        helper.make_node("Reshape", ["conv0", "flat"], ["flattened"], name="flatten"),
        helper.make_node("Transpose", ["flattened"], ["logits"], name="turn", perm=[0, 2, 1]),
    ]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return graph_of(nodes, {**constants, "flat": flat}, (1, 3, height, width))


def test_a_patch_embedding_is_one_product_of_moved_bytes() -> None:
    model = embedding(8, 12, (4, 2))  # patches that are taller than wide
    pixels = pictures(1, 8, 12, 3)
    expected = exact_conv(model, pixels, stride=(4, 2)).reshape(1, 5, 12).transpose(0, 2, 1)
    assert_equal_sums(model, pixels, expected)
    wanted = ["Reshape", "Transpose", "Reshape", "Cast", "MatMul", "Add"]
    assert op_types(take_uint8_pixels(model, MEAN, STD)) == wanted


@pytest.mark.parametrize(
    ("height", "attributes"),
    [(9, {}), (8, {"strides": [2, 4]}), (8, {"dilations": [2, 2]}), (8, {"pads": [4, 0, 4, 0]})],
    ids=["a row is left over", "patches overlap", "patches have holes", "padded"],
)
def test_what_is_no_tiling_stays_a_convolution(height: int, attributes: dict[str, list[int]]) -> None:
    model = embedding(height, 8, (4, 4), **attributes)
    pixels = pictures(1, height, 8, 3)
    bytes_graph = take_uint8_pixels(model, MEAN, STD)
    assert "Conv" in op_types(bytes_graph)
    np.testing.assert_allclose(run_graph(bytes_graph, pixels), run_graph(model, float_input(pixels)), atol=1e-4)


MODELS = {
    "gray ViT": (vit_graph, VIT_SHAPE),
    "DeiT": (deit_graph, DEIT_SHAPE),
    "MobileViT": (mobilevit_graph, MOBILEVIT_SHAPE),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_model_says_the_same_of_bytes(name: str) -> None:
    graph, (_, channels, height, width) = MODELS[name][0](), MODELS[name][1]
    before = graph.SerializeToString(deterministic=True)
    bytes_graph = take_uint8_pixels(graph, MEAN[:channels], STD[:channels])
    onnx.checker.check_model(bytes_graph, full_check=True)
    assert is_sorted(bytes_graph)
    assert graph.SerializeToString(deterministic=True) == before
    taken = bytes_graph.graph.input[0].type.tensor_type
    assert taken.elem_type == TensorProto.UINT8
    assert [size.dim_value for size in taken.shape.dim] == [1, height, width, channels]
    pixels = pictures(1, height, width, channels)
    expected = run_graph(graph, float_input(pixels))
    np.testing.assert_allclose(run_graph(bytes_graph, pixels), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_free_batch_stays_free() -> None:
    bytes_graph = take_uint8_pixels(vit_graph(dynamic_batch=True), MEAN[:1], STD[:1])
    assert "Conv" not in op_types(bytes_graph)
    pixels = pictures(3, 32, 32, 1)
    expected = run_graph(vit_graph(dynamic_batch=True), float_input(pixels))
    np.testing.assert_allclose(run_graph(bytes_graph, pixels), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_picture_of_free_size_stays_free() -> None:
    model = conv_graph((1, 3, 8, 8), 4, (3, 3), pads=[1, 1, 1, 1])
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.Clear()
    del model.graph.value_info[:]
    pixels = pictures(1, 6, 10, 3)
    assert_equal_sums(model, pixels, exact_conv(model, pixels, padding=1))


def test_the_new_operators_say_which_module_they_come_from() -> None:
    bytes_graph = take_uint8_pixels(vit_graph(), MEAN[:1], STD[:1])
    product = next(node for node in bytes_graph.graph.node if node.op_type == "MatMul")
    modules = {entry.key: entry.value for entry in product.metadata_props}
    assert "patch_embed" in modules[MODULES_KEY]


def test_a_graph_that_takes_bytes_already_is_left_alone() -> None:
    bytes_graph = take_uint8_pixels(vit_graph(), MEAN[:1], STD[:1])
    assert take_uint8_pixels(bytes_graph, MEAN[:1], STD[:1]) is bytes_graph


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(InputError, match=r"^The graph takes 1 channels, and mean and std have 3\.$"):
        take_uint8_pixels(vit_graph(), MEAN, STD)
