"""The tiny model of conftest.make_onnx in figures, and what it gives, by plain numpy."""

from __future__ import annotations

import numpy as np

CLASSES = 4
SIDE = 8
WEIGHTS = np.array([[2.0, -1.0, 0.5, 0.0], [-1.0, 2.0, 0.0, 0.5], [0.5, 0.5, 2.0, -1.0]], dtype=np.float32)
BIAS = np.array([0.0, 0.1, -0.1, 0.2], dtype=np.float32)


def tiny_logits(images: np.ndarray) -> np.ndarray:
    """What the tiny model gives for uint8 (N, 8, 8, 3) scaled to -1..1: the mean color times WEIGHTS plus BIAS."""
    colors = (images.astype(np.float64) / 255 - 0.5) / 0.5
    return (colors.mean(axis=(1, 2)) @ WEIGHTS + BIAS).astype(np.float32)
