"""models, devices, recipes and doctor: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.catalog import list_devices, list_recipes, load_recipe
from edgevit.models.registry import MODELS

LISTINGS = {
    "models": [entry.name for entry in MODELS],
    "devices": list(list_devices()),
    "recipes": list(list_recipes()),
}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_table_names_everything_and_what_to_do_next(command, kind):
    ended = command(kind)
    assert ended.code == 0
    assert ended.err == ""
    cells = [line.split("│")[1].strip() for line in ended.out.splitlines() if line.startswith("│")]
    assert cells == LISTINGS[kind]
    assert "\nNext: edgevit " in ended.out
    assert "…" not in ended.out  # nothing is cut where there is no terminal


@pytest.mark.parametrize("words", ["models", "models --json", "recipes folder-template"])
def test_a_reader_who_has_seen_enough_is_no_error(words):
    """As in 'edgevit models | head -1', with a pipe that nobody reads at all."""
    command = [sys.executable, "-m", "edgevit", *words.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("kind", LISTINGS)
def test_json_is_one_document_without_colors(command, kind):
    ended = command(kind, "--json")
    assert ended.code == 0
    assert ended.err == ""
    assert "\x1b" not in ended.out
    assert ended.document["schema_version"] == 1
    assert ended.document["kind"] == kind
    entries = ended.document[kind]
    assert [*entries] == LISTINGS[kind] if kind == "recipes" else [entry["name"] for entry in entries] == LISTINGS[kind]


def test_published_accuracies_come_with_their_source(command):
    for model in command("models", "--json").document["models"]:
        assert (model["top1"] is None) or model["top1_source"].startswith("http"), model["name"]


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_printed_so_that_it_can_be_run(command, name, tmp_path):
    printed = command("recipes", name)
    assert printed.code == 0
    (tmp_path / "mine.yaml").write_text(printed.out)
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe(name)
    document = command("recipes", name, "--json").document
    assert document.pop("kind") == "recipe"
    assert document.pop("schema_version") == 1
    assert document == load_recipe(name).model_dump(mode="json")


def test_each_recipe_says_its_purpose(command):
    for name, purpose in command("recipes", "--json").document["recipes"].items():
        assert purpose.endswith("."), name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_line():
    words = [sys.executable, "-m", "edgevit", "models", "--json"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "Error: The output: cannot be written: the disk is full. Free some space.\n"


def test_doctor_ends_as_its_worst_finding(command):
    ended = command("doctor", "--device", "rpi5", "--json")
    severities = {finding["severity"] for finding in ended.document["findings"]}
    assert severities <= {"ok", "note", "warning", "problem"}
    assert ended.code == (5 if "problem" in severities else 0)


def test_a_problem_that_the_doctor_finds_ends_with_5(command, monkeypatch):
    from edgevit import doctor

    finding = doctor.Finding(severity="problem", what="The disk is gone.", fix="mount /disk")
    monkeypatch.setattr(doctor, "examine", lambda device: (finding,))
    assert command("doctor") == (5, "✗ The disk is gone.\n    mount /disk\n", "")
    ended = command("doctor", "--json")
    assert ended.code == 5
    assert json.loads(ended.out)["findings"] == [
        {"severity": "problem", "what": "The disk is gone.", "fix": "mount /disk"}
    ]
