"""Conversion to LiteRT: what comes out, and that a child that fails or dies leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgevit.errors import EdgevitError, MissingExtraError
from edgevit.export import child, litert, litert_child
from edgevit.export.litert import export_litert
from edgevit.runtimes import open_session

if find_spec("litert_torch") is None:
    pytest.skip("litert_torch is not installed", allow_module_level=True)
from litert_files import converted
from tiny_figures import BIAS, WEIGHTS


def write_hardmax(folder: Path) -> Path:
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 4, 4])
    node = helper.make_node("Hardmax", ["pixels"], ["y"], name="odd")
    graph = helper.make_graph([node], "g", [pixels], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), folder / "odd.onnx")
    return folder / "odd.onnx"


def child_that(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Instead of the conversion, a process runs this code; argv[1] is the graph, argv[2] where it should write."""
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return real([sys.executable, "-c", code, *command[-2:]], **options)

    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.parametrize("name", ["vit", "mobilevit", "merged"])
def test_a_converted_model_says_what_its_graph_says(name: str) -> None:
    path = converted(name)
    session = open_session(path, "litert", 1)
    pixels = np.random.default_rng(0).standard_normal(session.input_shape).astype(np.float32)
    reference = onnxruntime.InferenceSession(str(path.with_suffix(".onnx")), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(pixels), reference.run(None, {"input": pixels})[0], atol=1e-4)


def test_pictures_are_taken_with_their_channels_last() -> None:
    from ai_edge_litert.interpreter import Interpreter

    (source,) = Interpreter(str(converted("vit"))).get_input_details()
    assert source["shape"].tolist() == [1, 32, 32, 1]


def test_a_graph_that_cannot_be_converted_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    graph = write_hardmax(tmp_path)
    words = r"^This model cannot be converted to LiteRT: The ONNX operator Hardmax \(odd\) is not known to .*\.$"
    with pytest.raises(EdgevitError, match=words):
        export_litert(graph, tmp_path / "odd.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import os, sys; open(sys.argv[2], 'w').write('half'); os.kill(os.getpid(), 9)",
            "its process was killed, most likely for want of memory. Close other programs, or take a smaller model.",
        ),
        ("import os; os.kill(os.getpid(), 11)", "its process ended by SIGSEGV."),
        (
            "import sys; sys.stderr.write('I0000 noise\\nedgevit: no such thing.\\nlast\\n'); sys.exit(1)",
            "no such thing.",
        ),
        ("import sys; sys.exit('Fatal: odd')", "Fatal: odd"),
        ("raise SystemExit(3)", "its process ended with code 3"),
        ("pass", "its process ended with code 0"),
    ],
)
def test_a_child_that_dies_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    child_that(monkeypatch, code)
    with pytest.raises(EdgevitError) as caught:
        export_litert(tmp_path / "m.onnx", tmp_path / "m.tflite")
    assert str(caught.value) == f"This model cannot be converted to LiteRT: {words}"
    assert list(tmp_path.iterdir()) == []


def test_it_says_that_it_goes_on_and_its_child_does_not_outlive_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_that(monkeypatch, "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)")
    monkeypatch.setattr(child, "POLL_SECONDS", 0.01)

    def interrupt(seconds: int) -> None:
        if (tmp_path / "m.onnx").exists() and (tmp_path / "m.onnx").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_litert(tmp_path / "m.onnx", tmp_path / "m.tflite", interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "m.onnx").read_text()), signal.SIGTERM)


def test_biases_become_vectors(tmp_path: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils
    from tiny_tflite import write_tflite

    def bias_shape(path: Path) -> list[int]:
        (graph,) = flatbuffer_utils.read_model(str(path)).subgraphs
        return [int(size) for size in graph.tensors[graph.operators[-1].inputs[2]].shape]

    path = write_tflite(tmp_path / "m.tflite", bias_shape=(1, 1, 4))
    assert bias_shape(path) == [1, 1, 4]
    litert_child.flatten_biases(str(path))
    assert bias_shape(path) == [4]
    session = open_session(path, "litert", 1)
    gray = np.ones((1, 3, 8, 8), np.float32)
    np.testing.assert_allclose(session.run(gray), [WEIGHTS.sum(axis=0) + BIAS], atol=1e-5)


def test_without_litert_torch_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match=r"'litert_torch'. Install it with: pip install 'edgevit\[litert\]'"):
        export_litert(tmp_path / "m.onnx", tmp_path / "m.tflite")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EdgevitError("Odd."), "edgevit: Odd.\n"),
        (MemoryError(), "edgevit: out of memory. Close other programs, or take a smaller model.\n"),
        (ValueError("\n  no way\nand so on"), "edgevit: ValueError no way.\n"),
        (RuntimeError(), "edgevit: RuntimeError.\n"),
    ],
)
def test_the_child_says_why_in_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def fail(graph: object, target: str) -> None:
        raise error

    monkeypatch.setattr(litert_child, "convert", fail)
    assert litert_child.main(str(write_hardmax(tmp_path)), "out") == 1
    assert capsys.readouterr().err == said
