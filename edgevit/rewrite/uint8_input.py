"""Pixels as a decoder or a camera gives them: the graph takes uint8 (B, H, W, C), and the board computes nothing.

What came before the graph, (x / 255 - mean) / std, is folded into the first convolution, a sum over its taps k:

    sum_k w_k ((x_k / 255 - mean) / std)  ==  sum_k w'_k (x_k - 255 mean)      w' = w / (255 std)

Without padding -255 mean goes on into the bias. With padding it cannot: a border of zeros stands for the mean there, so
the mean is subtracted from the pixels. A patch embedding, whose kernel is its stride, becomes a MatMul over bytes that
are only moved: (B, H, W, C) to (B, patches, bytes of a patch), which is the order that the transformer wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgevit.errors import InputError
from edgevit.rewrite.graph import constant, dim, initializer, insert, only_reader, replace, rewritten

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Normalization:
    """A byte x of channel c becomes (x - offset[c]) * scale[c]. offset, scale: (C,)."""

    offset: Array
    scale: Array


def take_uint8_pixels(model: onnx.ModelProto, mean: Sequence[float], std: Sequence[float]) -> onnx.ModelProto:
    """The same function of a picture's bytes: its input is uint8 (B, H, W, C) instead of float32 (B, C, H, W).

    mean, std: one per channel, of pixels scaled to 0..1, with which the model's own input is normalized.
    The model itself when its input is no float32 picture. Raises InputError when it has another number of channels.
    """
    offset, scale = 255.0 * np.array(mean, np.float64), 1.0 / (255.0 * np.array(std, np.float64))
    return rewritten(model, lambda graph: _take_uint8_pixels(graph, Normalization(offset, scale)))


def _take_uint8_pixels(graph: ir.Graph, normalization: Normalization) -> bool:
    pixels = graph.inputs[0]
    if pixels.dtype != ir.DataType.FLOAT or pixels.shape is None or len(pixels.shape) != 4:
        return False
    batch, channels, height, width = pixels.shape
    if channels != len(normalization.scale):
        raise InputError(f"The graph takes {channels} channels, and mean and std have {len(normalization.scale)}.")
    conv = _first_conv(pixels)
    tokens = _tokens_of(conv) if conv is not None else None
    pixels.type, pixels.shape = ir.TensorType(ir.DataType.UINT8), ir.Shape([batch, height, width, channels])
    if conv is None:
        _normalize(graph, pixels, normalization)
    elif tokens is None:
        _convolve(graph, pixels, conv, normalization)
    else:
        _embed_patches(graph, pixels, conv, tokens, normalization)
    return True


def _normalize(graph: ir.Graph, pixels: ir.Value, normalization: Normalization) -> None:
    """Where nothing can be folded: the float picture, made inside the graph."""
    uses = list(pixels.uses())
    first = next(node for node in graph if any(node is reader for reader, _ in uses))
    centered = _channelwise(graph, first, "Sub", _by_channel(graph, first, pixels), normalization.offset)
    normalized = _channelwise(graph, first, "Mul", centered, normalization.scale)
    for node, index in uses:
        node.replace_input_with(index, normalized)


def _convolve(graph: ir.Graph, pixels: ir.Value, conv: ir.Node, normalization: Normalization) -> None:
    """The convolution on values from 0 to 255, or, where it pads them, on these less the mean."""
    weights, bias = _folded(conv, normalization)
    values = _by_channel(graph, conv, pixels)
    if _is_padded(conv):
        values = _channelwise(graph, conv, "Sub", values, normalization.offset)
    else:
        conv.resize_inputs(3)
        conv.replace_input_with(2, _float32(graph, f"{conv.name}_pixel_bias", bias))
    conv.replace_input_with(1, _float32(graph, f"{conv.name}_pixel_weights", weights))
    conv.replace_input_with(0, values)


def _embed_patches(
    graph: ir.Graph, pixels: ir.Value, conv: ir.Node, tokens: ir.Value, normalization: Normalization
) -> None:
    """The convolution and what turns its output into tokens, as a MatMul of each patch's bytes.

    As fast as the convolution in float32, and three times as fast in INT8, where the bytes are multiplied as they are
    (DeiT-Ti's at 224 pixels: 0.58 ms, 0.19 ms; ONNX Runtime 1.31, one thread of an AMD EPYC with VNNI).
    """
    weights, bias = _folded(conv, normalization)
    features, channels, tall, wide = weights.shape
    rows, columns = dim(conv.outputs[0], 2), dim(conv.outputs[0], 3)
    assert rows
    assert columns
    size = tall * wide * channels

    def reshaped(value: ir.Value, shape: list[int], name: str) -> ir.Value:
        target = initializer(graph, f"{name}_shape", np.array([0, *shape], np.int64))  # 0: the batch, as it is
        return insert(graph, conv, "Reshape", [value, target], name=name, shape=_batched(pixels, shape))

    strips = reshaped(pixels, [rows, tall, columns, wide * channels], "pixels_in_strips")
    moved = insert(
        graph, conv, "Transpose", [strips], {"perm": [0, 1, 3, 2, 4]}, name="pixels_by_patch",
        shape=_batched(pixels, [rows, columns, tall, wide * channels]),
    )  # fmt: skip
    patches = _as_float(graph, conv, reshaped(moved, [rows * columns, size], "patches"))  # (B, patches, bytes)
    by_byte = weights.transpose(2, 3, 1, 0).reshape(size, features)  # rows in the order of a patch's bytes
    matrix = _float32(graph, f"{conv.name}_patch_weights", by_byte)
    product = insert(graph, conv, "MatMul", [patches, matrix], name=f"{conv.name}_patches", shape=tokens.shape)
    replace(graph, tokens, "Add", [product, _float32(graph, f"{conv.name}_patch_bias", bias)])


def _first_conv(pixels: ir.Value) -> ir.Node | None:
    """The convolution that alone reads the picture, over all channels, with constant weights and bias."""
    readers = [node for node in pixels.consumers() if not _reads_batch_size(node)]
    if len(readers) != 1 or readers[0].op_type != "Conv" or readers[0].attributes.get_int("group", 1) != 1:
        return None
    return readers[0] if all(constant(value) is not None for value in readers[0].inputs[1:]) else None


def _reads_batch_size(node: ir.Node) -> bool:
    """Whether it reads the one size that is at the same place in both layouts."""
    return node.op_type == "Shape" and [node.attributes.get_int(name, 0) for name in ("start", "end")] == [0, 1]


def _is_padded(conv: ir.Node) -> bool:
    automatic = conv.attributes.get_string("auto_pad", "NOTSET")
    return automatic.startswith("SAME") or any(conv.attributes.get_ints("pads", ()))


def _folded(conv: ir.Node, normalization: Normalization) -> tuple[Array, Array]:
    """Weights (O, C, kh, kw) for values from 0 to 255, and the bias (O,) that subtracts the mean from these."""
    weights = _float64(conv.inputs[1]) * normalization.scale[:, None, None]
    bias = _float64(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(len(weights))
    return weights, bias - (weights * normalization.offset[:, None, None]).sum(axis=(1, 2, 3))


def _tokens_of(conv: ir.Node) -> ir.Value | None:
    """The (B, patches, D) that a patch embedding's (B, D, rows, columns) become; None when it is no patch embedding."""
    kernel = _float64(conv.inputs[1]).shape[2:]
    is_tiling = tuple(conv.attributes.get_ints("strides", (1, 1))) == kernel and not _is_padded(conv)
    if not is_tiling or set(conv.attributes.get_ints("dilations", (1,))) != {1}:
        return None
    flat = _read_by(conv.outputs[0], "Reshape")  # (B, D, patches)
    tokens = _read_by(flat, "Transpose")
    picture, (features, *grid) = _dims(conv.inputs[0])[1:], _dims(conv.outputs[0])
    covered = [count * side for count, side in zip(grid, kernel, strict=True)]
    is_covered = all(grid) and covered == picture
    if flat is None or tokens is None or not is_covered or _dims(flat) != [features, grid[0] * grid[1]]:
        return None
    turned = tokens.producer()
    assert turned is not None
    return tokens if list(turned.attributes.get_ints("perm", ())) == [0, 2, 1] else None


def _read_by(value: ir.Value | None, kind: str) -> ir.Value | None:
    """The output of the operator of that kind which alone reads the value."""
    reader = only_reader(value) if value is not None else None
    return reader.outputs[0] if reader is not None and reader.op_type == kind else None


def _by_channel(graph: ir.Graph, place: ir.Node, pixels: ir.Value) -> ir.Value:
    """float32 (B, C, H, W), 0 to 255. Bytes are moved before they become four times as large."""
    assert pixels.shape is not None
    batch, height, width, channels = pixels.shape
    shape = ir.Shape([batch, channels, height, width])
    moved = insert(graph, place, "Transpose", [pixels], {"perm": [0, 3, 1, 2]}, name="pixels_by_channel", shape=shape)
    return _as_float(graph, place, moved)


def _as_float(graph: ir.Graph, place: ir.Node, value: ir.Value) -> ir.Value:
    to = {"to": int(ir.DataType.FLOAT)}
    cast = insert(graph, place, "Cast", [value], to, name=f"{value.name}_as_float", shape=value.shape)
    cast.type = ir.TensorType(ir.DataType.FLOAT)
    return cast


def _channelwise(graph: ir.Graph, place: ir.Node, kind: str, values: ir.Value, operand: Array) -> ir.Value:
    """`kind` of (B, C, H, W) and one number per channel."""
    name = f"pixels_{kind.lower()}"
    constants = _float32(graph, f"{name}_by_channel", operand[:, None, None])
    return insert(graph, place, kind, [values, constants], name=name, shape=values.shape)


def _dims(value: ir.Value) -> list[int]:
    """Sizes after the batch; 0 for one that is not known."""
    shape = value.shape if value.shape is not None else ()
    return [size if isinstance(size, int) else 0 for size in shape[1:]]


def _batched(pixels: ir.Value, shape: list[int]) -> ir.Shape:
    assert pixels.shape is not None
    return ir.Shape([pixels.shape[0], *shape])


def _float64(value: ir.Value | None) -> Array:
    array = constant(value)
    assert array is not None
    return array.astype(np.float64)


def _float32(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    return initializer(graph, name, array.astype(np.float32))
