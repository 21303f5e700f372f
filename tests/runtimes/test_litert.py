"""LiteRT: layouts, quantized inputs and outputs, session entries, and the older package tflite_runtime."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_figures import BIAS, SIDE, WEIGHTS, tiny_logits

from edgevit.board.amalgamate import agent_source
from edgevit.errors import BadFileError, InputError, ShapeMismatchError
from edgevit.runtimes import open_session

if find_spec("ai_edge_litert") is None:
    pytest.skip("ai_edge_litert is not installed", allow_module_level=True)
from tiny_tflite import write_tflite

STEP = 0.03
TFLITE_RUNTIME = "tflite-runtime==2.14.0"


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-3, 3, (1, 3, SIDE, SIDE)).astype(np.float32)


def expected(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float64).mean(axis=(2, 3)) @ WEIGHTS + BIAS


@pytest.mark.parametrize("channels_last", [True, False])
def test_either_layout_takes_the_same_pixels(tmp_path: Path, pixels: np.ndarray, channels_last: bool) -> None:
    session = open_session(write_tflite(tmp_path / "m.tflite", channels_last=channels_last), "litert", 1)
    assert (session.input_type, session.input_shape) == ("float32", (1, 3, SIDE, SIDE))
    np.testing.assert_allclose(session.run(pixels), expected(pixels), atol=1e-5)


@pytest.mark.parametrize(("input_type", "zero_point"), [("int8", -3), ("uint8", 120)])
def test_a_quantized_input_takes_float_pixels_and_errs_by_half_a_step(
    tmp_path: Path, pixels: np.ndarray, input_type: str, zero_point: int
) -> None:
    path = write_tflite(tmp_path / "m.tflite", input_type=input_type, scale=(STEP, zero_point))
    session = open_session(path, "litert", 1)
    assert (session.input_type, session.input_shape) == ("float32", (1, 3, SIDE, SIDE))
    worst = STEP / 2 * np.abs(WEIGHTS).sum(axis=0).max()
    np.testing.assert_allclose(session.run(pixels), expected(pixels), atol=worst)


def test_pixels_beyond_a_quantized_inputs_range_are_clipped(tmp_path: Path) -> None:
    session = open_session(write_tflite(tmp_path / "m.tflite", input_type="int8", scale=(STEP, 0)), "litert", 1)
    far = np.full((1, 3, SIDE, SIDE), 1e9, np.float32)
    np.testing.assert_allclose(session.run(far), expected(np.full_like(far, 127 * STEP)), atol=1e-4)


def test_bytes_without_a_scale_are_pictures(tmp_path: Path) -> None:
    session = open_session(write_tflite(tmp_path / "m.tflite", takes_bytes=True), "litert", 1)
    assert (session.input_type, session.input_shape) == ("uint8", (1, SIDE, SIDE, 3))
    images = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_allclose(session.run(images), tiny_logits(images), atol=1e-5)


def test_a_model_runs_without_xnnpack_too(tmp_path: Path, pixels: np.ndarray) -> None:
    session = open_session(write_tflite(tmp_path / "m.tflite"), "litert", 1, {"edgevit.delegate": "none"})
    np.testing.assert_allclose(session.run(pixels), expected(pixels), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"b": "1", "a": "1"}, "LiteRT takes no session entry but edgevit.delegate, and was given a, b."),
        ({"edgevit.delegate": "gpu"}, "Session entry edgevit.delegate is 'gpu', and must be xnnpack or none."),
    ],
)
def test_entries_that_it_does_not_have_are_refused(tmp_path: Path, config: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        open_session(write_tflite(tmp_path / "m.tflite"), "litert", 1, config)
    assert str(caught.value) == words


@pytest.mark.parametrize(("threads", "passed"), [(3, 3), (0, 2)])
def test_it_takes_its_threads_and_every_core_for_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, passed: int
) -> None:
    from ai_edge_litert import interpreter

    from edgevit.runtimes import litert

    given: dict[str, Any] = {}
    real = interpreter.Interpreter

    def remember(**options: Any) -> Any:
        given.update(options)
        return real(**options)

    monkeypatch.setattr(interpreter, "Interpreter", remember)
    monkeypatch.setattr(litert, "usable_processors", lambda: [0, 1])
    open_session(write_tflite(tmp_path / "m.tflite"), "litert", threads)
    assert given["num_threads"] == passed


def test_what_fails_while_running_is_translated(tmp_path: Path) -> None:
    session = open_session(write_tflite(tmp_path / "m.tflite"), "litert", 1)
    object.__setattr__(session, "input_shape", (None, None, None, None))
    with pytest.raises(ShapeMismatchError, match=r"m.tflite: cannot run on \(1, 8, 8, 5\) \(.+\)\.$"):
        session.run(np.zeros((1, 5, SIDE, SIDE), np.float32))


def test_a_file_that_is_no_flatbuffer_never_reaches_the_library(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(bytes(64))
    with pytest.raises(BadFileError, match="it does not begin as a TensorFlow Lite flatbuffer does"):
        open_session(tmp_path / "m.tflite", "litert", 1)


def test_opening_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_session(write_tflite(tmp_path / "m.tflite"), "litert", 1)
    assert capfd.readouterr() == ("", "")


def test_tflite_runtime_stands_in_where_it_alone_is_installed(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert import interpreter

    path = write_tflite(tmp_path / "m.tflite")
    older = types.ModuleType("tflite_runtime")
    vars(older).update(__version__="2.14.0", interpreter=interpreter)
    monkeypatch.setitem(sys.modules, "tflite_runtime", older)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    session = open_session(path, "litert", 1)
    assert session.version == "2.14.0"
    np.testing.assert_allclose(session.run(pixels), expected(pixels), atol=1e-5)


@pytest.mark.slow
@pytest.mark.network
def test_a_bundle_checks_itself_by_tflite_runtime_and_numpy_1(
    tmp_path: Path, make_bundle: Callable[..., Path], sign_bundle: Callable[[Path], None]
) -> None:
    """The last tflite-runtime needs numpy below 2 and Python 3.11 at most: an environment of its own."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", TFLITE_RUNTIME, "numpy<2", "pillow"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{TFLITE_RUNTIME} has no wheel for Python {sys.version_info.major}.{sys.version_info.minor} here")
    runtime = {"name": "litert", "version": "2.3.0", "entry": "model.tflite", "session": {}}
    root = make_bundle(runtime=runtime, agent=agent_source("litert"))
    (root / "model.onnx").unlink()
    write_tflite(root / "model.tflite")
    sign_bundle(root)
    ended = subprocess.run(
        [str(python), str(root / "agent.py"), "selfcheck", "--json"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert (document["runtime_version"], document["passed"], document["n"]) == ("2.14.0", True, 6)
