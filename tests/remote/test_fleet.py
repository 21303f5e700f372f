"""Many boards at once: one table, one document, one exit code; outliers by arithmetic on invented medians."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from digits_shop import Told
from host_board import HostBoard, free_port

from edgevit.benchreport import BenchReport, BenchSweep, Machine
from edgevit.board.amalgamate import agent_source
from edgevit.board.stats import summarize
from edgevit.board.sweep import sweep_document
from edgevit.errors import DeviceError
from edgevit.progress import Progress
from edgevit.remote.connection import Cancellation
from edgevit.remote.fleet import FleetReport, bench_fleet, outliers, spreads, worst
from edgevit.remote.host import Host, parse_host

MakeBundle = Callable[..., Path]
HOSTS = [parse_host(f"pi-{number}") for number in range(1, 6)]


def report(host: Host, p50_ms: float, is_valid: bool = True, cpu: str = "Cortex-A76") -> BenchReport:
    samples = [p50_ms] * 64
    return BenchReport.model_validate(
        {
            "edgevit": "1", "model": "tiny", "device": "rpi5", "host": str(host), "runtime": "onnxruntime",
            "machine": Machine(cpu=cpu, arch="aarch64", cores=4, os="Debian", python="3.11.2"),
            "runtime_version": "1.31.1", "precision": "fp32", "threads": 4, "batch": 1, "artifact_sha256": "0" * 64,
            "latency_ms": summarize(samples), "warmup_runs": 16, "load_ms": 1.0, "first_inference_ms": 1.0,
            "peak_rss_mib": 60.0, "sensors": [], "is_valid": is_valid,
            "invalid_reasons": [] if is_valid else ["It throttled."], "samples_ms": samples,
        }
    )  # fmt: skip


def fleet_of(*medians_ms: float) -> FleetReport:
    figures = dict(zip(HOSTS, medians_ms, strict=False))
    return bench_fleet(list(figures), lambda host, own, cancel: report(host, figures[host]), 3, Told())


def test_boards_come_in_the_order_given_whoever_is_first() -> None:
    def measure(host: Host, progress: Progress, cancellation: Cancellation) -> BenchReport:
        time.sleep(0.1 if host == HOSTS[0] else 0.0)
        return report(host, 10.0)

    fleet = bench_fleet(HOSTS[:3], measure, 3, Told())
    assert [board.host for board in fleet.boards] == ["pi-1", "pi-2", "pi-3"]
    assert fleet.exit_code == 0


def test_no_more_boards_at_a_time_than_asked_for() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def measure(host: Host, progress: Progress, cancellation: Cancellation) -> BenchReport:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1
        return report(host, 10.0)

    bench_fleet(HOSTS, measure, 2, Told())
    assert most[0] == 2


def test_one_failed_board_does_not_stop_the_rest() -> None:
    def measure(host: Host, progress: Progress, cancellation: Cancellation) -> BenchReport:
        if host == HOSTS[1]:
            raise DeviceError("pi-2: does not answer.")
        if host == HOSTS[2]:
            raise ZeroDivisionError("a fault of ours")
        return report(host, 10.0)

    fleet = bench_fleet(HOSTS[:4], measure, 4, Told())
    assert [board.exit_code for board in fleet.boards] == [0, 5, 1, 0]
    assert [board.error for board in fleet.boards][1:3] == [
        "pi-2: does not answer.",
        "edgevit itself failed: ZeroDivisionError: a fault of ours",
    ]
    assert fleet.exit_code == 5


def test_the_worst_exit_code_is_the_fleets() -> None:
    assert worst([]) == 0
    assert worst([0, 0]) == 0
    assert worst([0, 6]) == 6
    assert worst([6, 5, 0]) == 5
    assert worst([6, 2]) == 2


def test_an_outlier_among_boards_of_one_kind_is_named() -> None:
    # median 10.1, deviations 0.1 0.0 0.1 5.9: MAD 0.1, so the last one's score is 0.6745 * 5.9 / 0.1 = 40
    fleet = fleet_of(10.0, 10.1, 10.2, 16.0)
    (spread,) = fleet.spreads
    assert spread.outliers == ("pi-4",)
    assert spread.median_ms == pytest.approx(10.15)
    assert spread.spread == pytest.approx(6.0 / 10.15)
    assert "pi-4 stands out: 1.58 times slower than their median" in spread.sentence
    assert "from 10.00 to 16.00 ms, 59.1 % apart" in spread.sentence


def test_a_faster_board_stands_out_too() -> None:
    (spread,) = fleet_of(10.0, 10.0, 10.0, 5.0).spreads
    assert "pi-4 stands out: 2.00 times faster" in spread.sentence


@pytest.mark.parametrize(
    ("medians", "found"),
    [
        ([], ()),
        ([10.0], ()),
        ([10.0, 20.0], ()),
        ([10.0, 10.0, 10.0], ()),
        ([10.0, 10.0, 10.4], ()),  # 4 %: within what boards of one kind differ by
        ([10.0, 10.0, 10.6], (2,)),
        ([8.0, 10.0, 12.0], ()),  # evenly spread: 0.6745 * 2 / 2 is below 3.5
        ([0.0, 0.0, 0.0], ()),
    ],
)
def test_outliers_are_far_from_the_others_by_score_and_by_percent(medians: list[float], found: tuple[int, ...]) -> None:
    assert outliers(medians) == found


def test_only_valid_figures_of_one_kind_are_compared() -> None:
    boards = fleet_of(10.0, 11.0).boards
    other = boards[0].model_copy(update={"report": report(HOSTS[2], 30.0, cpu="Cortex-A72")})
    invalid = boards[0].model_copy(update={"report": report(HOSTS[3], 90.0, is_valid=False)})
    (spread,) = spreads([*boards, other, invalid])
    assert spread.hosts == ("pi-1", "pi-2")


def test_a_sweep_is_judged_as_a_whole_and_its_counts_are_compared_apart() -> None:
    def measure(host: Host, progress: Progress, cancellation: Cancellation) -> BenchSweep:
        one = report(host, 20.0).model_copy(update={"pictures_per_s": 50.0, "threads": 1})
        reports = [one, one.model_copy(update={"threads": 4, "is_valid": host != HOSTS[1]})]
        document = sweep_document([each.model_dump(mode="json") for each in reports])
        return BenchSweep.model_validate(
            {**document, "is_valid": host != HOSTS[1], "invalid_reasons": ["It throttled."]}
        )

    fleet = bench_fleet(HOSTS[:3], measure, 3, Told())
    assert [board.exit_code for board in fleet.boards] == [0, 6, 0]
    assert [board.error for board in fleet.boards] == [None, "It throttled.", None]
    assert [board.report for board in fleet.boards] == [None, None, None]
    assert [spread.hosts for spread in fleet.spreads] == [("pi-1", "pi-2", "pi-3"), ("pi-1", "pi-3")]
    assert fleet.spreads[1].sentence.startswith("2 boards with Cortex-A76, aarch64, 4 threads: medians from 20.00 to ")


# over ssh


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    return make_bundle(agent=agent_source("onnxruntime"))


@pytest.fixture
def three(board: HostBoard, tmp_path: Path) -> Path:
    """An ssh config with two names of the board, and one that nothing listens behind."""
    texts = []
    for name, port in (("pi-1", board.port), ("pi-2", board.port), ("pi-3", free_port())):
        texts.append(board.config_with(tmp_path / name, alias=name, port=port).read_text())
    (tmp_path / "three").write_text("\n".join(texts))
    return tmp_path / "three"


def edgevit(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgevit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_three_boards_of_which_one_is_broken(bundle: Path, three: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text("hosts: [pi-1, pi-2, pi-3]\n")
    words = ("bench", bundle, "--inventory", tmp_path / "hosts.yaml", "--ssh-config", three, "--min-seconds", "0")
    ended = edgevit(*words)
    assert ended.returncode == 5, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if "pi-" in line]
    assert "no ssh server listens there" in rows[2]
    assert "\n• 2 boards with " in ended.stdout
    machine = edgevit(*words, "--json", "-o", tmp_path / "fleet.json")
    assert machine.returncode == 5
    document = json.loads(machine.stdout)
    assert document == json.loads((tmp_path / "fleet.json").read_text())
    fleet = FleetReport.model_validate(document)
    assert [board.exit_code for board in fleet.boards] == [0, 0, 5]
    assert [board.report is None for board in fleet.boards] == [False, False, True]
    assert fleet.spreads[0].hosts == ("pi-1", "pi-2")


def test_ctrl_c_ends_every_board(board: HostBoard, make_bundle: MakeBundle, three: Path) -> None:
    endless = make_bundle("endless", agent="import time\ntime.sleep(120)\n")
    words = [sys.executable, "-m", "edgevit", "bench", str(endless), "--host", "pi-1", "--host", "pi-2"]
    with subprocess.Popen(
        [*words, "--ssh-config", str(three)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(list((board.cache / "work").glob("*/bundle/agent.py"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "Error: Interrupted. Nothing half written is left behind."
    deadline = time.monotonic() + 10
    while list((board.cache / "work").glob("*/bundle")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list((board.cache / "work").glob("*/bundle"))


def test_options_of_boards_need_a_board(bundle: Path, three: Path, tmp_path: Path) -> None:
    for words in (("--ssh-config", three), ("--wheels", tmp_path), ("--offline",), ("--jobs", 8)):
        ended = edgevit("bench", bundle, *words)
        assert ended.returncode == 2
        assert ended.stderr == f"Error: {words[0]} is for boards. Name one with --host user@board.\n"


def test_a_fleets_sweeps_are_one_table(bundle: Path, three: Path, tmp_path: Path) -> None:
    words = ("--host", "pi-1", "--host", "pi-2", "--ssh-config", three, "--min-seconds", "0", "--threads", "1,2")
    ended = edgevit("bench", bundle, *words, "-o", tmp_path / "fleet.json")
    assert ended.returncode == 0, ended.stderr
    assert len([line for line in ended.stdout.splitlines() if line.startswith("│ pi-")]) == 4
    assert "• pi-2: " in ended.stdout
    fleet = FleetReport.model_validate_json((tmp_path / "fleet.json").read_text())
    assert [len(board.reports) for board in fleet.boards] == [2, 2]
    assert [spread.hosts for spread in fleet.spreads] == [("pi-1", "pi-2")] * 2  # of each count of threads


def test_a_hostile_host_is_refused_before_ssh_is_started(bundle: Path, tmp_path: Path) -> None:
    ended = edgevit("bench", bundle, f"--host=-oProxyCommand=touch {tmp_path / 'ran'}")
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: The host '-oProxyCommand=touch ")
    assert not (tmp_path / "ran").exists()
