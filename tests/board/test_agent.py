from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.benchreport import BenchReport, BenchSweep
from edgevit.board import agent, bench, session
from edgevit.board.agent import likeliest, main
from edgevit.board.bench import progress_teller
from edgevit.board.options import BenchOptions
from edgevit.errors import DeviceError, InputError

MakeBundle = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """A red and a green picture. By tiny_logits of conftest: red (1, -1, -1) and green (-1, 1, -1)."""
    paths = []
    for name, color in (("red.png", (255, 0, 0)), ("green.png", (0, 255, 0))):
        Image.new("RGB", (16, 16), color).save(tmp_path / name)
        paths.append(str(tmp_path / name))
    return paths


def one_line(text: str) -> str:
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    return text.strip()


def test_selfcheck_passes_where_the_logits_come_out_as_on_the_host(make_bundle: MakeBundle, capsys: Capture) -> None:
    assert main(["selfcheck", "--bundle", str(make_bundle())]) == 0
    captured = capsys.readouterr()
    assert one_line(captured.out).startswith(
        "Self-check passed: cosine 1.000000 (at least 0.9999), top-1 agreement 100"
    )
    assert captured.err == ""


def test_selfcheck_as_json_has_figures_and_thresholds(make_bundle: MakeBundle, capsys: Capture) -> None:
    assert main(["--bundle", str(make_bundle()), "--json", "selfcheck"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["passed"], document["n"], document["nonfinite"]) == ("selfcheck", True, 6, 0)
    assert document["cosine"] == pytest.approx(1.0)
    assert document["max_abs"] < 1e-5
    assert document["thresholds"] == {"cosine": 0.9999, "top1_agreement": 1.0}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_selfcheck_that_fails_ends_with_4_and_figures(
    make_bundle: MakeBundle, capsys: Capture, flags: list[str]
) -> None:
    wrong = -np.tile(np.array([[1, 2, 3, 4]], np.float32), (6, 1))
    assert main(["selfcheck", "--bundle", str(make_bundle(golden_logits=wrong)), *flags]) == 4
    captured = capsys.readouterr()
    assert one_line(captured.err).startswith("Error: Self-check failed: cosine ")
    assert "(at least 0.9999)" in captured.err
    assert "6 pictures" in captured.err
    assert (json.loads(captured.out)["passed"] is False) if flags else (captured.out == "")


def test_selfcheck_names_logits_of_nan(
    make_bundle: MakeBundle, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "run_in_batches", lambda session, pixels: np.full((6, 4), np.nan, np.float32))
    assert main(["selfcheck", "--bundle", str(make_bundle())]) == 4
    assert "NaN or infinity in 6 of them" in capsys.readouterr().err


@pytest.mark.parametrize("batch", [2, "N"])
def test_selfcheck_runs_artifacts_of_any_batch_size(make_bundle: MakeBundle, batch: int | str) -> None:
    assert main(["selfcheck", "--bundle", str(make_bundle(batch=batch))]) == 0


def test_bench_writes_the_document_that_the_host_reads(make_bundle: MakeBundle, capsys: Capture) -> None:
    root = make_bundle()
    flags = ["--json", "--min-seconds", "0", "--min-runs", "70", "--threads", "2", "--device", "bench-board"]
    assert main(["bench", "--bundle", str(root), *flags]) == 0
    report = BenchReport.model_validate_json(capsys.readouterr().out)
    files = json.loads((root / "manifest.json").read_text())["files"]
    assert (report.model, report.device, report.precision, report.threads) == ("tiny", "bench-board", "fp32", 2)
    assert (report.batch, report.artifact_sha256) == (1, files["model.onnx"]["sha256"])
    assert len(report.samples_ms) == report.latency_ms.runs == 70
    assert [reading.at for reading in report.sensors] == ["before", "during", "after"]
    assert report.is_valid
    assert report.load_ms > 0
    assert report.first_inference_ms > 0
    assert report.peak_rss_mib > 10


def test_bench_with_too_few_runs_writes_its_report_and_ends_with_6(make_bundle: MakeBundle, capsys: Capture) -> None:
    flags = ["--json", "--min-seconds", "0", "--min-runs", "5"]
    assert main(["bench", "--bundle", str(make_bundle()), *flags]) == 6
    captured = capsys.readouterr()
    report = BenchReport.model_validate_json(captured.out)
    assert (report.is_valid, len(report.samples_ms)) == (False, 5)
    words = "Error: The measurement is invalid: Too few samples: 5 runs, and 64 are the least."
    assert one_line(captured.err) == words


def test_bench_on_a_throttled_board_ends_with_6(
    make_bundle: MakeBundle, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bench.read_sensors

    def throttled(at: str, kind: str) -> dict[str, Any]:
        return {**read(at, "none"), "throttled": at == "during", "throttle_flags": ["throttled"] * (at == "during")}

    monkeypatch.setattr(bench, "read_sensors", throttled)
    assert main(["bench", "--bundle", str(make_bundle()), "--min-seconds", "0"]) == 6
    captured = capsys.readouterr()
    assert "The CPU was throttled during the run (throttled): let it cool down" in one_line(captured.err)
    assert captured.out.startswith("tiny, fp32, onnxruntime ")


def test_bench_fills_a_batch_larger_than_one(make_bundle: MakeBundle, capsys: Capture) -> None:
    assert main(["bench", "--bundle", str(make_bundle(batch=8)), "--json", "--min-seconds", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["batch"] == 8


def test_predict_prints_the_likeliest_classes_of_each_picture(
    make_bundle: MakeBundle, capsys: Capture, pictures: list[str]
) -> None:
    assert main(["predict", "--bundle", str(make_bundle()), "--top", "2", *pictures]) == 0
    red, green = capsys.readouterr().out.splitlines()
    # red: logits (2.5, -3.4, -1.6, 0.7) by hand, softmax 0.843, 0.002, 0.014, 0.139
    logits = np.array([2 + 1 - 0.5, -1 - 2 - 0.5 + 0.1, 0.5 - 2 - 0.1, 0 - 0.5 + 1 + 0.2])
    share = np.exp(logits) / np.exp(logits).sum()
    assert red == f"{pictures[0]}: red {100 * share[0]:.1f} %  gray {100 * share[3]:.1f} %"
    assert green.startswith(f"{pictures[1]}: green ")


def test_predict_as_json_has_labels_classes_and_probabilities(
    make_bundle: MakeBundle, capsys: Capture, pictures: list[str]
) -> None:
    assert main(["predict", "--bundle", str(make_bundle()), "--json", "--top", "99", pictures[0]]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["kind"], document["failed"]) == (1, "predict", [])
    top = document["pictures"][0]["top"]
    assert [entry["label"] for entry in top] == ["red", "gray", "blue", "green"]
    assert [entry["class"] for entry in top] == [0, 3, 2, 1]
    assert sum(entry["probability"] for entry in top) == pytest.approx(1.0)


def test_a_broken_picture_is_one_line_and_the_others_go_on(
    make_bundle: MakeBundle, capsys: Capture, pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    paths = [pictures[0], str(tmp_path / "broken.png"), str(tmp_path / "none.png"), pictures[1]]
    assert main(["predict", "--bundle", str(make_bundle()), "--json", *paths]) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [picture["path"] for picture in document["pictures"]] == pictures
    assert [failure["path"] for failure in document["failed"]] == paths[1:3]
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert "broken.png" in lines[0]
    assert "none.png: there is no such file" in lines[1]
    assert lines[2] == "Error: 2 of 4 pictures could not be read."


def test_of_equal_probabilities_the_first_class_leads() -> None:
    assert [entry["class"] for entry in likeliest(np.array([0.2, 0.4, 0.4]), "abc", 3)] == [1, 2, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Error: The following arguments are required"),
        (["fly"], "invalid choice: 'fly'"),
        (["predict"], "IMAGE"),
        (["bench", "--threads", "0"], "--threads: '0' is not a whole number from 1"),
        (["bench", "--threads", "many"], "--threads: 'many' is not a whole number from 1"),
        (["bench", "--min-seconds", "-1"], "--min-seconds: '-1' is not a number of seconds from 0 to 3600"),
        (["bench", "--min-seconds", "nan"], "--min-seconds: 'nan' is not a number of seconds from 0 to 3600"),
        (["bench", "--min-seconds", "soon"], "--min-seconds: 'soon' is not a number of seconds"),
        (["predict", "x.png", "--top", "1.5"], "--top: '1.5' is not a whole number from 1"),
        (["bench", "--threads", "1,1"], "--threads: 1 is named twice"),
        (["selfcheck", "--threads", "1,2"], "--threads takes several numbers with bench only"),
        (["bench", "--percentiles", "100"], "--percentiles: '100' is not a percentile between 0 and 100"),
        (["bench", "--cores", "some"], "--cores: 'some' is not big, little or a list of cores"),
        (["bench", "--cores", "9000"], "--cores: '9000' is not big, little or a list of cores"),
        (["bench", "--cold-start", "1"], "--cold-start: '1' is not a whole number from 3 to 1000"),
        (["bench", "--duration", "3", "--min-seconds", "2"], "--duration and --min-seconds both say how long"),
        (["bench", "--single-stream", "--streams", "2"], "--streams does not go with --single-stream"),
        (["selfcheck", "--fast"], "nrecognized arguments: --fast"),
        (["selfcheck"], "manifest.json: there is no such file: this is not a bundle"),
        (["selfcheck", "--bundle", "/nowhere/at/all"], "/nowhere/at/all: there is no such directory"),
    ],
)
def test_bad_usage_is_one_line_and_2(capsys: Capture, arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in one_line(captured.err)
    assert captured.out == ""


def test_help_ends_with_0(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    assert "selfcheck | bench | predict" in capsys.readouterr().out


def test_a_changed_bundle_is_not_run(make_bundle: MakeBundle, capsys: Capture) -> None:
    root = make_bundle()
    (root / "labels.txt").write_text("blue\ngreen\nred\ngray\n")
    assert main(["selfcheck", "--bundle", str(root)]) == 2
    assert "labels.txt: has another sha256" in one_line(capsys.readouterr().err)


def test_an_unknown_runtime_is_named(make_bundle: MakeBundle, capsys: Capture) -> None:
    runtime = {"name": "onnxruntme", "version": "1", "entry": "model.onnx", "session": {}}
    assert main(["selfcheck", "--bundle", str(make_bundle(runtime=runtime))]) == 2
    assert "Unknown runtime 'onnxruntme'. Did you mean 'onnxruntime'?" in one_line(capsys.readouterr().err)


def test_the_single_file_refuses_a_bundle_of_another_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "open_session", lambda *_: None, raising=False)
    monkeypatch.setattr(session, "RUNTIME", "onnxruntime", raising=False)
    assert session.runtime_functions("onnxruntime")["RUNTIME"] == "onnxruntime"
    with pytest.raises(InputError, match=r"runtime.name: is 'torchscript', and this agent.py runs 'onnxruntime'"):
        session.runtime_functions("torchscript")


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (MemoryError(), 1, "Error: out of memory. Close other programs, or use a smaller bundle."),
    ],
)
def test_an_interruption_and_a_lack_of_memory_are_one_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, words: str
) -> None:
    def stop(directory: str) -> None:
        raise raised

    monkeypatch.setattr(agent, "open_bundle", stop)
    assert main(["selfcheck"]) == code
    assert one_line(capsys.readouterr().err) == words


def test_a_reader_that_goes_away_is_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []

    def stop(directory: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(agent, "open_bundle", stop)
    monkeypatch.setattr(agent.os, "dup2", lambda source, target: moved.append(target))
    assert main(["selfcheck"]) == 1
    assert len(moved) == 1
    assert capfd.readouterr().err == ""


def test_bench_tells_its_progress_where_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    options = BenchOptions(min_runs=64, min_seconds=3.0)
    monkeypatch.delenv("EDGEVIT_PROGRESS", raising=False)
    assert progress_teller(options) is None
    monkeypatch.setenv("EDGEVIT_PROGRESS", "1")
    tell = progress_teller(options)
    assert tell is not None
    tell(32, 3.0)
    tell(640, 1.5)
    tell(640, 30.0)
    assert capsys.readouterr().err.splitlines() == [
        "progress: 50 100 % (32 runs)",
        "progress: 50 100 % (640 runs)",
        "progress: 100 100 % (640 runs)",
    ]


QUICK = ("--json", "--min-seconds", "0")


def bench_document(capsys: Capture, root: Path, *flags: str, code: int = 0) -> dict[str, Any]:
    ended = main(["bench", "--bundle", str(root), *flags])
    assert ended == code or (ended == 6 and "--cold-start" in flags)  # seconds, in which others may be busy
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_sweep_is_one_document_with_a_report_of_each_count(make_bundle: MakeBundle, capsys: Capture) -> None:
    root = make_bundle()
    document = bench_document(capsys, root, *QUICK, "--threads", "2,1", "--percentiles", "95", "--device", "here")
    sweep = BenchSweep.model_validate(document)
    assert [report.threads for report in sweep.reports] == [row.threads for row in sweep.rows] == [2, 1]
    assert {report.device for report in sweep.reports} == {"here"}
    assert [report.percentiles[0].percent for report in sweep.reports] == [95.0, 95.0]
    assert sweep.best_threads in (1, 2)
    assert main(["bench", "--bundle", str(root), "--min-seconds", "0", "--threads", "1,2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny, fp32, onnxruntime ")
    assert lines[2].split()[:3] == ["threads", "p50", "p90"]
    assert "Note: Measured for 0.0 s; 3 s are the rule." in lines


def test_a_sweep_of_an_invalid_measurement_ends_with_6(make_bundle: MakeBundle, capsys: Capture) -> None:
    document = bench_document(capsys, make_bundle(), *QUICK, "--threads", "1,2", "--min-runs", "5", code=6)
    assert document["invalid_reasons"][0] == "1 thread: Too few samples: 5 runs, and 64 are the least."


def test_what_ends_one_process_of_a_sweep_ends_it_in_the_same_words(make_bundle: MakeBundle, capsys: Capture) -> None:
    assert main(["bench", "--bundle", str(make_bundle()), *QUICK, "--threads", "1,2", "--batch", "3"]) == 2
    assert one_line(capsys.readouterr().err) == (
        "Error: --batch 3: this bundle takes 1 at a time. Leave --batch out, or export it again with --dynamic-batch."
    )


def test_a_batch_is_chosen_where_the_bundle_leaves_it_free(make_bundle: MakeBundle, capsys: Capture) -> None:
    root = make_bundle(batch="N")
    assert bench_document(capsys, root, *QUICK)["batch"] == 1
    report = BenchReport.model_validate(bench_document(capsys, root, *QUICK, "--batch", "4"))
    assert (report.batch, report.latency_ms.runs) == (4, len(report.samples_ms))
    busy_s = sum(report.samples_ms) / 1000
    assert report.pictures_per_s == pytest.approx(4 * len(report.samples_ms) / busy_s)


def test_a_batch_that_is_the_bundles_own_is_taken(make_bundle: MakeBundle, capsys: Capture) -> None:
    assert bench_document(capsys, make_bundle(batch=8), *QUICK, "--batch", "8")["batch"] == 8


def test_streams_run_a_session_each(make_bundle: MakeBundle, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    open_one = bench.open_artifact
    monkeypatch.setattr(bench, "open_artifact", lambda *words: opened.append(words) or open_one(*words))
    report = BenchReport.model_validate(bench_document(capsys, make_bundle(), *QUICK, "--streams", "3"))
    assert (report.mode, report.streams, len(opened)) == ("streams", 3, 3)
    assert report.latency_ms.runs >= 64
    assert report.pictures_per_s is not None


def test_cold_starts_are_timed_from_the_start_of_a_process(make_bundle: MakeBundle, capsys: Capture) -> None:
    root = make_bundle(batch="N")
    document = bench_document(capsys, root, "--json", "--cold-start", "3", "--batch", "2", "--threads", "2")
    report = BenchReport.model_validate(document)
    found = report.cold_start
    assert found is not None
    assert (report.mode, report.batch, report.threads, found.starts, len(report.samples_ms)) == (
        "cold-start", 2, 2, 3, 3,
    )  # fmt: skip
    slowest = max(report.samples_ms)
    assert all(0 < phase < slowest for phase in (found.python_ms, found.import_ms, found.first_inference_ms))
    assert found.first_start_ms == report.samples_ms[0]
    assert found.spread_ms == pytest.approx(max(report.samples_ms) - min(report.samples_ms))
    assert any(note.startswith("Files may be cached") for note in report.notes)


def test_a_process_is_held_to_cores(make_bundle: MakeBundle, capsys: Capture) -> None:
    cores = sorted(os.sched_getaffinity(0))
    try:
        document = bench_document(capsys, make_bundle(), *QUICK, "--cores", str(cores[-1]), "--threads", "2")
        assert os.sched_getaffinity(0) == {cores[-1]}
    finally:
        os.sched_setaffinity(0, cores)
    assert document["cores"] == [cores[-1]]
    assert "2 threads share 1 core that the process was held to." in document["notes"]


def test_a_wait_and_a_governor_are_in_the_report(
    make_bundle: MakeBundle, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cooled = {"seconds": 20.0, "from_c": 60.0, "to_c": 50.0, "is_at_rest": True}
    monkeypatch.setattr(bench, "cool_down", lambda *_: cooled)
    monkeypatch.setattr(bench, "held_governor", lambda: contextlib.nullcontext("The governor was held."))
    document = bench_document(capsys, make_bundle(), *QUICK, "--cool-down", "--set-governor")
    assert document["cool_down"] == cooled
    assert document["notes"][-2:] == ["Waited 20 s before measuring: 60 °C, then 50 °C.", "The governor was held."]


def test_a_governor_that_may_not_be_set_ends_with_5(
    make_bundle: MakeBundle, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> contextlib.AbstractContextManager[str]:
        raise DeviceError("--set-governor: is not allowed (sudo: a password is required).")

    monkeypatch.setattr(bench, "held_governor", refuse)
    assert main(["bench", "--bundle", str(make_bundle()), "--set-governor"]) == 5
    assert "a password is required" in one_line(capsys.readouterr().err)


def test_a_start_by_itself_writes_its_parts(make_bundle: MakeBundle, capsys: Capture) -> None:
    assert main(["start", "--bundle", str(make_bundle()), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["threads"], document["batch"]) == ("start", 1, 1)
    assert document["total_ms"] > 0


def test_help_says_nothing_of_what_is_for_ourselves(capsys: Capture) -> None:
    assert main(["bench", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--streams", "--cold-start", "--set-governor", "--percentiles"))
    assert main(["--help"]) == 0
    assert "start " not in capsys.readouterr().out.replace("cold-start", "")
