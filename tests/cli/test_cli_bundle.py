"""What is done with a bundle: predict, bench, compare, evaluate; and the page of a run."""

from __future__ import annotations

import json
import shutil

import pytest

from edgevit.bench.interleave import Interleaved
from edgevit.board.sensors import describe_machine

CAT = "pictures/cats/0.png"
DOG = "pictures/dogs/0.png"


def test_the_likeliest_classes_come_first(command, in_workplace):
    ended = command("predict", CAT, DOG, "--bundle", "bundle", "--top", "10", "--json")
    assert ended.code == 0
    document = ended.document
    assert document["kind"] == "predict"
    assert document["failed"] == []
    assert [picture["path"] for picture in document["pictures"]] == [CAT, DOG]
    for picture in document["pictures"]:
        chances = [entry["probability"] for entry in picture["top"]]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1.0)
        assert {entry["label"] for entry in picture["top"]} == set("0123456789")


def test_a_broken_picture_is_named_and_the_others_go_on(command, in_workplace):
    broken = ["broken/truncated.png", "broken/text.png", "broken/empty.png", "pictures", "nowhere.png"]
    ended = command("predict", CAT, *broken, DOG, "--bundle", "bundle", "--top", "1")
    assert ended.code == 2
    assert [line.split(":")[0] for line in ended.out.splitlines()] == [CAT, DOG]
    assert ended.err.splitlines() == [
        "Error: broken/truncated.png: cannot be decoded (image file is truncated).",
        "Error: broken/text.png: is not a picture that Pillow can read.",
        "Error: broken/empty.png: is empty (0 bytes).",
        "Error: pictures: is a folder, not a picture.",
        "Error: nowhere.png: there is no such file.",
        "Error: 5 of 7 pictures could not be read.",
    ]
    machine = command("predict", CAT, *broken, DOG, "--bundle", "bundle", "--json")
    assert machine.code == 2
    assert [picture["path"] for picture in machine.document["pictures"]] == [CAT, DOG]
    assert [failure["path"] for failure in machine.document["failed"]] == broken


def test_a_picture_may_be_called_like_an_option(command, in_workplace, tmp_path, monkeypatch):
    shutil.copy(CAT, tmp_path / "--json")
    monkeypatch.chdir(tmp_path)
    ended = command("predict", "--bundle", in_workplace / "bundle", "--", "--json")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("--json: ")


def test_bench_measures_in_a_fresh_process_and_writes_its_report(command, in_workplace, tmp_path):
    ended = command("bench", "bundle", "--min-seconds", "0", "--threads", "1", "--json", "-o", tmp_path / "report.json")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert ended.document == report
    assert report["kind"] == "bench"
    assert report["threads"] == 1
    assert report["latency_ms"]["runs"] == len(report["samples_ms"]) >= 64
    told = command("compare", tmp_path / "report.json", "bundle")
    assert told.code == 0, told.err
    assert str(tmp_path / "report.json") in told.out


def test_too_few_samples_end_with_6_and_one_document(command, in_workplace):
    words = ("bench", "bundle", "--min-seconds", "0", "--min-runs", "8")
    line = "Error: This measurement may not be used: Too few samples: 8 runs, and 64 are the least.\n"
    ended = command(*words)
    assert ended.code == 6
    assert ended.err == line
    assert "8 runs" in ended.out
    assert "Next:" not in ended.out
    machine = command(*words, "--json")
    assert machine.code == 6
    assert machine.err == line
    assert machine.document["kind"] == "bench"
    assert machine.document["is_valid"] is False


def test_bundles_are_compared_side_by_side(command, in_workplace, tmp_path):
    shutil.copytree("bundle", tmp_path / "other")
    document = command("compare", "bundle", tmp_path / "other", "--json").document
    assert document["kind"] == "comparison"
    assert [row["name"] for row in document["rows"]] == ["bundle", str(tmp_path / "other")]
    text = command("compare", "bundle", tmp_path / "other").out
    for difference in document["differences"]:
        assert f"• {difference['sentence']}" in text


def test_bundles_for_this_machine_are_measured_and_their_p50_is_in_the_table(command, make_bundle, monkeypatch):
    here = {"name": "local", "arch": describe_machine()["arch"], "threads": 1, "measured_on": None}
    a, b = (make_bundle(name, device=here) for name in ("a", "b"))
    timings = {str(a): Interleaved(blocks=((4.0,) * 4,) * 3), str(b): Interleaved(blocks=((2.5,) * 4,) * 3)}
    monkeypatch.setattr("edgevit.bench.sides.measure_interleaved", lambda runs: timings)
    told = command("compare", a, b)
    assert told.code == 0, told.err
    cells = [[cell.strip() for cell in line.split("│")] for line in told.out.splitlines() if line.startswith("│")]
    assert [(row[1], row[7], row[8]) for row in cells] == [
        (str(a), "4.00 ms", "4.00 ms"), (str(b), "2.50 ms", "2.50 ms"),
    ]  # fmt: skip
    assert f"{b} is 1.60× as fast as {a} (95 % interval 1.60–1.60, taking turns here, 1 thread)." in told.out
    rows = command("compare", a, b, "--json").document["rows"]
    assert [row["p50_ms"] for row in rows] == [4.0, 2.5]


@pytest.mark.parametrize("target", ["checkpoint", "checkpoint/model.safetensors", "bundle", "bundle/model.onnx"])
def test_what_was_made_of_one_model_is_equally_accurate(command, in_workplace, target):
    words = ("--data", "digits", "--split", "val", "--limit", "40", "--json")
    found = command("evaluate", target, *words).document
    reference = command("evaluate", "checkpoint", *words).document
    assert found["kind"] == "evaluation"
    assert found["accuracy"] == reference["accuracy"]
    assert found["per_class"] == reference["per_class"]
    assert found["accuracy"]["n"] == 40 == sum(each["n"] for each in found["per_class"].values())


def test_an_evaluation_says_n_and_what_to_do_next(command, in_workplace):
    ended = command("evaluate", "bundle", "--data", "digits", "--limit", "30")
    assert ended.code == 0, ended.err
    assert "bundle (fp32): top-1 " in ended.out
    assert ", n = 30\n" in ended.out
    assert ended.out.endswith("\nNext: edgevit bench bundle\n")
    told = command("evaluate", "checkpoint", "--data", "digits", "--limit", "30").out
    assert told.endswith("\nNext: edgevit export checkpoint --device rpi5 --data digits -o bundle-rpi5\n")


def test_the_page_of_a_run_is_written_again(command, in_workplace, tmp_path):
    ended = command("report", "run", "-o", tmp_path / "page.html")
    assert ended.code == 0, ended.err
    assert ended.out == f"Page: {tmp_path / 'page.html'}\n\nNext: edgevit bench run/bundle\n"
    assert (tmp_path / "page.html").read_text() == (in_workplace / "run" / "report.html").read_text()
    assert command("report", "run", "-o", tmp_path / "page.html", "--json").document == {
        "schema_version": 1,
        "kind": "report",
        "page": str(tmp_path / "page.html"),
    }
