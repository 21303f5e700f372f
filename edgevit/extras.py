"""Extras: whether the packages that a command needs were installed with edgevit."""

from __future__ import annotations

import importlib.util

from edgevit.errors import MissingExtraError

EXTRAS = {
    "train": ("torch", "torchvision", "timm", "accelerate", "sklearn", "matplotlib", "safetensors", "jinja2"),
    "tune": ("optuna", "sklearn"),
    "export": ("onnx", "onnxsim", "onnxscript"),
}


def require_extras(*extras: str) -> None:
    """Raises MissingExtraError naming the first missing package, before any work has begun."""
    for extra in extras:
        for package in EXTRAS[extra]:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra)
