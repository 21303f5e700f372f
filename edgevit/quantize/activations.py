"""Activations: what a graph's inner tensors hold on real pictures, one picture at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgevit.errors import EdgevitError
from edgevit.runtimes import EXACT_INTEGER_SUMS, YIELD_WHEN_IDLE

FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})
SESSION_CONFIG = {**YIELD_WHEN_IDLE, **EXACT_INTEGER_SUMS}
ORT_LOG_ERRORS = 3


def stream_activations(
    model: onnx.ModelProto, batches: Iterable[np.ndarray], tensors: Sequence[str]
) -> Iterator[dict[str, NDArray[np.floating]]]:
    """For each batch, the values of those `tensors` that hold floats, in the order of `tensors`.

    batches: what the graph's only input takes; read one at a time, never ahead, so that memory stays flat.
    Raises EdgevitError when ONNX Runtime cannot run the model, or when a value is NaN or infinite.
    """
    source = model.graph.input[0].name
    inner = [name for name in dict.fromkeys(tensors) if name != source]
    session = open_exposed(model, inner)
    kinds = {value.name: value.type for value in session.get_outputs()}
    floats = [name for name in inner if kinds[name] in FLOATS]
    for picture, batch in enumerate(batches, start=1):
        values = dict(zip(floats, run_session(session, floats, {source: batch}), strict=True))
        if source in tensors and batch.dtype.kind == "f":
            values[source] = batch
        for name, array in values.items():
            if not np.isfinite(array).all():
                raise EdgevitError(
                    f"Tensor '{name}' holds NaN or infinity on calibration picture {picture}: it has no range. "
                    "Check the weights and that picture."
                )
        yield {name: values[name] for name in dict.fromkeys(tensors) if name in values}


def open_exposed(model: onnx.ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session on the CPU that returns all these tensors as well. Raises EdgevitError when it cannot be made."""
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    known = {value.name for value in widened.graph.output}
    widened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(tensors) if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ORT_LOG_ERRORS
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(widened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        raise _translated(error) from error


def run_session(
    session: onnxruntime.InferenceSession, outputs: Sequence[str] | None, feeds: dict[str, np.ndarray]
) -> list[NDArray[np.floating]]:
    """The values of these outputs; of all when None. Raises EdgevitError when ONNX Runtime refuses."""
    if outputs is not None and not outputs:
        return []  # ONNX Runtime takes an empty list for all of them
    try:
        values: list[NDArray[np.floating]] = session.run(outputs, feeds)
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        raise _translated(error) from error
    return values


def _translated(error: Exception) -> EdgevitError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return EdgevitError(f"ONNX Runtime cannot calibrate this model: {reason}")
