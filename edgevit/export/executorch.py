"""ExecuTorch: an ONNX graph as a .pte file, quantized and lowered to XNNPACK in a child process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import InputError, MissingExtraError
from edgevit.export.child import convert_in_child
from edgevit.recipe import Calibrator

CHILD = "edgevit.makers.executorch_child"  # it needs edgevit.quantize too
PACKAGES = ("executorch", "torchao")


@dataclass(frozen=True)
class Int8Nodes:
    """Names of ONNX nodes by what happens to them; all others stay in float. `calibrator`: of the static ones."""

    static: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    calibrator: Calibrator = "minmax"


@dataclass(frozen=True)
class Lowered:
    """int8: names of ONNX nodes that compute in INT8. delegates: how many parts XNNPACK runs as a whole; portable: by
    name, how many operators ExecuTorch's own kernels run in float between them.
    """

    int8: tuple[str, ...]
    delegates: int
    portable: dict[str, int]


def export_executorch(
    graph: Path,
    path: Path,
    nodes: Int8Nodes = Int8Nodes(),
    pictures: Iterable[NDArray[Any]] = (),
    on_second: Callable[[int], None] = lambda seconds: None,
) -> Lowered:
    """Writes the graph of an .onnx file, whole or not at all. It takes what the graph takes.

    pictures: to calibrate on, (1, …) each as the graph takes them; read where something is static.
    on_second is called with the seconds so far, about once each.
    Raises MissingExtraError without executorch, InputError without pictures where they are needed, EdgevitError when
    the graph cannot be converted or when the child is killed.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(package, "executorch")
    with tempfile.TemporaryDirectory(prefix=".executorch-", dir=path.parent) as folder:
        plan, report = Path(folder, "plan.json"), Path(folder, "report.json")
        plan.write_text(json.dumps(asdict(nodes)))
        words = [str(graph), str(plan), str(report)]
        if nodes.static:
            words.append(str(_written(pictures, Path(folder, "pictures"))))
        convert_in_child(CHILD, words, path, "ExecuTorch", on_second)
        document = json.loads(report.read_text())
    return Lowered(tuple(document["int8"]), document["delegates"], document["portable"])


def _written(pictures: Iterable[NDArray[Any]], folder: Path) -> Path:
    """A folder with a file each: a child reads them one at a time."""
    folder.mkdir()
    count = 0
    for count, pixels in enumerate(pictures, start=1):
        np.save(folder / f"{count:06}.npy", pixels)
    if count == 0:
        raise InputError("Static INT8 needs pictures to calibrate on, and there is none.")
    return folder
