"""Cross-layer equalization: channels of two neighbouring convolutions scaled to ranges alike; exact in float.

    W2 relu(W1 x + b1)  ==  (W2 s) relu((W1/s) x + b1/s)          s = sqrt(max|W1| / max|W2|), per channel in between

One scale for a whole tensor then fits all of its channels. Source: Nagel et al. 2019, "Data-Free Quantization", section
4.1. It holds where f(s x) = s f(x) for s > 0: nothing in between, ReLU, leaky ReLU. ReLU6, SiLU and GELU are not so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.quantize.wiring import Wiring, attribute, copy_of

HOMOGENEOUS = ("Identity", "LeakyRelu", "Relu")
ROUNDS = 50  # a chain of convolutions takes several; most end after 10
CONVERGED = 1e-3
LARGEST_SCALE = 2.0**10


@dataclass(frozen=True)
class _Pair:
    first: onnx.NodeProto
    second: onnx.NodeProto


def equalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with equalized convolutions, the same function; the model itself when no two follow each other.

    Pairs: Conv to Conv, grouped and depthwise ones too, where the second alone reads the first through HOMOGENEOUS
    functions. Pairs that share a convolution are equalized in turn until nothing changes.
    """
    duplicate = copy_of(model)
    wiring = Wiring(duplicate.graph)
    pairs = list(_pairs(wiring, duplicate.graph))
    for _ in range(ROUNDS):
        scales = [_equalize(wiring, pair) for pair in pairs]
        if all(np.abs(np.log(scale)).max() < CONVERGED for scale in scales):
            break
    return duplicate if pairs else model


def has_pairs(model: onnx.ModelProto) -> bool:
    """Whether there are two convolutions that `equalize` would change."""
    return next(_pairs(Wiring(model.graph), model.graph), None) is not None


def _pairs(wiring: Wiring, graph: onnx.GraphProto) -> Iterator[_Pair]:
    return (pair for node in graph.node if (pair := _pair(wiring, node)) is not None)


def _pair(wiring: Wiring, first: onnx.NodeProto) -> _Pair | None:
    if not _is_constant_conv(wiring, first):
        return None
    node = first
    while True:
        readers = wiring.inner_readers(node.output[0])
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.op_type not in HOMOGENEOUS:
            break
    return _Pair(first, node) if _is_constant_conv(wiring, node) else None


def _is_constant_conv(wiring: Wiring, node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and all(wiring.constant(name) is not None for name in node.input[1:] if name)


def _equalize(wiring: Wiring, pair: _Pair) -> NDArray[np.float64]:
    """One step; the scales (C,) that it took. A channel that either side leaves at zero is not scaled."""
    outgoing, incoming = _weight(wiring, pair.first), _weight(wiring, pair.second)
    made = np.abs(outgoing).reshape(len(outgoing), -1).max(axis=1)  # (C,)
    read = np.abs(_by_input_channel(incoming, attribute(pair.second, "group", 1))).max(axis=1)  # (C,)
    is_used = (made > 0) & (read > 0)
    scales = np.sqrt(np.where(is_used, made, 1.0) / np.where(is_used, read, 1.0))
    scales = np.clip(scales, 1 / LARGEST_SCALE, LARGEST_SCALE)
    for index in range(1, len([name for name in pair.first.input if name])):
        wiring.scale_constant(pair.first, index, 0, 1.0 / scales)
    groups = attribute(pair.second, "group", 1)
    # (O, I/groups, kH, kW): output o reads the inputs of its group
    factors = np.repeat(scales.reshape(groups, -1), len(incoming) // groups, axis=0)
    spread = factors.reshape(*factors.shape, *[1] * (incoming.ndim - 2))
    wiring.replace_constant(pair.second, 1, incoming * spread)
    return scales


def _weight(wiring: Wiring, node: onnx.NodeProto) -> NDArray[np.float64]:
    weight = wiring.constant(node.input[1])
    assert weight is not None
    return weight.astype(np.float64)


def _by_input_channel(weight: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """(O, I/groups, ...) as (I, all that reads it)."""
    grouped = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)  # (G, O/G, I/G, k)
    return grouped.transpose(0, 2, 1, 3).reshape(groups * weight.shape[1], -1)
