"""Extras: whether the packages that a command needs were installed with edgevit."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable

from edgevit.errors import MissingExtraError

EXTRAS = {
    "train": ("torch", "torchvision", "timm", "accelerate", "sklearn", "matplotlib", "safetensors", "jinja2"),
    "tune": ("optuna", "sklearn"),
    "export": ("onnx", "onnxsim", "onnxscript", "cyclonedx"),
}


def require_extras(*extras: str) -> None:
    """Raises MissingExtraError naming the first missing package, before any work has begun."""
    for extra in extras:
        for package in EXTRAS[extra]:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra)


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each of these packages that is installed, from its metadata: none is imported."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
