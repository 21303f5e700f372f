"""What a checked bundle holds: its manifest, how a picture becomes its input, its labels, its golden pictures.

Python 3.8 and numpy only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.board.integrity import check_bundle
from edgevit.board.preprocess import Preprocess
from edgevit.errors import BadFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN_SHAPES = (("images", 4, np.uint8), ("logits", 2, np.float32), ("classes", 1, np.int64))


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been checked. golden: images uint8 (N, H, W, C), logits float32 (N, classes), classes (N,)."""

    path: str
    manifest: dict[str, Any]
    preprocess: Preprocess
    labels: tuple[str, ...]
    golden: dict[str, NDArray[Any]]


def open_bundle(directory: str | os.PathLike[str]) -> Bundle:
    """The bundle in a directory, checked byte by byte. Raises BadFileError."""
    manifest = check_bundle(directory)
    root = os.fspath(directory)
    for name in ("preprocess.json", "labels.txt", "golden.npz"):
        if name not in manifest["files"]:
            raise BadFileError(os.path.join(root, "manifest.json"), f"has no '{name}'.", where="files")
    path = os.path.join(root, "preprocess.json")
    try:
        document = json.loads(_read_utf8(path))
    except ValueError:
        raise BadFileError(path, "is not JSON.") from None
    preprocess = Preprocess.from_json(document, path=path)
    path = os.path.join(root, "labels.txt")
    labels = tuple(_read_utf8(path).rstrip("\n").split("\n"))
    if len(labels) != manifest["model"]["classes"]:
        raise BadFileError(path, f"has {len(labels)} labels, and the model has {manifest['model']['classes']} classes.")
    return Bundle(root, manifest, preprocess, labels, read_golden(os.path.join(root, "golden.npz")))


def read_golden(path: str) -> dict[str, NDArray[Any]]:
    """images uint8 (N, H, W, C), logits float32 (N, classes) and classes int64 (N,), N >= 1. Raises BadFileError."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            golden = {name: archive[name] for name, _, _ in GOLDEN_SHAPES}
    except Exception as error:  # numpy raises about any type on a damaged archive
        raise BadFileError(path, f"is not a readable set of golden pictures ({error}).") from error
    for name, dimensions, kind in GOLDEN_SHAPES:
        array = golden[name]
        if array.ndim != dimensions or array.dtype != kind or len(array) != len(golden["images"]) or not len(array):
            raise BadFileError(path, f"is {array.dtype} {array.shape}, which it may not be.", where=name)
    return golden


def _read_utf8(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise BadFileError(path, "is not UTF-8 text.") from None
