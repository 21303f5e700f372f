"""ONNX Runtime on the CPU.

Python 3.8, numpy and onnxruntime only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.inference import check_pixels
from edgevit.errors import BadFileError, MissingExtraError, ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIME = "onnxruntime"
ORT_LOG_ERRORS = 3
GRAPH_LEVEL = "edgevit.graph_level"
CPU_ARENA = "edgevit.cpu_arena"
PROVIDER = "edgevit.provider"
CPU_PROVIDER = "CPUExecutionProvider"
NO_PREPACKING = "session.disable_prepacking"
OWN_THREADS = ("XnnpackExecutionProvider",)  # providers with a pool of their own


class OnnxRuntimeSession:
    """An open ONNX model. The first input takes the pixels, the first output is the logits."""

    def __init__(self, session: Any, version: str, path: str) -> None:
        self.runtime = RUNTIME
        self.version = version
        source = session.get_inputs()[0]
        self.input_type = "uint8" if source.type == "tensor(uint8)" else "float32"
        self.input_shape = tuple(size if isinstance(size, int) and size > 0 else None for size in source.shape)
        self._path = path
        self._input = source.name
        self._output = session.get_outputs()[0].name
        self._session = session

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and shape. Raises ShapeMismatchError when they do not fit."""
        assert self._session is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape, self.input_type)
        try:
            logits = self._session.run([self._output], {self._input: pixels})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no class but this one
            raise ShapeMismatchError(f"{self._path}: cannot run on {pixels.shape} ({_ort_reason(error)}).") from error
        if getattr(logits, "ndim", 0) != 2:
            raise ShapeMismatchError(f"{self._path}: gives {np.shape(logits)}, not logits of (N, classes).")
        logits_f32: NDArray[np.float32] = np.asarray(logits, dtype=np.float32)
        return logits_f32

    def close(self) -> None:
        self._session = None


def open_session(path: str, threads: int, config: dict[str, str]) -> OnnxRuntimeSession:
    """An ONNX model on the CPU, with `threads` inside an operator and one operator at a time.

    config: ONNX Runtime's own session entries, such as 'session.set_denormal_as_zero': '1', and three of ours for
    options that it has no entries for: GRAPH_LEVEL ('basic', 'extended', 'layout' or 'all'), CPU_ARENA ('0' or '1') and
    PROVIDER, which goes before the CPU's.
    Raises MissingExtraError without onnxruntime, BadFileError for a file that it cannot load.
    """
    onnxruntime = import_runtime()
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    try:
        options, providers = session_options(threads, config), _providers(threads, config)
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        problem = f"asks for what ONNX Runtime {onnxruntime.__version__} does not have ({_ort_reason(error)})."
        raise BadFileError(path, problem, fix="Export it again, or use a newer onnxruntime.") from error
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        problem = f"is not a model that ONNX Runtime {onnxruntime.__version__} can load ({_ort_reason(error)})."
        raise BadFileError(path, problem, fix="Export it again, or use a newer onnxruntime.") from error
    if len(session.get_inputs()) != 1:
        raise BadFileError(path, f"has {len(session.get_inputs())} inputs, and a picture classifier has one.")
    return OnnxRuntimeSession(session, onnxruntime.__version__, path)


def session_options(threads: int, config: dict[str, str]) -> Any:
    """SessionOptions as open_session has them. Raises what ONNX Runtime raises for an entry that it refuses,
    ValueError for a graph level that it does not have.
    """
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ORT_LOG_ERRORS
    level = config.get(GRAPH_LEVEL, "all")
    found = getattr(onnxruntime.GraphOptimizationLevel, "ORT_ENABLE_" + level.upper(), None)
    if found is None:
        raise ValueError(f"no graph level '{level}'")
    options.graph_optimization_level = found
    options.enable_cpu_mem_arena = config.get(CPU_ARENA, "1") != "0"
    for key, value in sorted(config.items()):
        options.add_session_config_entry(key, value)
    return options


def built_providers() -> list[str]:
    """The execution providers that this build of ONNX Runtime has. Raises MissingExtraError."""
    return list(import_runtime().get_available_providers())


def import_runtime() -> Any:
    """The package onnxruntime, which then reports nothing to its maker. Raises MissingExtraError."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # https://github.com/microsoft/onnxruntime/pull/27379
    try:
        import onnxruntime
    except ImportError:
        fix = "pip install onnxruntime, or in a bundle's directory: pip install -r requirements.txt"
        raise MissingExtraError("onnxruntime", "", fix) from None
    return onnxruntime


def _providers(threads: int, config: dict[str, str]) -> list[Any]:
    """As InferenceSession takes them. Raises ValueError for one that this build lacks."""
    asked = config.get(PROVIDER, CPU_PROVIDER)
    if asked == CPU_PROVIDER:
        return [CPU_PROVIDER]
    if asked not in built_providers():
        raise ValueError(f"no provider '{asked}'")
    own = {"intra_op_num_threads": str(threads)} if asked in OWN_THREADS and threads else {}
    return [(asked, own), CPU_PROVIDER]


def _ort_reason(error: Exception) -> str:
    """What ONNX Runtime says, in one line without its code and name."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rsplit("[ONNXRuntimeError] : ", 1)[-1][:300].rstrip(". ")
