"""An open ONNX Runtime session, whatever provider runs it.

Python 3.8 and numpy only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.inference import check_pixels
from edgevit.errors import ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OnnxSession:
    """An open ONNX model. Its first input takes the pixels, its first output is the logits.

    session: onnxruntime's InferenceSession. notes: what one who reads its figures must know.
    """

    def __init__(self, session: Any, runtime: str, version: str, path: str, notes: tuple[str, ...] = ()) -> None:
        self.runtime, self.version, self.notes = runtime, version, notes
        source = session.get_inputs()[0]
        self.input_type = "uint8" if source.type == "tensor(uint8)" else "float32"
        self.input_shape = tuple(size if isinstance(size, int) and size > 0 else None for size in source.shape)
        self._path, self._session = path, session
        self._input, self._output = source.name, session.get_outputs()[0].name

    def run(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (N, classes) of pixels of input_type and shape. Raises ShapeMismatchError when they do not fit."""
        assert self._session is not None, "the session is closed"
        check_pixels(self._path, pixels, self.input_shape, self.input_type)
        try:
            logits = self._session.run([self._output], {self._input: pixels})[0]
        except Exception as error:  # ONNX Runtime's exceptions share no class but this one
            raise ShapeMismatchError(f"{self._path}: cannot run on {pixels.shape} ({ort_reason(error)}).") from error
        if getattr(logits, "ndim", 0) != 2:
            raise ShapeMismatchError(f"{self._path}: gives {np.shape(logits)}, not logits of (N, classes).")
        return np.asarray(logits, dtype=np.float32)

    def close(self) -> None:
        self._session = None


def ort_reason(error: Exception) -> str:
    """What ONNX Runtime says, in one line without its code and name."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rsplit("[ONNXRuntimeError] : ", 1)[-1][:300].rstrip(". ")
