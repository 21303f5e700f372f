"""TorchScript on the CPU: a traced and frozen module, and the only module of the runtimes that imports torch.

An artifact says what it takes in a file inside its archive, written with torch.jit.save(module, path,
_extra_files={INPUT_SHAPE_FILE: json.dumps([1, 3, 224, 224])}), null for a size that is free. Without it every size is.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.inference import check_pixels
from edgevit.errors import BadFileError, InputError, MissingExtraError, ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIME = "torchscript"
INPUT_SHAPE_FILE = "input_shape.json"


class TorchScriptSession:
    """An open TorchScript module."""

    def __init__(self, module: Any, version: str, path: str, input_shape: tuple[int | None, ...]) -> None:
        self.runtime = RUNTIME
        self.version = version
        self.input_type = "float32"
        self.input_shape = input_shape
        self._path = path
        self._module = module

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and shape. Raises ShapeMismatchError when they do not fit."""
        import torch

        assert self._module is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape)
        try:
            with torch.inference_mode():
                logits = self._module(torch.from_numpy(np.ascontiguousarray(pixels)))
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[-1]
            raise ShapeMismatchError(f"{self._path}: cannot run on {pixels.shape} ({reason}).") from error
        if getattr(logits, "ndim", 0) != 2:
            shape = tuple(getattr(logits, "shape", ()))
            raise ShapeMismatchError(f"{self._path}: gives {shape}, not logits of (N, classes).")
        return np.asarray(logits.numpy(), dtype=np.float32)

    def close(self) -> None:
        self._module = None


def open_session(path: str, threads: int, config: dict[str, str]) -> TorchScriptSession:
    """A TorchScript module on the CPU. The number of threads holds for the whole process: torch knows no other.

    threads 0 leaves torch's own number, as ONNX Runtime takes 0.
    Raises MissingExtraError without torch, BadFileError for a file that torch cannot load, InputError for any
    `config`: TorchScript has no session entries.
    """
    torch = import_runtime()
    if config:
        raise InputError(f"TorchScript takes no session entries, and was given {', '.join(sorted(config))}.")
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    if threads:
        torch.set_num_threads(threads)
    extra = {INPUT_SHAPE_FILE: ""}
    try:
        with warnings.catch_warnings():
            # torch calls TorchScript deprecated: https://pytorch.org/blog/pytorch-2-11-release-blog/
            warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated", category=DeprecationWarning)
            module = torch.jit.load(path, map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0][:300].rstrip(". ")
        problem = f"is not a model that torch {torch.__version__} can load ({reason})."
        raise BadFileError(path, problem, fix="Export it again.") from error
    return TorchScriptSession(module.eval(), torch.__version__, path, _input_shape(path, extra[INPUT_SHAPE_FILE]))


def import_runtime() -> Any:
    """The package torch. Raises MissingExtraError."""
    try:
        import torch
    except ImportError:
        fix = "pip install torch, or in a bundle's directory: pip install -r requirements.txt"
        raise MissingExtraError("torch", "train", fix) from None
    return torch


def _input_shape(path: str, text: str | bytes) -> tuple[int | None, ...]:
    if not text:
        return (None, None, None, None)
    try:
        sizes = json.loads(text)
    except ValueError:
        sizes = None
    is_shape = isinstance(sizes, list) and all(size is None or isinstance(size, int) for size in sizes)
    if not is_shape or len(sizes) != 4:
        problem = f"{text!r:.100} is not a list of four sizes."
        raise BadFileError(path, problem, where=INPUT_SHAPE_FILE, fix="Export it again.")
    return tuple(sizes)
