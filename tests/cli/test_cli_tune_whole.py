"""tune, whole: from a checkpoint of the tiny ViT to a front, a page and a bundle that checks itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import Ended
from digits_shop import DIGITS
from tiny_models import CLASSES, VIT, vit_graph

from edgevit import build
from edgevit.bundle import load_bundle
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.create import create_model, preprocess_for
from edgevit.search.trials import TuneResult
from edgevit.tuning import stopwatch, workbench

TRIALS = 3


class Tuned(NamedTuple):
    out: Path
    ended: Ended
    tune: Callable[..., Ended]

    @property
    def result(self) -> TuneResult:
        return TuneResult.model_validate_json((self.out / "tune.json").read_bytes())


def save_tiny_vit(directory: Path) -> Path:
    model = create_model(VIT, CLASSES)
    info = Checkpoint(
        model=VIT.name, args=VIT.args, classes=CLASSES, channels=1, image_size=32, labels=DIGITS,
        preprocess=preprocess_for(model, VIT).to_json(), weights="random", epochs=1,
    )  # fmt: skip
    save_checkpoint(directory, model, info)
    return directory


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., Ended]) -> Iterator[Tuned]:
    """Random weights that pass for trained ones, so every drop is allowed; a few milliseconds of measuring a trial."""
    root = tmp_path_factory.mktemp("tuned")
    checkpoint = save_tiny_vit(root / "checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "export_onnx", lambda *_: vit_graph())
        patch.setattr(stopwatch, "TURNS_SECONDS", 0.01)
        patch.setattr(stopwatch, "PROOF_SECONDS", 0.01)
        patch.setattr(stopwatch, "TURNS_RUNS", 4)

        def tune(*words: object, targets: tuple[Path, ...] = (checkpoint,), out: str = "out") -> Ended:
            fixed = ("--data", "digits", "--eval-limit", 40, "--search-pictures", 20, "--trials", TRIALS)
            return command("tune", *targets, "-o", root / out, "--threads", 1, *fixed, *words)

        yield Tuned(root / "out", tune("--max-drop", 100), tune)


def test_the_search_ends_with_a_front_a_verdict_and_the_next_command(tuned: Tuned) -> None:
    assert tuned.ended.code == 0, tuned.ended.err
    assert "Pick" in tuned.ended.out
    assert tuned.ended.out.splitlines()[-1] == f"Next: edgevit bench {tuned.result.bundle}"
    assert f"Page:   {tuned.out / 'report.html'}" in tuned.ended.out


def test_every_trial_is_recorded_with_its_figures(tuned: Tuned) -> None:
    result = tuned.result
    assert (result.kind, result.unit, result.pictures, result.device) == ("tune", "ms", 20, "local")
    assert sum(trial.was_run for trial in result.trials) == TRIALS
    assert [trial.reason for trial in result.trials if trial.outcome == "failed"] == []
    for trial in result.trials:
        if trial.outcome == "complete":
            assert trial.drop is not None
            assert (trial.drop.n, len(trial.artifact)) == (20, 64)
    assert result.chosen in result.front
    assert result.fp32_test is not None
    assert result.fp32_test.n == 40
    assert result.versions["optuna"]


def test_the_page_shows_the_front(tuned: Tuned) -> None:
    page = (tuned.out / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page  # it loads nothing
    assert tuned.result.verdict.sentences[0].split(":")[0] in page


def test_the_bundle_is_the_chosen_point_and_checks_itself(tuned: Tuned) -> None:
    result = tuned.result
    assert result.bundle == str(tuned.out / f"bundle-{result.chosen}")
    bundle = load_bundle(Path(result.bundle))
    assert result.chosen is not None
    assert bundle.manifest.policy == result.trial(result.chosen).policy
    assert bundle.manifest.accuracy.artifact == result.chosen_test
    ended = subprocess.run(
        [sys.executable, "-I", "agent.py", "selfcheck"],
        cwd=bundle.path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_a_finished_search_exports_builds_and_judges_nothing_again(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tuned.result
    monkeypatch.setattr(build.Builder, "exported", None)
    monkeypatch.setattr(workbench.BuildingWorkbench, "_is_correct", None)
    ended = tuned.tune("--max-drop", 100)
    assert ended.code == 0, ended.err
    assert tuned.result.model_copy(update={"written": before.written}) == before
    assert ended.out == tuned.ended.out


def test_the_last_point_of_the_front_can_be_picked_without_another_trial(tuned: Tuned) -> None:
    before = tuned.result
    ended = tuned.tune("--max-drop", 100, "--pick", len(before.front), "--json")
    assert ended.code == 0, ended.err
    assert ended.document["chosen"] == before.front[-1]
    assert ended.document == json.loads((tuned.out / "tune.json").read_text())
    assert ended.document["trials"] == before.model_dump(mode="json")["trials"]
    assert (tuned.out / f"bundle-{before.front[-1]}" / "manifest.json").is_file()
    refused = tuned.tune("--max-drop", 100, "--pick", len(before.front) + 1)
    assert (refused.code, refused.out) == (2, "")


def test_a_budget_that_nothing_meets_is_exit_3_and_leaves_the_front_without_a_bundle(tuned: Tuned) -> None:
    ended = tuned.tune("--max-drop", 100, "--max-latency-ms", "0.00001", "--json")
    assert ended.code == 3
    assert "no point meets --max-latency-ms 1e-05. Nearest: " in ended.err
    assert ended.document["kind"] == "error"
    assert (tuned.result.chosen, tuned.result.bundle) == (None, None)
    assert tuned.result.front
    told = tuned.tune("--max-drop", 100, "--max-latency-ms", "0.00001")
    assert told.code == 3
    assert "Pick" in told.out


def test_two_checkpoints_are_one_search_and_the_chosen_ones_bundle_is_its_own(tuned: Tuned) -> None:
    root = tuned.out.parent
    targets = tuple(save_tiny_vit(root / name) for name in ("one", "other"))
    ended = tuned.tune("--max-drop", 100, "--trials", 4, "--json", targets=targets, out="both")
    assert ended.code == 0, ended.err
    result = TuneResult.model_validate(ended.document)
    names = [f"vit_tiny_patch16_224 ({target})" for target in targets]
    assert result.model == ", ".join(names)
    assert {trial.model for trial in result.trials} == set(names)
    assert [trial.reason for trial in result.trials if trial.outcome == "failed"] == []
    assert result.bundle is not None
    assert load_bundle(Path(result.bundle)).manifest.policy == result.trial(result.chosen or 0).policy
