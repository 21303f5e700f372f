"""Small graphs as .tflite files, each converted once for all tests of a process: a conversion takes ten seconds."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import onnx
from tiny_models import mobilevit_graph, vit_graph

from edgevit.export.litert import export_litert
from edgevit.export.names import fused_names
from edgevit.export.onnx import write_onnx
from edgevit.policies import exact_policy
from edgevit.policy import TokenReduction
from edgevit.quantize.tflite import QuantizableOperators, quantizable_operators, read_operators
from edgevit.rewrite.form import reformed

GRAPHS = {"vit": vit_graph, "mobilevit": mobilevit_graph, "merged": vit_graph}
FEWER = {"merged": TokenReduction(method="merge", removed=(3, 4))}


@functools.cache
def converted(name: str) -> Path:
    """The .tflite file of the graph in LiteRT's exact form; the .onnx file lies beside it."""
    policy = exact_policy("litert").model_copy(update={"tokens": FEWER.get(name)})
    graph, _ = reformed(GRAPHS[name](), policy)
    source = write_onnx(graph, _folder() / f"{name}.onnx")
    return export_litert(source, source.with_suffix(".tflite"))


@functools.cache
def offered(name: str) -> QuantizableOperators:
    graph = onnx.load(converted(name).with_suffix(".onnx"))
    return quantizable_operators(read_operators(converted(name)), fused_names(graph))


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="edgevit-litert-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
