"""An artifact that takes bytes, from its session to a bundle on a board: who feeds it asks it what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_figures import CLASSES, SIDE, tiny_logits

from edgevit.bench.interleave import ArtifactRun, measure_interleaved
from edgevit.bench.worker import random_pixels
from edgevit.benchreport import BenchReport
from edgevit.board.agent import main
from edgevit.board.amalgamate import agent_source
from edgevit.bundle import load_bundle
from edgevit.data.batches import input_batches, predict_all
from edgevit.data.pictures import PictureSet, from_arrays
from edgevit.errors import ShapeMismatchError
from edgevit.evaluate import evaluate_target
from edgevit.progress import Silence
from edgevit.rewrite.uint8_input import take_uint8_pixels
from edgevit.runtimes import RUNTIMES, open_session

HALF = (0.5, 0.5, 0.5)
COLORS = ("red", "green", "blue", "gray")
onnx_runtimes = pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(name, marks=pytest.mark.skipif(find_spec(entry.package) is None, reason=f"no {entry.package}"))
        for name, entry in RUNTIMES.items()
        if entry.suffix == ".onnx"
    ],
)


@pytest.fixture
def make_artifact(make_onnx: Callable[..., Path]) -> Callable[..., Path]:
    """make_artifact(batch=1): the tiny model of conftest, which then takes bytes."""

    def make(batch: int | str = 1) -> Path:
        path = make_onnx("bytes.onnx", batch)
        onnx.save(take_uint8_pixels(onnx.load(path), HALF, HALF), path)
        return path

    return make


@pytest.fixture
def make_bytes_bundle(
    make_bundle: Callable[..., Path], make_artifact: Callable[..., Path], sign_bundle: Callable[[Path], None]
) -> Callable[[str], Path]:
    """make_bytes_bundle(runtime): conftest's bundle, whose golden logits are those of its float model."""

    def make(runtime: str) -> Path:
        spec = {"name": runtime, "version": "1", "entry": "model.onnx", "session": {}}
        root = make_bundle(runtime=spec, agent=agent_source(runtime))
        (root / "model.onnx").write_bytes(make_artifact().read_bytes())
        sign_bundle(root)
        return root

    return make


def bytes_of(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@onnx_runtimes
def test_a_session_says_that_it_takes_bytes_and_gives_the_logits_of_the_float_model(
    runtime: str, make_artifact: Callable[..., Path]
) -> None:
    session = open_session(make_artifact("N"), runtime, 1)
    assert (session.input_type, session.input_shape) == ("uint8", (None, SIDE, SIDE, 3))
    np.testing.assert_allclose(session.run(bytes_of(3)), tiny_logits(bytes_of(3)), atol=1e-5)


@onnx_runtimes
def test_floats_are_refused_where_bytes_are_taken(runtime: str, make_artifact: Callable[..., Path]) -> None:
    session = open_session(make_artifact(), runtime, 1)
    words = r"bytes\.onnx: takes uint8 \(1, 8, 8, 3\), and was given float32 \(1, 3, 8, 8\)"
    with pytest.raises(ShapeMismatchError, match=words):
        session.run(np.zeros((1, 3, SIDE, SIDE), np.float32))


def test_a_float_artifact_says_so(make_onnx: Callable[..., Path]) -> None:
    assert open_session(make_onnx(), "onnxruntime", 1).input_type == "float32"


def color_pictures() -> PictureSet:
    """16 random pictures, whose labels are what the float model says of them, but for the first."""
    images = bytes_of(16)
    labels = tiny_logits(images).argmax(axis=1)
    labels[0] = (labels[0] + 1) % CLASSES
    return from_arrays(images, labels)


def test_all_pictures_are_predicted_from_their_bytes(make_bytes_bundle: Callable[[str], Path]) -> None:
    bundle = load_bundle(make_bytes_bundle("onnxruntime"))
    (batch,) = input_batches(color_pictures(), bundle.preprocess, 16, "uint8")
    np.testing.assert_array_equal(batch, bytes_of(16))
    session = open_session(bundle.entry, "onnxruntime", 1)
    found = predict_all(session.run, color_pictures(), bundle.preprocess, input_type=session.input_type)
    np.testing.assert_allclose(found, tiny_logits(bytes_of(16)), atol=1e-5)


@onnx_runtimes
def test_a_bundle_is_evaluated(runtime: str, make_bytes_bundle: Callable[[str], Path]) -> None:
    found = evaluate_target(make_bytes_bundle(runtime), color_pictures(), COLORS, Silence())
    assert found.accuracy.top1 == pytest.approx(100 * 15 / 16)


@onnx_runtimes
def test_a_bundle_checks_itself_is_timed_and_predicts(
    runtime: str, make_bytes_bundle: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = ["--bundle", str(make_bytes_bundle(runtime)), "--json"]
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "red.png")

    def said(*words: str) -> Any:
        assert main([*bundle, *words]) == 0
        return capsys.readouterr().out

    assert json.loads(said("selfcheck"))["max_abs"] < 1e-5
    assert BenchReport.model_validate_json(said("bench", "--min-seconds", "0")).latency_ms.runs >= 64
    assert json.loads(said("predict", str(tmp_path / "red.png")))["pictures"][0]["top"][0]["label"] == "red"


@onnx_runtimes
def test_the_single_file_agent_checks_it_without_edgevit(
    runtime: str, make_bytes_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    code = (
        "import runpy, sys\nfor name in ('edgevit', 'torch', 'onnx'): sys.modules[name] = None\n"
        "path = sys.argv[1]; del sys.argv[0]\nrunpy.run_path(path, run_name='__main__')\n"
    )
    command = [sys.executable, "-I", "-c", code, str(make_bytes_bundle(runtime) / "agent.py"), "selfcheck"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_artifacts_of_both_kinds_take_turns(make_artifact: Callable[..., Path], make_onnx: Callable[..., Path]) -> None:
    shape = (1, 3, SIDE, SIDE)  # the float model's, for both
    runs = {path.name: ArtifactRun(path, "onnxruntime", 1, shape) for path in (make_artifact(), make_onnx())}
    found = measure_interleaved(runs, min_seconds=0.0, min_runs=4)
    assert [timing.failed for timing in found.values()] == [None, None]


def test_random_bytes_have_the_layout_of_a_picture() -> None:
    pixels = random_pixels((2, 3, 4, 5), "uint8")
    assert (pixels.dtype, pixels.shape) == (np.uint8, (2, 4, 5, 3))
    np.testing.assert_array_equal(pixels, random_pixels((2, 3, 4, 5), "uint8"))
    assert pixels.min() < 32
    assert pixels.max() > 224
