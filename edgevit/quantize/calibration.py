"""Calibration: the ranges that activations take on real pictures, streamed so that memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, TensorsData
from onnxruntime.quantization.calibrate import TensorData

from edgevit.errors import InputError
from edgevit.quantize.activations import stream_activations
from edgevit.quantize.calibrators import LEVELS, RANGES, Distribution, Range
from edgevit.recipe import Calibrator

# An INT32 bias has the product of two scales for its own: at 2^-63 each it is float32's smallest normal, 2^-126.
SMALLEST_SCALE = 2.0**-63


def observe_activations(
    model: onnx.ModelProto,
    batches: Iterable[np.ndarray],
    nodes: Sequence[str],
    on_picture: Callable[[int], None] = lambda done: None,
) -> dict[str, Distribution]:
    """By name, the values of every activation that the operators named in `nodes` read or make.

    batches: (1, ...) inputs, read once and one at a time; memory does not grow with their number.
    Raises InputError when there is no picture, EdgevitError when ONNX Runtime cannot run the model or when an
    activation is NaN or infinite.
    """
    found: dict[str, Distribution] = {}
    done = 0
    for done, activations in enumerate(stream_activations(model, batches, _touched_by(model, nodes)), start=1):
        for name, values in activations.items():
            found.setdefault(name, Distribution()).observe(values)
        on_picture(done)
    if done == 0:
        raise InputError("Static INT8 needs pictures to calibrate on, and there is none.")
    return found


def ranges_by(calibrator: Calibrator, distributions: Mapping[str, Distribution]) -> TensorsData:
    """What the 8 bits of each tensor are to cover; zero is always within."""
    data = {name: _tensor_data(*found) for name, found in ranges_of(calibrator, distributions).items()}
    return TensorsData(CalibrationMethod.MinMax, data)


def ranges_of(calibrator: Calibrator, distributions: Mapping[str, Distribution]) -> dict[str, Range]:
    """The same as plain numbers."""
    to_range = RANGES[calibrator]
    return {name: representable(to_range(values)) for name, values in distributions.items()}


def representable(found: Range) -> Range:
    """The same range with zero inside, so that the zero point is a code; [0, 255] where its scale would vanish.

    A tensor of zeros, or of values that 8 bits cannot tell from zero, thus gets scale 1.
    """
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    return (low, high) if (high - low) / (LEVELS - 1) >= SMALLEST_SCALE else (0.0, LEVELS - 1.0)


def _touched_by(model: onnx.ModelProto, nodes: Sequence[str]) -> list[str]:
    wanted = set(nodes)
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    touched = [name for node in model.graph.node if node.name in wanted for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(touched) if name not in constants]


def _tensor_data(low: float, high: float) -> TensorData:
    return TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
