"""A board that is broken or hostile: what it answers is bounded, checked, and cannot steer the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from digits_shop import Told
from host_board import HostBoard, running_board

from edgevit.benchreport import BenchSweep
from edgevit.board import agent as agent_module
from edgevit.board.amalgamate import agent_source
from edgevit.board.sweep import sweep_document
from edgevit.bundle import Bundle, load_bundle
from edgevit.errors import DeviceError, EdgevitError, InputError, MeasurementError
from edgevit.remote.bench import RemoteOptions, believe, bench_on_board
from edgevit.remote.connection import SshOptions, connect
from edgevit.remote.errands import AgentEnd, look
from edgevit.remote.host import parse_host

BOARD = parse_host("board")
FACTS = {
    "python": "3.11.2", "implementation": "CPython", "machine": "x86_64", "system": "Linux", "glibc": "2.36",
    "cpuinfo": "", "packages": {}, "free_bytes": 10**9, "cache": "/x",
}  # fmt: skip
MakeBundle = Callable[..., Path]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostBoard]:
    """A board whose python3 prints what lies in its file 'answer'."""
    folder = tmp_path_factory.mktemp("liar")
    folder.mkdir(exist_ok=True)
    with running_board(folder, ("cat", str(folder / "answer"), "--")) as running:
        (folder / "bin" / "python3").write_text(f"#!/bin/sh\ncat {folder}/answer\n")
        yield running


def told_by(liar: HostBoard, answer: bytes) -> Any:
    (liar.folder / "answer").write_bytes(answer)
    with connect(BOARD, SshOptions(liar.config)) as connection:
        return look(connection, [])


def line(**changes: object) -> bytes:
    return b"@edgevit " + json.dumps({"done": {**FACTS, **changes}}).encode() + b"\n"


def test_an_honest_answer_is_read(liar: HostBoard) -> None:
    assert told_by(liar, b"noise\n" + line()).python == "3.11.2"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"@edgevit " + b"[" * 1_000_000 + b"\n", "answers what edgevit cannot read"),
        (b"@edgevit {\n", "answers what edgevit cannot read"),
        (b"@edgevit \xff\xfe\n", "answers what edgevit cannot read"),
        (b"@edgevit 3\n", "answers what edgevit cannot read"),
        (b'@edgevit {"done": NaN}\n', "answers what edgevit cannot read"),
        (b'@edgevit {"done": ' + b"9" * 100_000 + b"}\n", "answers what "),
        (b'@edgevit {"done": null}\n', "answers what no board of edgevit's would"),
        (line(python="3.11.2\x1b[2J"), r"python: "),
        (line(python="9" * 1000), r"python: "),
        (line(machine="../../x"), r"machine: "),
        (line(free_bytes=-1), r"free_bytes: "),
        (line(cpuinfo="x" * 300_000), r"cpuinfo: "),
        (line(packages={"numpy": "x" * 100}), r"packages\.numpy: "),
        (line(more=1), r"more: "),
        (b'@edgevit {"failed": {"kind": "full", "text": "\\u001b]0;owned\\u0007"}}\n', r"disk is full .*\(\]0;owned\)"),
        (b'@edgevit {"failed": 7}\n', "failed while looking at the board"),
        (b"only words\n", "failed while looking at the board"),
        (b"", "failed while looking at the board"),
        (b"@edgevit " + b"x" * 65 * 1024 * 1024, "more than 64 MiB"),
        (b"words\n" * 12 * 1024 * 1024, "more than 64 MiB"),
    ],
    ids=range(20),
)
def test_an_absurd_answer_is_refused_in_one_line(liar: HostBoard, answer: bytes, words: str) -> None:
    with pytest.raises(DeviceError, match=words) as refusal:
        told_by(liar, answer)
    message = str(refusal.value)
    assert message.startswith("board: ")
    assert message.isprintable()
    assert len(message) < 500


# reports


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return load_bundle(make_bundle(agent=agent_source("onnxruntime")))


@pytest.fixture
def report(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the bundle's agent writes on this machine."""
    words = ["--bundle", str(bundle.path), "--json", "bench", "--min-seconds", "0"]
    assert agent_module.main(words) in (0, 6)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def told(report: dict[str, Any], **changes: Any) -> AgentEnd:
    return AgentEnd(code=0, document=json.dumps({**report, **changes}), said="")


def test_an_honest_report_is_believed(bundle: Bundle, report: dict[str, Any]) -> None:
    assert believe(BOARD, bundle, told(report)).samples_ms == tuple(report["samples_ms"])


def test_figures_that_do_not_follow_from_the_samples_are_refused(bundle: Bundle, report: dict[str, Any]) -> None:
    faster = {**report["latency_ms"], "p50": report["latency_ms"]["p50"] / 2}
    zeros, sample = [0.0] * 64, [1e10] * 64
    for changes in ({"latency_ms": faster}, {"samples_ms": []}, {"samples_ms": zeros}, {"samples_ms": sample}):
        with pytest.raises(DeviceError, match="its figures do not follow from its samples"):
            believe(BOARD, bundle, told(report, **changes))


def test_percentiles_and_estimates_that_do_not_follow_from_the_samples_are_refused(
    bundle: Bundle, report: dict[str, Any]
) -> None:
    for changes in (
        {"percentiles": [{"percent": 50.0, "ms": report["latency_ms"]["p50"] / 2, "needed": 11}]},
        {"percentiles": [{"percent": 99.9999, "ms": 1.0, "needed": 11}]},
        {"mode": "single-stream", "early_stopping_p90_ms": report["latency_ms"]["minimum"]},
    ):
        with pytest.raises(DeviceError, match="its figures do not follow from its samples"):
            believe(BOARD, bundle, told(report, **changes))


def test_a_sweep_is_believed_if_it_follows_from_its_reports(bundle: Bundle, report: dict[str, Any]) -> None:
    two = {**report, "threads": 2}
    sweep = sweep_document([report, two])
    believed = believe(BOARD, bundle, told(sweep))
    assert isinstance(believed, BenchSweep)
    assert [each.threads for each in believed.reports] == [1, 2]
    assert believed.sentence == sweep["sentence"]
    assert believe(BOARD, bundle, told(sweep, sentence="\x1b[2Jowned")) == believed  # it is worked out here
    for changes in ({"best_threads": 7}, {"rows": []}, {"reports": [report]}, {"is_valid": not sweep["is_valid"]}):
        with pytest.raises(DeviceError, match="the figures of its sweep do not follow from its reports"):
            believe(BOARD, bundle, told(sweep, **changes))
    with pytest.raises(DeviceError, match="its figures do not follow from its samples"):
        believe(BOARD, bundle, told(sweep, reports=[report, {**two, "samples_ms": []}]))


def test_another_models_report_is_refused(bundle: Bundle, report: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="measured another model"):
        believe(BOARD, bundle, told(report, artifact_sha256="0" * 64))


def test_what_is_no_report_is_refused(bundle: Bundle, report: dict[str, Any]) -> None:
    for document in ("[" * 100_000, "{}", "null", json.dumps({**report, "samples_ms": ["NaN"]}), '{"kind": 1e999}'):
        with pytest.raises(DeviceError, match="wrote no report that edgevit can read"):
            believe(BOARD, bundle, AgentEnd(code=0, document=document, said=""))


COLD = dict.fromkeys(
    ("python_ms", "check_ms", "import_ms", "load_ms", "first_inference_ms", "first_start_ms", "spread_ms"), 1.0
)
ENERGY = {"mj_per_picture": 1.0, "power_w": 1.0, "sensor": "x", "readings": 9}


@pytest.mark.parametrize(
    "changes",
    [
        *({name: value} for name in ("threads", "batch", "streams") for value in (0, -1, 10**30)),
        {"kind": "bench-sweep", "rows": [], "best_threads": None, "sentence": "", "reports": []},
        {"percentiles": [{"percent": 1e-320, "ms": None, "needed": 11}]},
        {"percentiles": [{"percent": 0.0, "ms": None, "needed": 11}]},
        {"percentiles": [{"percent": 100.0, "ms": None, "needed": 11}]},
        {"percentiles": [{"percent": 50.0, "ms": None, "needed": 0}]},
        {"percentiles": [{"percent": 50.0, "ms": None, "needed": 11}] * 33},
        {"mode": "cold-start"},
        {"mode": "cold-start", "cold_start": {"starts": 0, **COLD}},
        {"mode": "cold-start", "cold_start": {"starts": 3, **COLD, "load_ms": -1.0}},
        {"cold_start": {"starts": 3, **COLD}},
        {"cores": []},
        {"cores": [-1]},
        {"cores": [1e20]},
        {"cores": [8192]},
        {"cores": [0] * 8193},
        {"peak_rss_mib": -5},
        {"peak_rss_mib": 1e300},
        {"pictures_per_s": 0},
        {"pictures_per_s": 1e300},
        {"load_ms": -1.0},
        {"first_inference_ms": -1.0},
        {"warmup_runs": -1},
        {"energy": {**ENERGY, "mj_per_picture": -1.0}},
        {"energy": {"mj_per_inference": -1.0}},
        {"energy": {**ENERGY, "power_w": 1e300}},
        {"cool_down": {"seconds": -1.0, "from_c": None, "to_c": None, "is_at_rest": True}},
    ],
    ids=str,
)
def test_figures_that_no_machine_can_have_measured_are_refused(
    bundle: Bundle, report: dict[str, Any], changes: dict[str, Any]
) -> None:
    with pytest.raises(DeviceError, match="wrote no report that edgevit can read"):
        believe(BOARD, bundle, told(report, **changes))
    sweep = {**sweep_document([report, {**report, "threads": 2}]), "reports": [report, {**report, **changes}]}
    with pytest.raises(DeviceError, match="wrote no report that edgevit can read"):
        believe(BOARD, bundle, told(sweep))


@pytest.mark.parametrize("name", ["p50", "p90", "mean", "mad", "minimum", "maximum"])
def test_latencies_below_zero_are_refused(bundle: Bundle, report: dict[str, Any], name: str) -> None:
    with pytest.raises(DeviceError, match="wrote no report that edgevit can read"):
        believe(BOARD, bundle, told(report, latency_ms={**report["latency_ms"], name: -1.0}))


def test_a_reports_words_cannot_steer_the_terminal(bundle: Bundle, report: dict[str, Any]) -> None:
    machine = {**report["machine"], "cpu": "\x1b]0;owned\x07Cortex\u202e-A76\n" + "x" * 5000}
    believed = believe(BOARD, bundle, told(report, machine=machine, notes=["\x1b[2Jfine"]))
    assert believed.machine.cpu.startswith("]0;owned Cortex -A76 xxx")
    assert len(believed.machine.cpu) <= 1000
    assert believed.notes == ("[2Jfine",)


@pytest.mark.parametrize(
    ("code", "said", "error", "words"),
    [
        (2, "Error: x\x1b[2J is bad.", InputError, r"^board: x \[2J is bad\.$"),
        (6, "no report", MeasurementError, r"^board: no report\.$"),
        (-9, "", DeviceError, "killed by signal 9"),
        (7, "", EdgevitError, "ended with code 7"),
    ],
)
def test_how_an_agent_ends_is_translated(
    bundle: Bundle, code: int, said: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        believe(BOARD, bundle, AgentEnd(code=code, document="", said=said))


def test_an_agent_that_never_stops_writing_is_stopped(
    board: HostBoard, make_bundle: MakeBundle, ssh: SshOptions
) -> None:
    flood = "import sys\nwhile True: sys.stdout.write('x' * 1_000_000)\n"
    bundle = load_bundle(make_bundle("flood", agent=flood))
    with pytest.raises(DeviceError, match="the agent writes more than a report, which is refused"):
        bench_on_board(BOARD, bundle, RemoteOptions(ssh=ssh), Told())
    assert [path.name for path in (board.cache / "work").iterdir()] == [".lock"]
