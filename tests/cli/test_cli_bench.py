"""The options of edgevit bench, as people and programs see them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from edgevit.benchreport import BenchReport, BenchSweep
from edgevit.board.stats import summarize
from edgevit.board.sweep import sweep_document
from edgevit.cli.bench_print import print_document
from edgevit.cli.output import Output

ENERGY = {"mj_per_picture": 91.25, "power_w": 3.4, "sensor": "VDD_IN", "readings": 9, "missing": ""}


def report(**changes):
    samples = [50.0] * 64
    document = {
        "edgevit": "0.1.0", "model": "tiny", "device": "rpi5", "runtime": "onnxruntime", "runtime_version": "1.31.1",
        "machine": {"cpu": "Cortex-A76", "arch": "aarch64", "cores": 4, "os": "x", "python": "3.11.2"},
        "precision": "fp32", "threads": 1, "batch": 1, "artifact_sha256": "0" * 64, "latency_ms": summarize(samples),
        "warmup_runs": 16, "load_ms": 1.0, "first_inference_ms": 1.0, "peak_rss_mib": 50.0, "sensors": [],
        "pictures_per_s": 20.0, "is_valid": True, "samples_ms": samples,
    }  # fmt: skip
    return BenchReport.model_validate({**document, **changes})


def printed(document, capsys):
    print_document(Output(), document)
    return capsys.readouterr().out


def test_energy_of_a_batch_is_that_of_a_picture_and_old_reports_call_it_by_another_name(capsys):
    old = {"mj_per_inference": ENERGY["mj_per_picture"], **{k: v for k, v in ENERGY.items() if k != "mj_per_picture"}}
    assert report(batch=8, energy=old) == report(batch=8, energy=ENERGY)
    assert "\nenergy 91.2 mJ per picture at 3.40 W (VDD_IN)\n" in printed(report(batch=8, energy=old), capsys)


def test_energy_is_printed_or_why_it_is_not_available(capsys):
    assert "\nenergy 91.2 mJ per picture at 3.40 W (VDD_IN)\n" in printed(report(energy=ENERGY), capsys)
    none = {"missing": "this machine has no power sensor"}
    assert "\nenergy not available: this machine has no power sensor\n" in printed(report(energy=none), capsys)
    assert "\nenergy not available\n" in printed(report(), capsys)


def test_what_was_asked_for_is_printed(capsys):
    text = printed(
        report(
            mode="streams", streams=4, batch=8, cores=[4, 5, 6, 7], pictures_per_s=320.0,
            percentiles=[{"percent": 99.9, "ms": None, "needed": 6636}, {"percent": 95.0, "ms": 51.5, "needed": 130}],
        ),
        capsys,
    )  # fmt: skip
    assert "\n4 streams at a time, held to cores 4-7\n" in text
    assert "\np99.9 needs 6,636 runs (64 here), p95 51.50 ms\n" in text
    assert "\n320.0 pictures per second (a latency is that of 8 pictures)\n" in text


def test_a_sweep_is_a_table_with_a_sentence(capsys):
    slow = report(energy=ENERGY).model_dump(mode="json")
    fast = report(threads=4, latency_ms=summarize([20.0] * 64), samples_ms=[20.0] * 64).model_dump(mode="json")
    text = printed(BenchSweep.model_validate(sweep_document([slow, fast])), capsys)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert cells == [
        ["1", "50.0 ms", "50.0 ms", "20.0", "91.2", "1.00×", "100.0 %", ""],
        ["4", "20.0 ms", "20.0 ms", "20.0", "–", "2.50×", "62.5 %", ""],
    ]
    assert "• 4 threads are best: p50 20.00 ms, 2.50 times as fast as one.\n" in text


def test_several_counts_of_threads_are_one_document(command, in_workplace, tmp_path):
    words = ("bench", "bundle", "--threads", "1,2", "--min-seconds", "0", "-o", tmp_path / "sweep.json")
    ended = command(*words, "--json")
    assert ended.code == 0, ended.err
    assert ended.document == json.loads((tmp_path / "sweep.json").read_text())
    sweep = BenchSweep.model_validate(ended.document)
    assert [report.threads for report in sweep.reports] == [1, 2]
    told = command(*words)
    assert "Speed-up" in told.out
    assert f"• {sweep.best_threads} " in told.out or "best: p50" in told.out


def test_a_sweep_that_is_invalid_ends_with_6(command, in_workplace):
    ended = command("bench", "bundle", "--threads", "1,2", "--min-seconds", "0", "--min-runs", "8")
    assert ended.code == 6
    assert ended.err == (
        "Error: This measurement may not be used: 1 thread: Too few samples: 8 runs, and 64 are the least.; "
        "2 threads: Too few samples: 8 runs, and 64 are the least.\n"
    )
    assert ended.out.count("invalid") == 2


@pytest.mark.parametrize("words", [("--cold-start",), ("--cold-start", "3")])
def test_cold_starts_need_no_number(command, in_workplace, monkeypatch, words):
    seen = []

    def refuse(bundle, options):
        seen.append(options.cold_start)
        return report()

    monkeypatch.setattr("edgevit.bench.local.bench_document", refuse)
    assert command("bench", "bundle", *words).code == 0
    assert seen == [int(words[1]) if len(words) > 1 else 10]


def test_a_stream_of_pictures_is_measured_here(command, in_workplace):
    ended = command("bench", "bundle", "--streams", "2", "--min-seconds", "0", "--percentiles", "90", "--json")
    assert ended.code == 0, ended.err
    assert (ended.document["mode"], ended.document["streams"]) == ("streams", 2)
    assert ended.document["percentiles"][0]["ms"] == pytest.approx(ended.document["latency_ms"]["p90"])


@pytest.mark.parametrize("where", [(), ("--emulate",)])
@pytest.mark.parametrize(
    ("target", "said"), [("no/such.json", "No such file or directory."), ("pictures", "Is a directory.")]
)
def test_a_report_that_cannot_be_written_is_said_before_measuring(
    command, in_workplace, monkeypatch, where, target, said
):
    for place in ("edgevit.bench.local.bench_document", "edgevit.emulation.bench.bench_emulated"):
        monkeypatch.setattr(place, lambda *_: pytest.fail("it was measured"))
    ended = command("bench", "bundle", *where, "-o", target)
    assert (ended.code, ended.out) == (2, "")
    assert f"Error: {target}: cannot be written: {said}" in ended.err


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_disk_that_fills_up_meanwhile_takes_no_measurement_away(command, in_workplace, monkeypatch, tmp_path, words):
    monkeypatch.setattr("edgevit.bench.local.bench_document", lambda *_: report())
    monkeypatch.setattr("os.fsync", fail_full)
    ended = command("bench", "bundle", "-o", tmp_path / "x.json", *words)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "x.json: cannot be written: the disk is full." in ended.err
    assert "50.0" in ended.out
    assert list(tmp_path.iterdir()) == []


def fail_full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_an_invalid_measurement_ends_with_6_when_nobody_reads_it(workplace, words):
    reader, writer = os.pipe()
    os.close(reader)
    measure = [sys.executable, "-m", "edgevit", "bench", "bundle", "--min-seconds", "0", "--min-runs", "8"]
    ended = subprocess.run([*measure, *words], cwd=workplace, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert ended.returncode == 6
    assert b"Too few samples: 8 runs" in ended.stderr
