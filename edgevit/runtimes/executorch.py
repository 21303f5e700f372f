"""ExecuTorch on the CPU, which runs .pte files by XNNPACK: the packages executorch and torch.

Python 3.8, numpy and these two only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.chatter import without_chatter
from edgevit.board.inference import check_pixels
from edgevit.board.sensors import usable_processors
from edgevit.errors import BadFileError, InputError, MissingExtraError, ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIME = "executorch"
METHOD = "forward"
# Its log: '[program.cpp:168] Program identifier …'. It speaks of processors and pools whenever it starts.
LOG_LINE = r"\[\w+\.(cpp|h|cc):\d+\] "
INPUT_TYPES = {0: "uint8", 6: "float32"}  # torch's numbers of types


class _Pool:
    """The threads of XNNPACK: one pool for the whole process. `made` is how often it was made anew.

    A program keeps the pool that it was loaded with, and running it after another was made ends the process.
    """

    def __init__(self) -> None:
        self.made = 0
        self.lock = threading.Lock()

    def resize(self, library: Any, threads: int) -> None:
        if library._threadpool_get_thread_count() != threads:
            library._unsafe_reset_threadpool(threads)
            self.made += 1


POOL = _Pool()


class ExecuTorchSession:
    """An open .pte program. Its method 'forward' takes the pixels alone; its first output is the logits.

    Sessions with other numbers of threads may be open beside it: the one that runs next has the pool made anew and
    loads its program again.
    """

    def __init__(self, library: Any, version: str, path: str, threads: int) -> None:
        self.runtime = RUNTIME
        self.version = version
        self._library = library
        self._path = path
        self._threads = threads
        self._program: Any
        self._method: Any
        self._load()
        details = self._program.method_meta(METHOD)
        source = details.input_tensor_meta(0) if details.num_inputs() == 1 else None
        if source is None or len(source.sizes()) != 4 or source.dtype() not in INPUT_TYPES:
            problem = f"has {details.num_inputs()} inputs, and a picture classifier has one of four dimensions."
            raise BadFileError(path, problem)
        self.input_type = INPUT_TYPES[source.dtype()]
        self.input_shape = tuple(int(size) for size in source.sizes())

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and shape. Raises ShapeMismatchError when they do not fit."""
        import torch

        assert self._method is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape, self.input_type)
        if self._pool_made != POOL.made:
            self._load()
        try:
            outputs = self._method((torch.from_numpy(np.require(pixels, requirements=["C", "W"])),))
        except RuntimeError as error:
            reason = f"{self._path}: cannot run on {pixels.shape} ({_torch_reason(error)})."
            raise ShapeMismatchError(reason) from error
        logits = outputs[0].numpy()
        if logits.ndim != 2:
            raise ShapeMismatchError(f"{self._path}: gives {logits.shape}, not logits of (N, classes).")
        return np.asarray(logits, dtype=np.float32)

    def close(self) -> None:
        self._method = self._program = None

    def _load(self) -> None:
        """Raises BadFileError."""
        said: list[str] = []
        try:
            with POOL.lock, without_chatter(LOG_LINE) as said:
                POOL.resize(self._library, self._threads)
                self._pool_made = POOL.made
                self._program = self._library._load_program(self._path)
                self._method = self._program.load_method(METHOD)
        except (RuntimeError, ValueError) as error:
            reason = re.sub(LOG_LINE, "", said[-1]) if said else _torch_reason(error)
            problem = f"is not a model that ExecuTorch {self.version} can load ({reason[:300].rstrip('. ')})."
            raise BadFileError(self._path, problem, fix="Export it again, or use a newer executorch.") from error


def open_session(path: str, threads: int, config: dict[str, str]) -> ExecuTorchSession:
    """A .pte program on the CPU. threads 0 takes every core that this process may use.

    Raises MissingExtraError without a package, BadFileError for a file that it cannot load, InputError for any
    `config`: ExecuTorch has no session entries.
    """
    library, version = _import_library()
    if config:
        raise InputError(f"ExecuTorch takes no session entries, and was given {', '.join(sorted(config))}.")
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    return ExecuTorchSession(library, version, path, threads or len(usable_processors()))


def import_runtime() -> Any:
    """The module executorch.version, once its library is imported. Raises MissingExtraError."""
    _import_library()
    import executorch.version

    return executorch.version


def _import_library() -> tuple[Any, str]:
    """(the library, its version).

    It is imported by its own name: by executorch.runtime, which gives the same functions under the same names, come
    torchao and the exporter, 9 seconds and 130 MiB on an x86, and warnings with them. torch goes first: it needs
    torch's libraries.
    """
    try:
        import torch  # noqa: F401
        from executorch.version import __version__

        with without_chatter(LOG_LINE):
            from executorch.extension.pybindings import _C

            _C._threadpool_get_thread_count()  # finds out about the processors
    except ImportError as error:
        package = "torch" if (error.name or "").split(".")[0] == "torch" else "executorch"
        fix = f"pip install {package}, or in a bundle's directory: pip install -r requirements.txt"
        raise MissingExtraError(package, "executorch", fix) from None
    return _C, __version__


def _torch_reason(error: Exception) -> str:
    """What ExecuTorch says, in one line."""
    return " ".join(str(error).split())[:300].rstrip(". ") or type(error).__name__
