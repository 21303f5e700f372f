from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits_shop import DIGITS, Told, device_elsewhere, device_here, digits
from tiny_models import VIT

from edgevit import judge, pipeline
from edgevit.bench.interleave import measure_interleaved
from edgevit.bench.local import bench_bundle
from edgevit.benchreport import BenchReport
from edgevit.bundle import load_bundle
from edgevit.errors import EdgevitError, InputError, MeasurementError
from edgevit.models.checkpoint import read_checkpoint
from edgevit.pipeline import finetune_checkpoint, run_recipe
from edgevit.recipe import Budget, DataSpec, ExportSpec, ParityThresholds, Recipe, TrainSpec
from edgevit.results import RunMetrics
from edgevit.runs import read_metrics
from edgevit.yamlfile import read_yaml

RECIPE = Recipe(
    name="tiny-digits",
    model=VIT,
    data=DataSpec(source="digits", val_fraction=0.2, train_limit=80, eval_limit=40),
    train=TrainSpec(epochs=2, batch_size=40, learning_rate=2e-3),
    export=ExportSpec(runtime="onnxruntime", precision="int8-dynamic"),
    budget=Budget(max_drop=None),
    parity=ParityThresholds(int8_top1_agreement=0.5),  # after two epochs two classes may be as good as equal
    threads=1,
)
HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True, scope="module")
def _quick_measuring() -> Iterator[None]:
    """Real measurements, of a fraction of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "measure_interleaved", partial(measure_interleaved, min_seconds=0.25, min_runs=8))
        patch.setattr(pipeline, "bench_bundle", partial(bench_bundle, min_seconds=0.0, min_runs=64))
        yield


class Run:
    """The one whole run that most tests look at."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.told = Told()
        self.metrics = run_recipe(RECIPE, device_here(), target, True, self.told)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training gives the whole run's checkpoint at once; only fp32 is exported."""

    def copy(recipe: Recipe, dataset: object, state: Path, target: Path, *rest: object) -> Any:
        state.mkdir(exist_ok=True)
        shutil.copytree(run.target / "checkpoint", target, dirs_exist_ok=True)
        return run.metrics.curves

    monkeypatch.setattr(pipeline, "train_checkpoint", copy)


FP32 = RECIPE.model_copy(update={"export": ExportSpec(runtime="onnxruntime", precision="fp32")})


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_run_directory_holds_what_a_run_leaves_and_nothing_else(run: Run) -> None:
    assert left_in(run.target) == [
        "bundle", "checkpoint", "metrics.json", "parity.json", "recipe.yaml", "report.html", "run.log",
    ]  # fmt: skip
    assert left_in(run.target.parent) == ["first"]
    assert left_in(run.target / "checkpoint") == ["checkpoint.json", "model.safetensors"]


def test_metrics_are_what_was_returned_and_validate(run: Run) -> None:
    assert read_metrics(run.target) == run.metrics
    document = json.loads((run.target / "metrics.json").read_text())
    assert RunMetrics.model_validate(document) == run.metrics


def test_metrics_say_what_was_made_of_what(run: Run) -> None:
    metrics = run.metrics
    assert (metrics.name, metrics.device, metrics.weights, metrics.labels) == ("first", "local", "random", DIGITS)
    assert metrics.pictures == {"train": 80, "val": 40, "test": 40}
    assert [epoch.epoch for epoch in metrics.curves] == [1, 2]
    assert [candidate.precision for candidate in metrics.candidates] == ["fp32", "int8-dynamic"]
    assert metrics.fp32_test is not None
    assert metrics.shipped_test is not None
    assert metrics.fp32_test.n == metrics.shipped_test.accuracy.n == sum(map(sum, metrics.shipped_test.confusion)) == 40
    assert metrics.bundle == str(run.target / "bundle")
    assert read_checkpoint(run.target / "checkpoint").val_top1 == max(epoch.val_top1 for epoch in metrics.curves)


def test_the_bundle_was_shipped_as_asked_and_measured_in_a_fresh_process(run: Run) -> None:
    bundle = load_bundle(run.target / "bundle")
    assert bundle.manifest.precision == run.metrics.verdict.shipped == "int8-dynamic"
    assert bundle.manifest.device.threads == 1
    bench = run.metrics.bench
    assert bench is not None
    assert bench.artifact_sha256 == bundle.manifest.files["model.onnx"].sha256
    assert (bench.latency_ms.runs, len(bench.samples_ms), bench.threads) == (64, 64, 1)


def test_the_recipe_is_kept_as_it_was_resolved(run: Run) -> None:
    assert read_yaml(run.target / "recipe.yaml", Recipe) == RECIPE
    assert Recipe.model_validate(run.metrics.recipe) == RECIPE


def test_every_hop_is_in_the_parity_file(run: Run) -> None:
    hops = json.loads((run.target / "parity.json").read_text())
    assert {name: [hop["hop"] for hop in each] for name, each in hops.items()} == {
        "fp32": ["torch -> onnx", "onnx -> rewritten"],
        "int8-dynamic": ["torch -> onnx", "onnx -> rewritten", "fp32 -> int8-dynamic"],
    }


def test_the_log_has_every_stage_and_note_with_its_time(run: Run) -> None:
    lines = (run.target / "run.log").read_text().splitlines()
    stamps = [line[:19] for line in lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", stamp) for stamp in stamps)
    assert stamps == sorted(stamps)
    texts = [line[20:] for line in lines]
    assert [text for text in texts if not text.startswith("  ")] == run.told.stages
    assert [text[2:] for text in texts if text.startswith("  ")] == run.told.notes
    assert run.told.stages[0] == "Opening the data"
    assert run.told.stages[-2:] == ["Measuring the bundle in a fresh process", "Writing the report"]


def test_provenance_tells_versions_machine_and_the_time_of_each_stage(run: Run) -> None:
    provenance = run.metrics.provenance
    assert set(provenance.seconds) == set(run.told.stages)
    assert all(seconds >= 0 for seconds in provenance.seconds.values())
    assert provenance.versions["torch"] == importlib.metadata.version("torch")
    assert provenance.skipped == {}
    assert provenance.started[:2] == "20"


def test_the_page_shows_the_verdict(run: Run) -> None:
    page = (run.target / "report.html").read_text()
    assert "int8-dynamic was shipped" in page


def test_a_second_run_into_the_same_place_is_refused(run: Run) -> None:
    before = (run.target / "metrics.json").stat()
    told = Told()
    with pytest.raises(InputError, match=r"first: exists already and is not overwritten\. Choose another name with -o"):
        run_recipe(RECIPE, device_here(), run.target, True, told)
    assert told.stages == []
    assert (run.target / "metrics.json").stat() == before


def test_a_run_that_failed_late_does_not_train_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise EdgevitError("no bundle today")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "assemble_bundle", fail)
        with pytest.raises(EdgevitError, match="no bundle today"):
            run_recipe(FP32, device_here(), tmp_path / "late", True, Told())
    (work,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.late\.[0-9a-f]{8}\.partial", work.name)
    weights = (work / "checkpoint" / "model.safetensors").read_bytes()

    # meanwhile another process takes it up
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(work / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(
        InputError, match=r"late: another process is making this run\. Wait for it, or choose another -o"
    ):
        run_recipe(FP32, device_here(), tmp_path / "late", True, Told())
    holder.communicate()

    told = Told()
    budget = FP32.model_copy(update={"budget": Budget(max_size_mib=5.0)})  # needs no other training
    metrics = run_recipe(budget, device_here(), tmp_path / "late", True, told)
    assert not any("epoch" in note for note in told.notes)
    assert [epoch.epoch for epoch in metrics.curves] == [1, 2]
    assert (tmp_path / "late" / "checkpoint" / "model.safetensors").read_bytes() == weights
    assert left_in(tmp_path) == ["late"]
    log = (tmp_path / "late" / "run.log").read_text()
    assert log.count("Opening the data") == 2


def test_what_another_recipe_began_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(recipe: Recipe, dataset: object, state: Path, *rest: object) -> None:
        state.mkdir()
        (state / "training.pt").write_text("one epoch")
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train_checkpoint", interrupt)
    other = FP32.model_copy(update={"train": TrainSpec(epochs=9)})
    for recipe in (FP32, other):
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, device_here(), tmp_path / "x", True, Told())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_that_ends_before_its_first_epoch_leaves_nothing(tmp_path: Path) -> None:
    unknown = FP32.model_copy(update={"data": DataSpec(source="no-such-data")})
    with pytest.raises(InputError, match="Unknown dataset 'no-such-data'"):
        run_recipe(unknown, device_here(), tmp_path / "x", True, Told())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_meanwhile_is_not_overwritten_and_the_checkpoint_is_kept(
    tmp_path: Path, trained: None
) -> None:
    class Taking(Told):
        def stage(self, title: str) -> None:
            if title == "Writing the report":
                (tmp_path / "x").mkdir()

    with pytest.raises(InputError, match=r"x: exists already and is not overwritten"):
        run_recipe(FP32, device_here(), tmp_path / "x", True, Taking())
    assert list((tmp_path / "x").iterdir()) == []
    (work,) = (path for path in tmp_path.iterdir() if path.name != "x")
    assert left_in(work / "checkpoint") == ["checkpoint.json", "model.safetensors"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        InputError, match=r"file/run: cannot be written: Not a directory\. Choose another folder with -o\."
    ):
        run_recipe(RECIPE, device_here(), tmp_path / "file" / "run", True, Told())


def test_a_board_of_another_architecture_is_not_measured_and_the_run_says_so(tmp_path: Path, trained: None) -> None:
    told = Told()
    metrics = run_recipe(FP32, device_elsewhere(), tmp_path / "board", True, told)
    assert metrics.bench is None
    assert "Latency on A board was not measured: this machine has another architecture." in told.notes
    assert any(sentence.startswith("Not measured on the board") for sentence in metrics.verdict.sentences)


def test_a_measurement_that_fails_costs_the_run_nothing_else(
    tmp_path: Path, trained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bundle: Path) -> None:
        raise MeasurementError("It was too hot.")

    monkeypatch.setattr(pipeline, "bench_bundle", fail)
    told = Told()
    metrics = run_recipe(FP32, device_here(), tmp_path / "hot", True, told)
    assert metrics.bench is None
    assert told.notes[-1] == "The bundle was not measured: It was too hot."
    assert (tmp_path / "hot" / "report.html").is_file()


def test_skipped_pictures_are_told_logged_and_kept(
    tmp_path: Path, trained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_skipped(*arguments: object, **options: object) -> object:
        return replace(digits(), skipped={"3/broken.png": "the file is truncated"})

    monkeypatch.setattr(pipeline, "open_dataset", with_skipped)
    told = Told()
    metrics = run_recipe(FP32, device_elsewhere(), tmp_path / "run", True, told)
    assert "skipped 3/broken.png: the file is truncated" in told.notes
    assert metrics.provenance.skipped == {"3/broken.png": "the file is truncated"}


def test_what_is_not_installed_has_no_version(tmp_path: Path, trained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "VERSIONED", ("numpy", "no-such-package"))
    metrics = run_recipe(FP32, device_elsewhere(), tmp_path / "run", True, Told())
    assert metrics.provenance.versions == {"numpy": np.__version__}


def test_fine_tuning_ends_in_a_checkpoint_alone(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"train": TrainSpec(epochs=1, batch_size=40)})
    told = Told()
    curves = finetune_checkpoint(recipe, tmp_path / "c", True, told)
    assert len(curves) == 1
    assert left_in(tmp_path) == ["c"]
    assert left_in(tmp_path / "c") == ["checkpoint.json", "model.safetensors"]
    assert told.stages[:2] == ["Opening the data", "Loading the model"]
    with pytest.raises(InputError, match=r"c: exists already and is not overwritten"):
        finetune_checkpoint(recipe, tmp_path / "c", True, Told())


def test_fine_tuning_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(Told):
        def note(self, text: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune_checkpoint(RECIPE, tmp_path / "c", True, Interrupting())
    told = Told()
    curves = finetune_checkpoint(RECIPE, tmp_path / "c", True, told)
    assert len(curves) == 2
    assert [note.partition(":")[0] for note in told.notes] == ["epoch 2"]
    assert left_in(tmp_path) == ["c"]


def test_a_bundle_that_is_slower_than_it_was_is_measured_again(
    tmp_path: Path, trained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = []

    def slow_at_first(bundle: Path) -> BenchReport:
        report = bench_bundle(bundle, min_seconds=0.0, min_runs=64)
        slowed = report.latency_ms.model_copy(update={"p50": 1e6})
        reports.append(report if reports else report.model_copy(update={"latency_ms": slowed}))
        return reports[-1]

    monkeypatch.setattr(pipeline, "bench_bundle", slow_at_first)
    told = Told()
    metrics = run_recipe(FP32, device_here(), tmp_path / "again", True, told)
    assert len(reports) == 2
    assert metrics.bench == reports[1]
    assert any(note.startswith("Measured again: 1000000 ms where ") for note in told.notes)
