"""tune: what it refuses, and what it prints of a search whose bench is arithmetic."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arithmetic_bench import FP32_TOP1, SPACE, ArithmeticBench, exact_drop
from commands import Ended

import edgevit.cli
from edgevit.artifact import BundleAccuracy
from edgevit.board.preprocess import Preprocess
from edgevit.policy import Policy
from edgevit.recipe import DataSpec
from edgevit.results import Verdict
from edgevit.subject import Subject

TEN = tuple("0123456789")
TUNE = ("tune", "model.safetensors", "--data", "digits")


class Bench(ArithmeticBench):
    def confirmed(self, policy: Policy) -> np.ndarray:
        return np.zeros(0, np.bool_)

    def speedup(self, policy: Policy) -> None: ...

    def tested(self, policy: Policy) -> np.ndarray:
        return np.arange(200) / 2 < FP32_TOP1 - exact_drop(policy)

    def keep(self, policies: Sequence[Policy]) -> None: ...

    def write_bundle(self, policy: Policy, target: Path, verdict: Verdict, accuracy: BundleAccuracy) -> None:
        target.mkdir()


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Callable[..., Ended]) -> Callable[..., Ended]:
    """tune(*words) runs `edgevit tune` of a model that is not there, on the arithmetic bench."""
    monkeypatch.setitem(edgevit.cli.COMMANDS, "tune", edgevit.cli.Entry("edgevit.cli.tune", "A measured search."))
    bench = types.ModuleType("edgevit.tuning.workbench")

    @contextlib.contextmanager
    def opened_workbench(*arguments: Any) -> Iterator[tuple[Bench, Any]]:
        yield Bench(pictures=400), SPACE.model_copy(update={"tokens": None})

    bench.opened_workbench = opened_workbench  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edgevit.tuning.workbench", bench)
    preprocess = Preprocess(
        height=32, width=32, channels=1, resize=32, crop_mode="center", interpolation="bilinear", mean=(0.5,),
        std=(0.5,), color="L",
    )  # fmt: skip

    def open_subject(target: str, *arguments: Any, **options: Any) -> Subject:
        fraction = 0.2 if "other-split" in target else 0.1
        split = DataSpec(source="digits", val_fraction=fraction) if "split" in target else None
        return Subject(f"vit{len(target) % 2}", "checkpoint", preprocess, TEN, trained_on=split)

    monkeypatch.setattr("edgevit.subject.open_subject", open_subject)
    monkeypatch.chdir(tmp_path)
    return lambda *words: command(*TUNE, "-o", "out", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--max-drop -1", "Invalid value for '--max-drop': -1.0 is not in the range 0<=x<=100."),
        ("--max-drop nan", "Invalid value for '--max-drop': nan is not a finite number."),
        ("--max-latency-ms 0", "Invalid value for '--max-latency-ms': 0.0 is not in the range x>0."),
        ("--max-latency-ms inf", "Invalid value for '--max-latency-ms': inf is not a finite number."),
        ("--trials 0", "Invalid value for '--trials': 0 is not in the range 1<=x<=100000."),
        ("--minutes 0", "Invalid value for '--minutes': 0.0 is not in the range x>0."),
        ("--pick 0", "Invalid value for '--pick': 0 is not in the range x>=1."),
        ("--image-size 0", "Invalid value for '--image-size': 0 is not in the range 1<=x<=4096."),
        ("--weights random", "--weights random: their accuracy means nothing"),
        ("--device rpi6", "Unknown device 'rpi6'. Did you mean 'rpi5'?"),
        ("--storage nonsense", "nonsense: cannot be used as the search's database: Could not parse"),
    ],
)
def test_bad_words_are_one_line(tune, words, message):
    ended = tune(*words.split())
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith(f"Error: {message}")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("missing", [("tune",), ("tune", "vit", "-o", "out"), ("tune", "vit", "--data", "digits")])
def test_target_data_and_folder_must_be_named(tune, command, missing):
    ended = command(*missing)
    assert ended.code == 2
    assert ended.err.startswith("Error: Missing ")


def test_the_front_the_verdict_and_the_next_command_are_printed_and_a_pick_needs_no_trial(tune):
    ended = tune("--trials", "6")
    assert ended.code == 0, ended.err
    assert "Pick" in ended.out
    assert "• Chosen: " in ended.out
    assert ended.out.splitlines()[-1].startswith("Next: edgevit bench out/bundle-")

    document = json.loads(tune("--trials", "6", "--json", "--pick", "1").out)
    assert document["kind"] == "tune"
    assert document["chosen"] == document["front"][0]
    assert len([trial for trial in document["trials"] if trial["outcome"] == "complete"]) == 6

    refused = tune("--trials", "6", "--pick", "50")
    assert refused.code == 2
    assert "--pick 50: the front has " in refused.err


def test_a_budget_that_nothing_meets_is_exit_3_with_the_nearest_point(tune):
    ended = tune("--trials", "4", "--max-latency-ms", "0.01")
    assert ended.code == 3
    assert "no point meets --max-latency-ms 0.01. Nearest: " in ended.err


def test_several_models_are_one_search_and_each_point_says_its_model(tune):
    ended = tune("even.pth", "--trials", "12")
    assert ended.code == 0, ended.err
    assert "vit1: " in ended.out
    document = json.loads(tune("even.pth", "--trials", "12", "--json").out)
    assert document["model"] == "vit1, vit0"
    assert {trial["model"] for trial in document["trials"]} == {"vit1", "vit0"}


def test_two_checkpoints_of_the_same_model_are_told_apart_by_their_paths(tune):
    document = json.loads(tune("odd.pth", "--trials", "4", "--json").out)
    assert {trial["model"] for trial in document["trials"]} == {"vit1 (model.safetensors)", "vit1 (odd.pth)"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model.safetensors", "model.safetensors: is named twice. Name each model once."),
        (
            "b --weights x.pt",
            "--weights belongs to one model. Of several, name each checkpoint as a TARGET of its own.",
        ),
        ("split other-split", "vit1 (other-split) was trained on another split of digits than vit1 (split): "),
    ],
)
def test_models_that_cannot_share_a_search_are_one_line(tune, words, message):
    ended = tune(*words.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"Error: {message}")
    assert len(ended.err.splitlines()) == 1


def test_a_model_that_does_not_exist_leaves_nothing(command, in_workplace):
    assert command("tune", "nosuchmodel", "--data", "digits", "-o", "new").code == 2
    assert not (in_workplace / "new").exists()


def test_a_database_that_cannot_be_used_leaves_nothing(command, in_workplace):
    words = ("--storage", "sqlite:////nowhere/at/all.db")
    assert command("tune", "checkpoint", "--data", "digits", "-o", "new", *words).code == 2
    assert not (in_workplace / "new").exists()
