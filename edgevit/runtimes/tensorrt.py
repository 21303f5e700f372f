"""TensorRT on a Jetson's GPU, by an engine that is built there of the bundle's .onnx file.

Where its Python package is missing, ONNX Runtime's TensorRT or CUDA provider runs the file, and the session says so.
Python 3.8 and numpy only: this file is also a part of the bundle's agent.py. Never run on a board yet; see the README.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.cuda import CudaMemory, find_gpu_apart
from edgevit.board.engines import (
    BUILD_SECONDS,
    discard_engine,
    engine_folder,
    engine_key,
    ensure_engine,
    kept_engine,
    recipe_of,
)
from edgevit.board.inference import check_pixels
from edgevit.board.ortgpu import GPU_PROVIDERS, open_on_gpu
from edgevit.board.trtbench import time_engine
from edgevit.board.trtbuilder import build_in_process, collecting_logger
from edgevit.board.trtexec import (
    INSTALL_TENSORRT,
    build_words,
    find_trtexec,
    parse_version,
    run_trtexec,
    trtexec_version,
    version_text,
)
from edgevit.errors import BadFileError, DeviceError, EdgevitError, ShapeMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgevit.board.engines import Engine
    from edgevit.board.trtexec import EngineRecipe, Version

RUNTIME = "tensorrt"
# Of this runtime alone: the agent asks for them by name.
__all__ = ["import_runtime", "open_session", "prepare", "time_engine"]


class TensorRtSession:
    """An engine on the GPU. Its input takes the pixels, its output is the logits; `notes` says what runs."""

    def __init__(self, trt: Any, loaded: Any, memory: CudaMemory, path: str, notes: tuple[str, ...]) -> None:
        engine, self._lives_in = loaded
        self.runtime = RUNTIME
        self.version = str(trt.__version__)
        self.notes = notes
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or not outputs:
            raise BadFileError(path, f"has {len(inputs)} inputs, and a picture classifier has one.")
        for name in (inputs[0], outputs[0]):
            if engine.get_tensor_dtype(name) != trt.float32:
                raise BadFileError(path, f"takes or gives '{name}' in another type than float32.")
        self.input_type = "float32"
        self.input_shape: tuple[int | None, ...] = tuple(engine.get_tensor_shape(inputs[0]))
        shape = tuple(engine.get_tensor_shape(outputs[0]))
        if len(shape) != 2 or min(shape) < 1:
            raise ShapeMismatchError(f"{path}: gives {shape}, not logits of (N, classes).")
        self._path = path
        self._memory: CudaMemory | None = memory
        self._logits = np.empty(shape, np.float32)
        self._source = memory.allocate(4 * math.prod(engine.get_tensor_shape(inputs[0])))
        self._target = memory.allocate(self._logits.nbytes)
        self._engine, self._context = engine, engine.create_execution_context()
        if self._context is None:
            raise DeviceError(f"{path}: TensorRT has no memory left to run its engine. Close other programs.")
        self._context.set_tensor_address(inputs[0], self._source)
        self._context.set_tensor_address(outputs[0], self._target)
        for name in outputs[1:]:
            size = 8 * max(1, math.prod(engine.get_tensor_shape(name)))
            self._context.set_tensor_address(name, memory.allocate(size))

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_shape. Raises ShapeMismatchError when they do not fit."""
        assert self._memory is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape, self.input_type)
        self._memory.enter()
        self._memory.copy_in(self._source, np.ascontiguousarray(pixels))
        if not self._context.execute_async_v3(self._memory.stream):
            raise EdgevitError(f"{self._path}: TensorRT could not run the engine on {pixels.shape}.")
        self._memory.copy_out(self._logits, self._target)
        return self._logits.copy()

    def close(self) -> None:
        if self._memory is not None:
            self._context = self._engine = self._lives_in = None
            self._memory.close()
            self._memory = None


def open_session(path: str, threads: int, config: dict[str, str]) -> Any:
    """The model's engine, built now where there is none for this GPU and TensorRT; else ONNX Runtime on the GPU.

    threads: of what is left on the CPU; an engine uses none. config: the manifest's runtime.session.
    Raises DeviceError on a machine that has neither, BadFileError for a file that TensorRT does not take.
    """
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    trt = _tensorrt()
    if trt is None:
        return open_on_gpu(import_runtime(), path, threads, recipe_of(config), engine_folder())
    engine = prepare(path, config)
    assert engine is not None, "where the package is, an engine is built"
    memory = CudaMemory()
    errors: list[str] = []
    loaded = _load(trt, engine, errors)
    if loaded is None:  # whole, so of another build of the same version
        memory.close()
        discard_engine(engine)
        problem = f"is an engine that TensorRT cannot load ({' | '.join(errors[-3:])})."
        raise BadFileError(engine.path, problem, fix="It was removed; try again, and it is built anew.")
    note = f"Engine in {engine.key.precision} for {engine.key.gpu}, built on this board by {engine.built_by}."
    return TensorRtSession(trt, loaded, memory, path, (note,))


def prepare(
    path: str,
    config: dict[str, str],
    force: bool = False,
    timeout_s: float = BUILD_SECONDS,
    tell: Callable[[float, float], object] = lambda seconds, limit_s: None,
) -> Engine | None:
    """The model's engine; built by trtexec or by the Python API where there is none for this GPU and TensorRT.

    None where neither is there, but ONNX Runtime on the GPU, which builds its own. force: build it anew.
    Raises DeviceError on a machine without a GPU or TensorRT, EdgevitError with TensorRT's words when it fails.
    """
    recipe, trt, trtexec = recipe_of(config), _tensorrt(), find_trtexec()
    if trt is None and trtexec is None:
        import_runtime()
        return None
    version, folder = _version(trt, trtexec), engine_folder()
    key = engine_key(path, find_gpu_apart(), version, recipe)
    kept = None if force else kept_engine(key, folder)
    if kept is not None:
        return kept
    built_by, build = _builder(trt, trtexec, version, recipe, timeout_s, tell)
    return ensure_engine(path, key, folder, build, built_by, force)


def import_runtime() -> Any:
    """The package tensorrt, else onnxruntime with a provider for the GPU. Raises DeviceError where neither is."""
    trt = _tensorrt()
    if trt is not None:
        return trt
    try:
        import onnxruntime
    except ImportError:
        onnxruntime = None
    available = onnxruntime.get_available_providers() if onnxruntime is not None else []
    if not set(GPU_PROVIDERS) & set(available):
        raise DeviceError(
            "TensorRT's Python package is not on this machine, and no ONNX Runtime for its GPU. This bundle runs on a "
            f"Jetson; there: {INSTALL_TENSORRT}"
        )
    return onnxruntime


def _version(trt: Any, trtexec: str | None) -> Version:
    """Of the TensorRT that will load the engine: the package's, else trtexec's."""
    if trt is None:
        assert trtexec is not None
        return trtexec_version(trtexec)
    version = parse_version(str(trt.__version__))
    if version is None:
        raise DeviceError(f"TensorRT's version '{trt.__version__}' is not one that this agent can read.")
    return version


def _builder(
    trt: Any,
    trtexec: str | None,
    version: Version,
    recipe: EngineRecipe,
    timeout_s: float,
    tell: Callable[[float, float], object],
) -> tuple[str, Callable[[str, str, str], object]]:
    """(its name, what builds): trtexec where it is of this version, else the package."""
    if trtexec is not None and (trt is None or trtexec_version(trtexec) == version):
        command = trtexec

        def build_by_command(model: str, engine: str, cache: str) -> None:
            run_trtexec(build_words(command, version, recipe, model, engine, cache), timeout_s, tell)

        return f"trtexec {version_text(version)}", build_by_command

    def build_by_package(model: str, engine: str, cache: str) -> None:
        build_in_process(_tensorrt, version, recipe, (model, engine, cache), timeout_s, tell)

    return f"TensorRT's Python API {version_text(version)}", build_by_package


def _load(trt: Any, engine: Any, errors: list[str]) -> Any:
    """(engine, the runtime that it lives in); None when TensorRT refuses it."""
    runtime = trt.Runtime(collecting_logger(trt, errors))
    with open(engine.path, "rb") as file:
        loaded = runtime.deserialize_cuda_engine(file.read())
    return None if loaded is None else (loaded, runtime)


def _tensorrt() -> Any:
    """The package; None where it is not installed, or its libraries are missing."""
    try:
        import tensorrt
    except (ImportError, OSError):
        return None
    return tensorrt
