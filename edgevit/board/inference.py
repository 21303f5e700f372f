"""Arrays around a session: what goes in, what comes out, and how two outputs agree.

Python 3.8 and numpy only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import ShapeMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def check_pixels(
    path: str, pixels: NDArray[Any], input_shape: Sequence[int | None], input_type: str = "float32"
) -> None:
    """Raises ShapeMismatchError unless pixels are input_type of input_shape, where None stands for any size."""
    fits = len(pixels.shape) == len(input_shape) and all(
        wanted in (None, size) for size, wanted in zip(pixels.shape, input_shape)
    )
    if not fits or pixels.dtype != input_type:
        sizes = ", ".join("any" if size is None else str(size) for size in input_shape)
        raise ShapeMismatchError(f"{path}: takes {input_type} ({sizes}), and was given {pixels.dtype} {pixels.shape}.")


def run_in_batches(session: Any, pixels: NDArray[Any], batch: int = 1) -> NDArray[np.float32]:
    """Logits (N, classes) of any N pictures, as to_input makes them, through an artifact of any batch size.

    batch: how many at a time where the artifact leaves it free. A last, short batch is filled up with its last
    picture, whose further logits are dropped. Raises ShapeMismatchError, also when there is no picture.
    """
    if len(pixels) == 0:
        raise ShapeMismatchError("There is no picture to run. Pass at least one.")
    size = session.input_shape[0] or batch
    logits = []
    for start in range(0, len(pixels), size):
        part = pixels[start : start + size]
        missing = size - len(part) if session.input_shape[0] else 0
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        logits.append(session.run(np.ascontiguousarray(filled))[: len(part)])
    return np.concatenate(logits)  # (N, classes)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (N, classes) of logits (N, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def agreement(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> dict[str, Any]:
    """How near actual logits are to expected, finite ones, (N, classes): what verify.measure_parity says on the host.

    cosine: mean over pictures; two all-zero pictures count as 1, one of them as 0. top1_agreement: 0 to 1.
    max_abs: over the pictures without NaN and infinity. nonfinite: how many have them; these agree in nothing.
    Raises ShapeMismatchError when the shapes differ.
    """
    if expected.shape != actual.shape or expected.ndim != 2:
        raise ShapeMismatchError(f"Logits are {actual.shape}, and {expected.shape} are expected.")
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(actual).all(axis=1))  # (N,)
    a = expected.astype(np.float64)
    b = np.where(finite[:, None], actual, np.float32(0)).astype(np.float64)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = finite & ~a.any(axis=1) & ~b.any(axis=1)
    cosines = np.where(scale > 0, (a * b).sum(axis=1) / np.where(scale > 0, scale, 1.0), both_zero)
    same = finite & (a.argmax(axis=1) == b.argmax(axis=1))
    return {
        "cosine": float(cosines.mean()),
        "max_abs": float(np.abs(a - b)[finite].max()) if finite.any() else 0.0,
        "top1_agreement": float(same.mean()),
        "nonfinite": int((~finite).sum()),
    }
