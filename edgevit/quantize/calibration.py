"""Calibration: the ranges that activations take on real pictures, streamed so that memory stays flat."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, TensorsData
from onnxruntime.quantization.calibrate import create_calibrator

from edgevit.errors import EdgevitError, InputError
from edgevit.recipe import Calibrator

CHUNK_PICTURES = 4  # the histogram calibrators keep one chunk's activations in memory, never more
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


def activation_ranges(
    model: onnx.ModelProto,
    batches: Iterable[np.ndarray],
    nodes: Sequence[str],
    method: Calibrator = "minmax",
    on_picture: Callable[[int], None] = lambda done: None,
) -> TensorsData:
    """The range (or histogram threshold) of every tensor that the operators named in `nodes` touch.

    batches: float32 (1, C, H, W) inputs. Peak memory does not grow with their number: ONNX Runtime's calibrators
    keep whatever one `collect_data` call brings, so each call brings CHUNK_PICTURES.
    Raises InputError when there is no picture, EdgevitError when ONNX Runtime cannot run the model.
    """
    wanted = set(nodes)
    op_types = sorted({node.op_type for node in model.graph.node if node.name in wanted})
    with tempfile.TemporaryDirectory(prefix="edgevit-calibration-") as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        with _translated():
            calibrator = create_calibrator(
                str(source),
                op_types,
                str(Path(folder) / "augmented.onnx"),
                METHODS[method],
                extra_options=_options(method),
            )
        done = 0
        for chunk in _chunks(batches, CHUNK_PICTURES):
            with _translated():
                calibrator.collect_data(_Reader(model.graph.input[0].name, chunk))
            done += len(chunk)
            on_picture(done)
        if done == 0:
            raise InputError("Static INT8 needs pictures to calibrate on, and there is none.")
        with _translated():
            return calibrator.compute_data()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The calibrator's prints go to stderr (stdout belongs to --json), its exceptions become EdgevitErrors."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EdgevitError(f"ONNX Runtime cannot calibrate this model: {reason}") from error


def _options(method: Calibrator) -> dict[str, object]:
    return {"percentile": 99.99} if method == "percentile" else {}


def _chunks(batches: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    iterator = iter(batches)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, batches: list[np.ndarray]) -> None:
        self._name = name
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}
