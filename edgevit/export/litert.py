"""LiteRT: an fp32 ONNX graph as a .tflite file, converted in a child process."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from edgevit.errors import MissingExtraError
from edgevit.export.child import convert_in_child

CHILD = "edgevit.export.litert_child"
PACKAGE = "litert_torch"


def export_litert(graph: Path, path: Path, on_second: Callable[[int], None] = lambda seconds: None) -> Path:
    """Writes the graph of an .onnx file, whole or not at all. It takes (1, H, W, C), of the graph's type.

    on_second is called with the seconds so far, about once each.
    Raises MissingExtraError without litert-torch, EdgevitError when the graph cannot be converted or when the child is
    killed.
    """
    if find_spec(PACKAGE) is None:
        raise MissingExtraError(PACKAGE, "litert")
    return convert_in_child(CHILD, [str(graph)], path, "LiteRT", on_second)
