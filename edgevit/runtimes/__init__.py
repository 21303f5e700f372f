"""Runtimes: what opens an artifact and runs it. One module and one line of RUNTIMES each."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgevit.errors import BadFileError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


class Session(Protocol):
    """An open artifact, which says itself what it takes.

    input_type: 'float32', normalized, or 'uint8', which it normalizes itself. input_shape: (N, C, H, W) of float32,
    (N, H, W, C) of uint8, with None for a size that the artifact leaves free.
    """

    runtime: str
    version: str
    input_type: str
    input_shape: tuple[int | None, ...]

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and input_shape. Raises ShapeMismatchError when they do not fit.

        board.preprocess.to_input makes them of pictures.
        """

    def close(self) -> None:
        """Lets go of the artifact; closing twice does no harm."""


class RuntimeEntry(NamedTuple):
    """`module` has open_session and import_runtime; it needs `package`, which the pip extra `extra` brings.

    `suffix`: of its artifacts. Two runtimes may read the same files; the first of the table is then the usual one.
    """

    module: str
    package: str
    suffix: str
    extra: str


RUNTIMES = {
    "onnxruntime": RuntimeEntry("edgevit.runtimes.onnxruntime", "onnxruntime", ".onnx", ""),
    "openvino": RuntimeEntry("edgevit.runtimes.openvino", "openvino", ".onnx", "openvino"),
    "litert": RuntimeEntry("edgevit.runtimes.litert", "ai_edge_litert", ".tflite", "litert"),
    "executorch": RuntimeEntry("edgevit.runtimes.executorch", "executorch", ".pte", "executorch"),
    "tensorrt": RuntimeEntry("edgevit.runtimes.tensorrt", "tensorrt", ".onnx", ""),
    "torchscript": RuntimeEntry("edgevit.runtimes.torchscript", "torch", ".ts", "train"),
}

# Their artifacts become what they run on the board alone: elsewhere they are not timed.
BUILT_ON_BOARD = frozenset({"tensorrt"})
# Of ONNX Runtime's session entries. An x86 without VNNI saturates the sums of U8S8 products, an ARM does not: what is
# meant for ARM is judged with exact sums here.
EXACT_INTEGER_SUMS = {"session.x64quantprecision": "1"}
# Where nothing is timed: beside other work, threads that spin while they wait take many times as long.
YIELD_WHEN_IDLE = {"session.intra_op.allow_spinning": "0"}
# Q and DQ as they are written, each by itself, as TensorRT defines them.
QDQ_AS_WRITTEN = {"session.disable_quant_qdq": "1"}
EVERY_CORE = 0


def open_session(path: Path | str, runtime: str, threads: int, config: Mapping[str, str] | None = None) -> Session:
    """The artifact, opened by a runtime with that many threads. `config`: the runtime's own session entries.

    Raises UnknownNameError, MissingExtraError, and BadFileError when the file is missing or is no such artifact.
    """
    session: Session = runtime_module(runtime).open_session(str(path), threads, dict(config or {}))
    return session


def runtime_module(name: str) -> ModuleType:
    """The module of a runtime, imported now. Raises UnknownNameError."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, RUNTIMES, "edgevit export --help")
    return importlib.import_module(RUNTIMES[name].module)


def runtime_for(path: Path | str) -> str:
    """The first runtime of the table that a file's suffix belongs to. Raises BadFileError."""
    suffix = Path(path).suffix.lower()
    for name, entry in RUNTIMES.items():
        if entry.suffix == suffix:
            return name
    known = ", ".join(dict.fromkeys(entry.suffix for entry in RUNTIMES.values()))
    raise BadFileError(path, f"has the suffix '{suffix}', and no runtime opens that.", fix=f"Known are: {known}.")
