"""edgevit profile: tables, the document, and what it refuses."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("edgevit.profiling.measure.MIN_SECONDS", 0.0)


def test_time_is_told_by_operator_and_by_layer(command, in_workplace):
    ended = command("profile", "bundle", "--threads", "1")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "bundle: vit_tiny_patch16_224, fp32, batch 1"
    assert ", 1 thread, on " in lines[1]
    for words in ("linear layers", "attention products", "layout", "patch_embed", "blocks.*.attn", "head"):
        assert words in ended.out
    assert "• Profiling itself adds" in ended.out
    assert lines[-1] == "Next: edgevit bench bundle"


def test_the_document_has_each_node(command, in_workplace):
    ended = command("profile", "bundle", "--threads", "1", "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert (document["kind"], document["threads"], document["float_weights"]) == ("profile", 1, [])
    assert document["kernels_ms"] == pytest.approx(sum(node["median_ms"] for node in document["nodes"]))
    assert {"blocks.0.attn", "blocks.1.mlp"} <= {row["module"] for row in document["modules"]}
    assert sum(row["share"] for row in document["modules"]) == pytest.approx(100.0)


def test_rows_that_are_left_out_are_summed_up(command, in_workplace):
    ended = command("profile", "bundle", "--threads", "1", "--top", "1")
    assert ended.out.count("more, ") == 3


def test_another_bundle_is_the_side_before(command, in_workplace, tmp_path):
    shutil.copytree("bundle", tmp_path / "earlier")
    words = ("profile", "bundle", "--against", tmp_path / "earlier", "--threads", "1")
    ended = command(*words)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0].startswith(f"before: {tmp_path / 'earlier'}: ")
    assert "\nafter: bundle: " in ended.out
    assert "Difference" in ended.out
    document = command(*words, "--json").document
    assert document["kind"] == "profile-comparison"
    assert (document["before"]["bundle"], document["after"]["bundle"]) == (str(tmp_path / "earlier"), "bundle")
    changed = {change["name"]: change for change in document["parts"]}
    linear = changed["linear layers"]
    assert linear["difference_ms"] == pytest.approx(linear["after_ms"] - linear["before_ms"])


def test_a_bundle_is_not_held_against_itself(refused):
    assert refused(2, "profile bundle --against bundle") == "bundle: is named twice."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("profile nowhere", "nowhere: there is no such directory. Name a bundle's directory."),
        ("profile bundle --against nowhere", "nowhere: there is no such directory. Name a bundle's directory."),
        ("profile pictures", "pictures/manifest.json: there is no such file: this is not a bundle."),
    ],
)
def test_what_is_no_bundle_is_refused(refused, words, message):
    assert message in refused(2, words)


@pytest.mark.parametrize("words", ["profile", "profile bundle --top 0", "profile bundle --threads 0"])
def test_usage_is_checked(command, in_workplace, words):
    assert command(*words.split()).code == 2
