"""SmoothQuant: outlier channels moved out of the activations and into the weights that read them; exact in float.

    X W  ==  (X / s) (s W)          s = max|X|^α / max|W|^(1-α), per input channel

The division is folded into what makes X: a LayerNormalization's scale and bias, or a linear layer's weight and bias.
Source: Xiao et al. 2022, "SmoothQuant", equation 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.errors import InputError
from edgevit.quantize.activations import stream_activations
from edgevit.quantize.nodes import LINEAR
from edgevit.quantize.wiring import Wiring, attribute, copy_of

Array = NDArray[np.floating]
LARGEST_SCALE = 2.0**20  # either way: beyond it float32's weights lose more than 8 bits gain


def channel_maxima(
    model: onnx.ModelProto, batches: Iterable[np.ndarray], tensors: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Largest magnitude of each channel, the last axis, of each tensor over all pictures: (C,) each.

    One pass, one picture at a time. Raises InputError without pictures, EdgevitError for NaN.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for activations in stream_activations(model, batches, tensors):
        for name, values in activations.items():
            largest = np.abs(values.reshape(-1, values.shape[-1])).max(axis=0)
            found[name] = np.maximum(found[name], largest) if name in found else largest
    if not found and tensors:
        raise InputError("There is no picture to measure activations on. Give at least one.")
    return found


def smooth(model: onnx.ModelProto, nodes: Sequence[str], absmax: Mapping[str, Array], alpha: float) -> onnx.ModelProto:
    """A copy of `model` whose linear `nodes` read smoothed inputs, where that costs no operator; the same function.

    absmax: of the nodes' input tensors (see channel_maxima). alpha: 0 leaves the weights as even as can be, 1 the
    activations. A layer is smoothed when nothing but such layers reads what makes its input, straight or through a
    choice of tokens: a LayerNormalization, or a linear layer with or without ReLU. All others are left alone; the model
    itself comes back when all are.
    """
    duplicate = copy_of(model)
    wiring = Wiring(duplicate.graph)
    groups = [group for name in _makers_of_inputs(wiring, nodes) if (group := _group(wiring, name, set(nodes)))]
    for group in groups:
        scales = _scales(wiring, group, absmax, alpha)
        for node, index, axis in group.makers:
            wiring.scale_constant(node, index, axis, 1.0 / scales)
        for reader in group.readers:
            wiring.scale_constant(reader, 1, attribute(reader, "transB", 0), scales)
    return duplicate if groups else model


@dataclass(frozen=True)
class _Group:
    """`makers`: (node, index, axis) of constants that the channels are proportional to; `readers`: linear layers."""

    makers: tuple[tuple[onnx.NodeProto, int, int], ...]
    readers: tuple[onnx.NodeProto, ...]


def _scales(wiring: Wiring, group: _Group, absmax: Mapping[str, Array], alpha: float) -> NDArray[np.float64]:
    """(C,); 1 for a channel that is always zero, or that no weight reads."""
    activations = np.max([absmax[node.input[0]] for node in group.readers], axis=0).astype(np.float64)
    weights = np.max([_largest_weights(wiring, node) for node in group.readers], axis=0).astype(np.float64)
    is_used = (activations > 0) & (weights > 0)
    a, w = np.where(is_used, activations, 1.0), np.where(is_used, weights, 1.0)
    return np.clip(a**alpha / w ** (1.0 - alpha), 1.0 / LARGEST_SCALE, LARGEST_SCALE)


def _largest_weights(wiring: Wiring, node: onnx.NodeProto) -> Array:
    """Of each input channel."""
    weight = wiring.constant(node.input[1])
    assert weight is not None
    largest: Array = np.abs(weight).max(axis=0 if attribute(node, "transB", 0) else 1)
    return largest


def _makers_of_inputs(wiring: Wiring, nodes: Sequence[str]) -> list[str]:
    """The values that the nodes' inputs are taken from, each once."""
    found = []
    for node in nodes:
        name = wiring.nodes[node].input[0]
        while name in wiring.makers and _chooses_tokens(wiring, wiring.makers[name]):
            name = wiring.makers[name].input[0]
        found.append(name)
    return list(dict.fromkeys(found))


def _group(wiring: Wiring, name: str, wanted: set[str]) -> _Group | None:
    makers, readers = _channel_constants(wiring, name), _linear_readers(wiring, name, wanted)
    return _Group(tuple(makers), tuple(readers)) if makers and readers else None


def _linear_readers(wiring: Wiring, name: str, wanted: set[str]) -> list[onnx.NodeProto]:
    """All readers of a value, through choices of tokens; none when any is not a wanted linear layer."""
    found = []
    for node in wiring.inner_readers(name):
        if _chooses_tokens(wiring, node) and node.input[0] == name:
            further = _linear_readers(wiring, node.output[0], wanted)
        else:
            further = [node] if node.name in wanted and _is_linear(wiring, node) else []
        if not further:
            return []
        found += further
    return found


def _is_linear(wiring: Wiring, node: onnx.NodeProto | None) -> bool:
    """Whether the node multiplies rows of channels by a constant matrix."""
    if node is None or node.op_type not in LINEAR or attribute(node, "transA", 0):
        return False
    weight = wiring.constant(node.input[1])
    return weight is not None and weight.ndim == 2


def _chooses_tokens(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether the node only takes rows of a (B, T, C) value, and so leaves the channels alone."""
    if node.op_type == "Gather":
        return attribute(node, "axis", 0) == 1 and wiring.rank(node.input[0]) == 3
    if node.op_type == "Slice" and len(node.input) > 3:
        axes = wiring.constant(node.input[3])
        return axes is not None and axes.ravel().tolist() == [1] and wiring.rank(node.input[0]) == 3
    return bool(node.op_type == "Identity")


def _channel_constants(wiring: Wiring, name: str) -> list[tuple[onnx.NodeProto, int, int]]:
    """(node, index, axis) of the constants that, all divided alike, divide a value's last axis; [] when nothing does.

    Whatever lies between them and the value is read by one node alone.
    """
    node = wiring.makers.get(name)
    if node is not None and node.op_type == "Relu":  # relu(x/s) = relu(x)/s for s > 0
        node = _maker_of_one(wiring, node.input[0])
    if node is None:
        return []
    if node.op_type == "LayerNormalization":
        found = [(node, index, 0) for index, name in enumerate(node.input) if index > 0 and name]
        return found if all(_is_vector(wiring, entry.input[index]) for entry, index, _ in found) else []
    if node.op_type == "Add":
        bias = next((index for index, value in enumerate(node.input) if _is_vector(wiring, value)), None)
        product = _maker_of_one(wiring, node.input[1 - bias]) if bias is not None else None
        is_linear = product is not None and product.op_type == "MatMul" and _is_linear(wiring, product)
        return [(product, 1, 1), (node, bias, 0)] if is_linear and product is not None and bias is not None else []
    if not _is_linear(wiring, node):
        return []
    weight = (node, 1, 0 if attribute(node, "transB", 0) else 1)
    if len(node.input) < 3 or not node.input[2]:
        return [weight]
    return [weight, (node, 2, 0)] if _is_vector(wiring, node.input[2]) else []


def _is_vector(wiring: Wiring, name: str) -> bool:
    """Whether it is a constant with one value for each channel."""
    array = wiring.constant(name)
    return array is not None and array.ndim == 1 and array.size > 1


def _maker_of_one(wiring: Wiring, name: str) -> onnx.NodeProto | None:
    """The node that makes a value that one node alone reads."""
    return wiring.makers.get(name) if len(wiring.inner_readers(name)) == 1 else None
