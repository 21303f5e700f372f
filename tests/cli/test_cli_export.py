"""export, from a checkpoint, an ONNX file and with every way to end: done, budget, parity, device."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import sys

import pytest

from edgevit import assemble
from edgevit.bench.interleave import measure_interleaved
from edgevit.bundle import load_bundle
from edgevit.recipe import ParityThresholds
from edgevit.results import AccuracyDrop


def test_a_bundle_for_another_board_checks_itself(command, in_workplace, tmp_path):
    ended = command(
        "export", "checkpoint", "--device", "rpi5", "--precision", "int8-static", "--calibration-data", "pictures",
        "--json", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    document = ended.document
    assert document["kind"] == "export"
    assert document["bundle"] == str(tmp_path / "out")
    names = [candidate["name"] for candidate in document["candidates"]]
    assert names == ["fp32", "int8-static", "int8-static-attention"]
    assert {candidate["latency_ms"] for candidate in document["candidates"]} == {None}
    manifest = load_bundle(tmp_path / "out").manifest
    assert document["manifest"] == json.loads(manifest.model_dump_json())
    assert manifest.precision == "int8-static"
    assert manifest.calibration == "10 pictures: the pictures given with --calibration-data"
    checked = subprocess.run(
        [sys.executable, tmp_path / "out" / "agent.py", "selfcheck"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_verdict_and_the_way_to_the_board_are_printed(command, in_workplace, tmp_path):
    ended = command("export", "checkpoint", "--device", "rpi5", "--precision", "fp32", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert "• fp32 was shipped" in ended.out
    assert f"Bundle: {tmp_path / 'out'}\n" in ended.out
    assert ended.out.splitlines()[-1].startswith(f"Next: scp -r {tmp_path / 'out'} pi@raspberrypi.local: && ssh")


def test_a_prediction_is_said_to_be_one_and_meets_no_limit(command, in_workplace, tmp_path):
    words = ("export", "checkpoint", "--device", "rpi5", "--precision", "fp32", "--max-latency-ms", "1000")
    ended = command(*words, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "• Predicted, not measured: p50 " in ended.out
    assert "The limit of 1000 ms was not checked: nothing was measured on the board." in ended.out
    manifest = load_bundle(tmp_path / "out").manifest
    assert manifest.verdict.within_budget is None
    assert "redicted" not in manifest.model_dump_json()
    document = command(*words, "-o", tmp_path / "other", "--json").document
    assert document["prediction"]["what"] == "predicted, not measured"
    assert {candidate["latency_ms"] for candidate in document["candidates"]} == {None}


def test_where_no_latency_can_be_predicted_a_line_says_why(command, in_workplace, tmp_path, monkeypatch):
    monkeypatch.setattr("edgevit.latency.predict.GRAPH_SUFFIX", ".other")
    ended = command("export", "checkpoint", "--device", "rpi5", "--precision", "fp32", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "• No latency was predicted: " in ended.out


def test_labelled_pictures_give_an_accuracy_with_its_n(command, in_workplace, tmp_path):
    ended = command(
        "export", "checkpoint", "--device", "rpi5", "--precision", "fp32", "--data", "digits", "--eval-limit", "50",
        "--max-drop", "100", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    accuracy = load_bundle(tmp_path / "out").manifest.accuracy
    assert accuracy.fp32 == accuracy.artifact
    assert accuracy.artifact is not None
    assert accuracy.artifact.n == 50


def test_an_onnx_file_with_its_preprocessing_is_bundled(command, in_workplace, tmp_path):
    ended = command("export", "onnx/model.onnx", "--device", "rpi5", "--precision", "fp32", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    bundle = load_bundle(tmp_path / "out")
    assert bundle.labels == ("class 0", "class 1", "class 2")
    assert bundle.manifest.model.weights == "unknown"


def test_a_torchscript_bundle_predicts(command, in_workplace, tmp_path):
    ended = command(
        "export",
        "checkpoint",
        "--device",
        "rpi5",
        "--runtime",
        "torchscript",
        "--precision",
        "fp32",
        "-o",
        tmp_path / "out",
    )
    assert ended.code == 0, ended.err
    assert load_bundle(tmp_path / "out").entry.name == "model.ts"
    picture = "pictures/cats/0.png"
    words = ["predict", picture, "--json", "--bundle"]
    expected = command(*words, "bundle").document["pictures"][0]["top"]
    found = command(*words, tmp_path / "out").document["pictures"][0]["top"]
    assert [entry["label"] for entry in found] == [entry["label"] for entry in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_a_file_that_is_too_large_for_the_budget_ends_with_3(refused):
    line = refused(3, "export onnx/model.onnx --device rpi5 --precision fp32 --max-size-mib 0.000001 -o out")
    assert line.startswith("No artifact is within the budget. The nearest is fp32: it is ")
    assert line.endswith(" MiB large and may be 0.000 MiB. Raise --max-size-mib, or take another model.")


def test_a_model_that_is_too_slow_for_the_budget_ends_with_3(refused, monkeypatch):
    monkeypatch.setattr("edgevit.judge.measure_interleaved", functools.partial(measure_interleaved, min_seconds=0))
    line = refused(3, "export onnx/model.onnx --runtime onnxruntime --precision fp32 --max-latency-ms 0.000001 -o out")
    assert line.startswith("No artifact is within the budget. The nearest is fp32: ")
    assert line.endswith("Raise --max-latency-ms, or take another model.")


@pytest.fixture
def unlucky(monkeypatch):
    """On the test pictures, what is shipped loses 2.5 points, whatever the validation pictures said."""
    measured = assemble.score

    def score(artifacts, shop, pictures):
        drop = AccuracyDrop(n=50, points=2.5, ci95=(0.5, 4.5), p_value=0.1)
        scores = measured(artifacts, shop, pictures)
        return {name: dataclasses.replace(each, drop=drop if each.drop else None) for name, each in scores.items()}

    monkeypatch.setattr(assemble, "score", score)
    lenient = functools.partial(ParityThresholds, int8_cosine=0.01, int8_top1_agreement=0.0)
    monkeypatch.setattr("edgevit.recipe.ParityThresholds", lenient)  # one epoch makes no model that is sure of itself


OVER = (
    "Error: The budget is not met: on 50 test pictures that had no part in the choice, int8-dynamic loses 2.50 points "
    "and may lose 2.00. {bundle} is written all the same. Raise {limit}, or ship fp32."
)


def test_a_drop_on_the_test_pictures_beyond_the_budget_ends_with_3_and_a_bundle(
    command, in_workplace, tmp_path, unlucky
):
    words = ("export", "checkpoint", "--device", "rpi5", "--precision", "int8-dynamic", "--data", "digits")
    words += ("--eval-limit", "50", "--max-drop", "2")
    ended = command(*words, "-o", tmp_path / "out")
    assert ended.code == 3
    assert ended.err.splitlines()[-1] == OVER.format(bundle=tmp_path / "out", limit="--max-drop")
    assert f"Bundle: {tmp_path / 'out'}" in ended.out
    assert "Next:" not in ended.out
    assert load_bundle(tmp_path / "out").manifest.verdict.within_budget is False
    machine = command(*words, "-o", tmp_path / "other", "--json")
    assert (machine.code, machine.document["kind"]) == (3, "export")
    allowed = command(*words[:-1], "2.5", "-o", tmp_path / "allowed")
    assert allowed.code == 0, allowed.err


def test_a_run_over_its_budget_on_the_test_pictures_ends_with_3_and_a_page(command, workplace, tmp_path, unlucky):
    recipe = (workplace / "tiny.yaml").read_text()
    recipe = recipe.replace("precision: fp32", "precision: int8-dynamic").replace("max_drop: null", "max_drop: 2.0")
    (tmp_path / "mine.yaml").write_text(f"{recipe}parity: {{int8_cosine: 0.01, int8_top1_agreement: 0.0}}\n")
    ended = command("run", tmp_path / "mine.yaml", "-o", tmp_path / "out", "--json")
    assert ended.code == 3
    assert (ended.document["kind"], ended.document["verdict"]["within_budget"]) == ("run", False)
    limit = "budget.max_drop in the recipe"
    assert ended.err.splitlines()[-1] == OVER.format(bundle=tmp_path / "out" / "bundle", limit=limit)
    assert (tmp_path / "out" / "report.html").exists()


def test_a_device_without_the_runtime_ends_with_5(refused):
    line = refused(5, "export checkpoint --device jetson-nano --runtime torchscript -o out")
    assert line == "Device 'jetson-nano' has no torchscript. It has: onnxruntime, litert."


def test_failed_parity_ends_with_4_and_the_training_is_kept(command, workplace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(workplace / "broken" / "impossible-parity.yaml", "mine.yaml")
    failed = command("run", "mine.yaml", "-o", "out", "--json")
    assert failed.code == 4
    assert failed.err.splitlines()[0].startswith("epoch 1: ")
    assert failed.document["kind"] == "error"
    assert failed.document["message"].startswith(
        "No artifact can be shipped: int8-static: its parity failed (fp32 -> int8-static: cosine "
    )
    assert "first diverging layer: " in failed.document["message"]
    (work,) = tmp_path.glob(".*")
    assert sorted(path.name for path in work.iterdir()) == [".lock", "checkpoint", "run.log", "training"]
    # a recipe that asks for less of parity goes on with the same training
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("int8_cosine: 1.0", ""))
    done = command("run", "mine.yaml", "-o", "out")
    assert done.code == 0, done.err
    assert "epoch 1" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "out"]
