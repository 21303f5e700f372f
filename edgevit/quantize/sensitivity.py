"""Sensitivity: what INT8 costs the logits layer by layer, and which layers have outliers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.errors import InputError
from edgevit.quantize.activations import open_exposed, run_session, stream_activations
from edgevit.verify import sqnr_db

OUTLIER_KURTOSIS = 10.0  # a normal distribution has 3, Laplace's 6
OUTLIER_RATIO = 8.0  # stretches the range of all other channels by so much: 3 of their 8 bits

Array = NDArray[np.floating]


def layer_sqnr_db(
    model: onnx.ModelProto,
    make_quantized: Callable[[Sequence[str]], onnx.ModelProto],
    layers: Sequence[Sequence[str]],
    pictures: Sequence[np.ndarray],
    on_layer: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """For each of `layers`, the SQNR of the logits in dB when its nodes alone are in INT8: inf where nothing changes.

    make_quantized: the float model with just the named nodes quantized. pictures: a few inputs (1, ...), 8 or so; each
    layer costs one session and a run of each of them.
    Raises InputError without pictures, EdgevitError when ONNX Runtime or the quantizer fails.
    """
    if len(pictures) == 0:
        raise InputError("There is no picture to measure what INT8 costs on. Give at least one.")
    reference = _logits(model, pictures)
    found = []
    for done, nodes in enumerate(layers, start=1):
        found.append(sqnr_db(reference, _logits(make_quantized(nodes), pictures)))
        on_layer(done)
    return found


def noise_power(level_db: float) -> float:
    """Of an SQNR in dB, relative to the signal's; NaN counts as infinitely noisy."""
    if math.isnan(level_db):
        return math.inf
    return float(10.0 ** min(-level_db / 10.0, 300.0))


def activation_kurtosis(
    model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[np.ndarray]
) -> dict[str, float]:
    """Of each tensor over all pictures, the fourth central moment by the squared variance: 3 for a normal distribution.

    0 for a constant. One pass, one picture at a time. Raises InputError without pictures, EdgevitError for NaN.
    """
    moments: dict[str, _Moments] = {}
    for activations in stream_activations(model, batches, tensors):
        for name, values in activations.items():
            moments.setdefault(name, _Moments(float(values.mean()))).add(values)
    if not moments and tensors:
        raise InputError("There is no picture to measure activations on. Give at least one.")
    return {name: found.kurtosis() for name, found in moments.items()}


def outlier_layers(
    model: onnx.ModelProto,
    nodes: Sequence[str],
    kurtosis: Mapping[str, float],
    channel_maxima: Mapping[str, NDArray[np.floating]],
) -> tuple[str, ...]:
    """Those of the linear `nodes` whose input has outlier channels: a few that stretch the range of all others.

    Those with the heaviest tails come first, readers of one tensor beside each other.

    kurtosis, channel_maxima: of the nodes' input tensors (see activation_kurtosis and smoothquant.channel_maxima).
    Heavy tails alone are no sign (a GELU's output has them in every channel): the largest channel must also reach
    OUTLIER_RATIO times the median one.
    """
    inputs = {node.name: node.input[0] for node in model.graph.node}
    found = [
        name
        for name in nodes
        if kurtosis[inputs[name]] > OUTLIER_KURTOSIS and _spread(channel_maxima[inputs[name]]) > OUTLIER_RATIO
    ]
    return tuple(sorted(found, key=lambda name: (-kurtosis[inputs[name]], inputs[name])))


def _spread(channel_maxima: NDArray[np.floating]) -> float:
    """The largest channel by the median one of those that are not all zero; 1 when there is none."""
    alive = channel_maxima[channel_maxima > 0]
    return float(alive.max() / np.median(alive)) if alive.size else 1.0


class _Moments:
    """Sums of the first four powers of (x - shift), where `shift` is near the mean so that little cancels."""

    def __init__(self, shift: float) -> None:
        self._shift = shift
        self._count = 0
        self._sums = np.zeros(4)

    def add(self, values: Array) -> None:
        deviations = values.astype(np.float64).ravel() - self._shift
        squares = deviations * deviations
        self._count += values.size
        self._sums += (deviations.sum(), squares.sum(), (squares * deviations).sum(), (squares * squares).sum())

    def kurtosis(self) -> float:
        mean, second, third, fourth = self._sums / self._count  # moments about the shift
        variance = second - mean**2
        if variance <= second * 1e-12:  # rounding alone
            return 0.0
        central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
        return float(central / variance**2)


def _logits(model: onnx.ModelProto, pictures: Sequence[np.ndarray]) -> Array:
    session = open_exposed(model, [])
    output, source = model.graph.output[0].name, model.graph.input[0].name
    return np.concatenate([run_session(session, [output], {source: picture})[0] for picture in pictures])
