"""OpenVINO on the CPU, which reads the .onnx file itself.

Python 3.8, numpy and openvino only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.inference import check_pixels
from edgevit.errors import BadFileError, MissingExtraError, ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIME = "openvino"
# One picture at a time, as fast as it goes. By itself OpenVINO computes in bfloat16 where the CPU can: an artifact
# would then answer otherwise on the host than on its board. Who wants that says so in the session's entries.
DEFAULTS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoSession:
    """An open ONNX model. Its only input takes the pixels, its first output is the logits."""

    def __init__(self, compiled: Any, version: str, path: str) -> None:
        self.runtime = RUNTIME
        self.version = version
        source = compiled.input(0)
        self.input_type = "uint8" if source.get_element_type().get_type_name() == "u8" else "float32"
        self.input_shape = tuple(size.get_length() if size.is_static else None for size in source.get_partial_shape())
        self._path = path
        self._request = compiled.create_infer_request()

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and shape. Raises ShapeMismatchError when they do not fit."""
        assert self._request is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape, self.input_type)
        try:
            logits = self._request.infer([np.ascontiguousarray(pixels)], share_inputs=True)[0]
        except RuntimeError as error:
            raise ShapeMismatchError(f"{self._path}: cannot run on {pixels.shape} ({_ov_reason(error)}).") from error
        if logits.ndim != 2:
            raise ShapeMismatchError(f"{self._path}: gives {logits.shape}, not logits of (N, classes).")
        return np.asarray(logits, dtype=np.float32)

    def close(self) -> None:
        self._request = None


def open_session(path: str, threads: int, config: dict[str, str]) -> OpenVinoSession:
    """An ONNX model on the CPU. threads 0 leaves OpenVINO's own number, as ONNX Runtime takes 0.

    config: OpenVINO's own properties, such as 'INFERENCE_PRECISION_HINT': 'bf16'. Without that one it is 'f32'.
    Raises MissingExtraError without openvino, BadFileError for a file or a property that it cannot take.
    """
    openvino = import_runtime()
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    properties = {**DEFAULTS, **({"INFERENCE_NUM_THREADS": str(threads)} if threads else {}), **config}
    try:
        compiled = _only_core().compile_model(_read_onnx(openvino, path), "CPU", properties)
    except Exception as error:  # OpenVINO's exceptions share no class but this one
        problem = f"is not a model that OpenVINO {openvino.__version__} can load ({_ov_reason(error)})."
        raise BadFileError(path, problem, fix="Export it again, or use a newer openvino.") from error
    if len(compiled.inputs) != 1:
        raise BadFileError(path, f"has {len(compiled.inputs)} inputs, and a picture classifier has one.")
    return OpenVinoSession(compiled, openvino.__version__, path)


def import_runtime() -> Any:
    """The package openvino, which then reports nothing to its maker. Raises MissingExtraError.

    `import openvino` sends an event through its dependency openvino_telemetry, unless a file in the user's home
    forbids it. Where that package cannot be imported, OpenVINO takes a stub of its own that does nothing: so it is
    made one that cannot, in this process, and nothing is written into anybody's home.
    Source: openvino/tools/ovc/__init__.py and telemetry_utils.py of openvino 2026.4.1.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None: Python refuses to import it
    try:
        import openvino
        import openvino.frontend
    except ImportError:
        fix = "pip install openvino, or in a bundle's directory: pip install -r requirements.txt"
        raise MissingExtraError("openvino", "openvino", fix) from None
    return openvino


@functools.lru_cache(maxsize=None)
def _only_core() -> Any:
    """The process's one and only. A Core gives its thread another stack for signals and puts the former one back when
    it ends; where two of them end in the order in which they began, what is put back was freed already, and the next
    signal that Python handles ends the process (OpenVINO 2026.4.1).
    """
    return import_runtime().Core()


def _read_onnx(openvino: Any, path: str) -> Any:
    """Not Core.read_model: on a damaged file it tries all its other formats, and these complain on stderr."""
    frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    model = frontend.convert(frontend.load(path))
    if not model.inputs:  # an empty file is a valid protobuf message
        raise ValueError("it holds no graph")
    return model


def _ov_reason(error: Exception) -> str:
    """What OpenVINO says, in one line without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from ", "Check '", "FrontEnd API "))]
    return " ".join(said or lines or [type(error).__name__])[:300].rstrip(". ")
