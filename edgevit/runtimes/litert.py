"""LiteRT on the CPU, which runs .tflite files by XNNPACK: the package ai_edge_litert, or tflite_runtime before it.

Python 3.8, numpy and one of the two only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.chatter import without_chatter
from edgevit.board.inference import check_pixels
from edgevit.board.sensors import usable_processors
from edgevit.errors import BadFileError, InputError, MissingExtraError, ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIME = "litert"
# Session entries of ours. DELEGATE: 'xnnpack', or 'none' for LiteRT's own kernels.
DELEGATE = "edgevit.delegate"
WITHOUT_DEFAULT_DELEGATES = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
PACKAGES = ("ai_edge_litert", "tflite_runtime")
# Of each interpreter it says that it made a delegate.
CHATTER = "INFO: (Created|Initialized) TensorFlow Lite|WARNING: Attempting to use a delegate"


class LiteRtSession:
    """An open .tflite model. Its only input takes the pixels, its first output is the logits.

    Whatever the file takes, (N, C, H, W) or (N, H, W, C), float32 or quantized, the session takes float32 (N, C, H, W);
    only bytes without a scale are pixels themselves: uint8 (N, H, W, C).
    """

    def __init__(self, interpreter: Any, version: str, path: str) -> None:
        self.runtime = RUNTIME
        self.version = version
        self._path = path
        self._interpreter = interpreter
        source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        self._input, self._output = source["index"], target["index"]
        self._kind, self._scale = source["dtype"], source["quantization"]
        self._output_scale = target["quantization"]
        shape = [None if size == -1 else int(size) for size in source.get("shape_signature", source["shape"])]
        self._channels_last = shape[3] is not None and shape[1] is not None and shape[3] < shape[1]
        takes_bytes = self._kind == np.uint8 and self._channels_last and not self._scale[0]
        self.input_type = "uint8" if takes_bytes else "float32"
        is_swapped = self._channels_last and not takes_bytes
        self.input_shape = tuple(shape[axis] for axis in (0, 3, 1, 2)) if is_swapped else tuple(shape)
        self._is_swapped = is_swapped
        self._batch = int(source["shape"][0])

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and shape. Raises ShapeMismatchError when they do not fit."""
        interpreter = self._interpreter
        assert interpreter is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape, self.input_type)
        if self._is_swapped:
            pixels = pixels.transpose(0, 2, 3, 1)  # (N, H, W, C)
        if self._scale[0]:
            pixels = _quantized(pixels, self._scale, self._kind)
        try:
            if len(pixels) != self._batch:
                interpreter.resize_tensor_input(self._input, list(pixels.shape))
                interpreter.allocate_tensors()
                self._batch = len(pixels)
            interpreter.set_tensor(self._input, pixels)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ShapeMismatchError(f"{self._path}: cannot run on {pixels.shape} ({_lite_reason(error)}).") from error
        logits = interpreter.get_tensor(self._output)
        if logits.ndim != 2:
            raise ShapeMismatchError(f"{self._path}: gives {logits.shape}, not logits of (N, classes).")
        scale, zero_point = self._output_scale
        if scale:
            logits = (logits.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
        return np.asarray(logits, dtype=np.float32)

    def close(self) -> None:
        self._interpreter = None


def open_session(path: str, threads: int, config: dict[str, str]) -> LiteRtSession:
    """A .tflite model on the CPU. threads 0 takes every core that this process may use.

    config: DELEGATE alone. LiteRT's Interpreter has no other entries; XNNPACK's weight cache is in its C++ API and in
    CompiledModel's only, which is not in tflite_runtime.
    Raises MissingExtraError without a package, BadFileError for a file that it cannot load, InputError for an entry
    that it does not have.
    """
    package, interpreters = _import_packages()
    options = _options(interpreters, threads, config)
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    try:
        _check_identifier(path)
        with without_chatter(CHATTER):
            interpreter = interpreters.Interpreter(model_path=path, **options)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        problem = f"is not a model that LiteRT {package.__version__} can load ({_lite_reason(error)})."
        raise BadFileError(path, problem, fix="Export it again, or use a newer ai-edge-litert.") from error
    sources = interpreter.get_input_details()
    if len(sources) != 1 or len(sources[0]["shape"]) != 4:
        raise BadFileError(path, f"has {len(sources)} inputs, and a picture classifier has one of four dimensions.")
    return LiteRtSession(interpreter, package.__version__, path)


def import_runtime() -> Any:
    """The package ai_edge_litert, or tflite_runtime where only that is installed. Raises MissingExtraError."""
    return _import_packages()[0]


def _import_packages() -> tuple[Any, Any]:
    """(the package, its module 'interpreter')."""
    try:
        import ai_edge_litert
        import ai_edge_litert.interpreter
    except ImportError:
        pass
    else:
        return ai_edge_litert, ai_edge_litert.interpreter
    try:
        import tflite_runtime
        import tflite_runtime.interpreter
    except ImportError:
        fix = "pip install ai_edge_litert, or in a bundle's directory: pip install -r requirements.txt"
        raise MissingExtraError("ai_edge_litert", "litert", fix) from None
    return tflite_runtime, tflite_runtime.interpreter


def _options(interpreters: Any, threads: int, config: dict[str, str]) -> dict[str, Any]:
    unknown = sorted(set(config) - {DELEGATE})
    if unknown:
        raise InputError(f"LiteRT takes no session entry but {DELEGATE}, and was given {', '.join(unknown)}.")
    delegate = config.get(DELEGATE, "xnnpack")
    if delegate not in ("xnnpack", "none"):
        raise InputError(f"Session entry {DELEGATE} is '{delegate}', and must be xnnpack or none.")
    options: dict[str, Any] = {"num_threads": threads or len(usable_processors())}
    if delegate == "none":
        options["experimental_op_resolver_type"] = getattr(interpreters.OpResolverType, WITHOUT_DEFAULT_DELEGATES)
    return options


def _check_identifier(path: str) -> None:
    """A .tflite file says so in its bytes 4 to 7; tflite_runtime ends the process on some that do not."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start[4:] != b"TFL3":
        raise ValueError("it does not begin as a TensorFlow Lite flatbuffer does")


def _quantized(pixels: NDArray[Any], scale: tuple[float, int], kind: Any) -> NDArray[Any]:
    """round(pixels / scale) + zero point, within the integers of `kind`."""
    limits = np.iinfo(kind)
    levels = np.rint(pixels / np.float32(scale[0])) + np.float32(scale[1])
    return np.clip(levels, limits.min, limits.max).astype(kind)


def _lite_reason(error: Exception) -> str:
    """What LiteRT says, in one line."""
    return " ".join(str(error).split())[:300].rstrip(". ") or type(error).__name__
