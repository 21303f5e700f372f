"""A bundle measured on a board over a real ssh connection, from the copy to the report."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from digits_shop import FOREIGN_ARCH, Told
from host_board import HostBoard

from edgevit.benchreport import BenchReport, BenchSweep
from edgevit.board.amalgamate import agent_source
from edgevit.board.options import BenchOptions
from edgevit.bundle import Bundle, load_bundle
from edgevit.errors import BadFileError, DeviceError, InputError
from edgevit.remote.bench import RemoteOptions, bench_on_board, check_agent
from edgevit.remote.connection import SshOptions
from edgevit.remote.host import parse_host

BOARD = parse_host("board")
MakeBundle = Callable[..., Path]


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    """The tiny model's bundle with a real agent."""
    return load_bundle(make_bundle(agent=agent_source("onnxruntime")))


@pytest.fixture
def options(ssh: SshOptions) -> RemoteOptions:
    """So short a measurement that other work on this machine cannot make it invalid."""
    return RemoteOptions(ssh=ssh, bench=BenchOptions(min_seconds=0))


def kept(board: HostBoard) -> set[str]:
    """What edgevit keeps on the board, and nothing else in its home."""
    found = {path.relative_to(board.cache).as_posix() for path in board.cache.rglob("*") if path.is_file()}
    others = {path for path in board.home.rglob("*") if path.is_file() and board.cache not in path.parents}
    assert not others
    return found


def test_a_board_measures_and_keeps_the_bundles_contents_only(
    board: HostBoard, bundle: Bundle, options: RemoteOptions
) -> None:
    told = Told()
    report = bench_on_board(BOARD, bundle, options, told)
    assert report.latency_ms.runs == len(report.samples_ms) >= 64
    assert (report.host, report.device, report.threads) == ("board", "board", 1)
    assert report.artifact_sha256 == bundle.manifest.files["model.onnx"].sha256
    titles = ["Connecting to board", "Looking at board", "Copying to board", "Measuring on board"]
    assert told.stages == titles
    digests = {file.sha256 for file in bundle.manifest.files.values()}
    names = kept(board)
    assert {f"objects/{digest[:2]}/{digest}" for digest in digests} <= names
    assert {name for name in names if not name.startswith("objects/")} == {"work/.lock"}
    assert list((board.cache / "work").iterdir()) == [board.cache / "work" / ".lock"]


def test_what_is_there_is_not_copied_again(board: HostBoard, bundle: Bundle, options: RemoteOptions) -> None:
    first, second = Told(), Told()
    bench_on_board(BOARD, bundle, options, first)
    before = {name: (board.cache / name).stat().st_ino for name in kept(board)}
    bench_on_board(BOARD, bundle, options, second)
    assert {name: (board.cache / name).stat().st_ino for name in kept(board)} == before
    assert not [update for update in second.updates if update[2] == "KiB"]


def test_content_that_was_changed_on_the_board_is_copied_again(
    board: HostBoard, bundle: Bundle, options: RemoteOptions
) -> None:
    bench_on_board(BOARD, bundle, options, Told())
    digest = bundle.manifest.files["model.onnx"].sha256
    path = board.cache / "objects" / digest[:2] / digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    path.chmod(0o644)
    path.write_bytes(b"another model")
    assert bench_on_board(BOARD, bundle, options, Told()).latency_ms.runs >= 64
    assert path.read_bytes() == (bundle.path / "model.onnx").read_bytes()


def test_threads_and_runs_are_those_asked_for(bundle: Bundle, options: RemoteOptions) -> None:
    report = bench_on_board(
        BOARD, bundle, replace(options, bench=BenchOptions(threads=(2,), min_seconds=0, min_runs=70)), Told()
    )
    assert report.threads == 2
    assert report.latency_ms.runs >= 70


def test_options_reach_the_agent(bundle: Bundle, options: RemoteOptions) -> None:
    core = max(os.sched_getaffinity(0))
    asked = BenchOptions(min_seconds=0, streams=2, cores=str(core), percentiles=(95.0, 99.9))
    report = bench_on_board(BOARD, bundle, replace(options, bench=asked), Told())
    assert isinstance(report, BenchReport)
    assert (report.mode, report.streams, report.cores) == ("streams", 2, (core,))
    assert [each.percent for each in report.percentiles] == [95.0, 99.9]
    assert "2 threads (2 streams with 1 each) share 1 core that the process was held to." in report.notes


def test_a_sweep_comes_back_with_the_boards_name_in_each_report(bundle: Bundle, options: RemoteOptions) -> None:
    told = Told()
    asked = BenchOptions(threads=(1, 2), min_seconds=1.2)
    sweep = bench_on_board(BOARD, bundle, replace(options, bench=asked), told)
    assert isinstance(sweep, BenchSweep)
    assert [(report.host, report.threads) for report in sweep.reports] == [("board", 1), ("board", 2)]
    assert any(text.endswith("2 threads") for _, total, text in told.updates if total == 100)


def test_a_board_starts_cold(bundle: Bundle, options: RemoteOptions) -> None:
    report = bench_on_board(BOARD, bundle, replace(options, bench=BenchOptions(cold_start=3)), Told())
    assert isinstance(report, BenchReport)
    assert report.cold_start is not None
    assert (report.mode, report.cold_start.starts, report.host) == ("cold-start", 3, "board")


def test_what_the_board_cannot_do_is_said_in_its_name(bundle: Bundle, options: RemoteOptions) -> None:
    with pytest.raises(InputError, match=r"^board: --batch 4: this bundle takes 1 at a time"):
        bench_on_board(BOARD, bundle, replace(options, bench=BenchOptions(batch=4)), Told())
    with pytest.raises(InputError, match=r"^board: --cores 8000: there is no core 8000 to use here"):
        bench_on_board(BOARD, bundle, replace(options, bench=BenchOptions(cores="8000")), Told())


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        (BenchOptions(streams=2), "--streams"),
        (BenchOptions(single_stream=True), "--single-stream"),
        (BenchOptions(threads=(1, 2)), "--threads with several numbers"),
    ],
)
def test_an_agent_older_than_an_option_is_found_out_before_anything_is_sent(
    make_bundle: MakeBundle, options: RemoteOptions, asked: BenchOptions, option: str
) -> None:
    old = load_bundle(make_bundle(agent='parser.add_argument("--min-seconds"); parser.add_argument("--threads")'))
    told = Told()
    with pytest.raises(InputError, match=rf"its agent.py is older than {option}\. Export the bundle again"):
        bench_on_board(BOARD, old, replace(options, bench=asked), told)
    assert told.stages == []


def test_an_agent_of_today_has_all_options(bundle: Bundle) -> None:
    check_agent(bundle, BenchOptions(threads=(1, 2), duration=1.0, streams=2, batch=1, percentiles=(50.0,), cores="0",
                                     cool_down=True, set_governor=True))  # fmt: skip
    check_agent(bundle, BenchOptions(cold_start=3))
    check_agent(bundle, BenchOptions(single_stream=True))


def test_the_agents_progress_is_passed_on(bundle: Bundle, options: RemoteOptions) -> None:
    told = Told()
    bench_on_board(BOARD, bundle, replace(options, bench=BenchOptions(min_seconds=2.5)), told)
    measuring = [update for update in told.updates if update[1] == 100]
    assert len(measuring) >= 1
    assert all(0 < done <= 100 and "runs" in text for done, _, text in measuring)


def test_a_bundle_for_another_architecture_is_refused_before_anything_is_copied(
    make_bundle: MakeBundle, options: RemoteOptions
) -> None:
    device = {"name": "elsewhere", "arch": FOREIGN_ARCH, "threads": 1, "measured_on": None}
    bundle = load_bundle(make_bundle(agent=agent_source("onnxruntime"), device=device))
    told = Told()
    with pytest.raises(DeviceError, match=rf"^board: is \w+, and this bundle is for {FOREIGN_ARCH} \(elsewhere\)"):
        bench_on_board(BOARD, bundle, options, told)
    assert "Copying to board" not in told.stages


def test_a_bundle_without_an_agent_is_refused(make_bundle: MakeBundle, options: RemoteOptions) -> None:
    with pytest.raises(InputError, match=r"has no agent\.py"):
        bench_on_board(BOARD, load_bundle(make_bundle()), options, Told())


@pytest.mark.parametrize("line", ["-e git+https://example.org/x", "--index-url http://x", "numpy @ file:///x", "a b"])
def test_a_requirement_that_edgevit_does_not_write_is_refused(
    bundle: Bundle, sign_bundle: Callable[[Path], None], options: RemoteOptions, line: str
) -> None:
    (bundle.path / "requirements.txt").write_text(f"numpy\n{line}\n")
    sign_bundle(bundle.path)
    with pytest.raises(BadFileError, match="line 2: is no line that edgevit writes"):
        bench_on_board(BOARD, load_bundle(bundle.path), options, Told())


def test_folders_and_names_with_spaces_quotes_and_line_ends_go_over(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None], options: RemoteOptions
) -> None:
    root = make_bundle('it\'s a "bundle"\n$(touch x)', agent=agent_source("onnxruntime"))
    (root / "bin").mkdir()
    (root / "bin" / 'it\'s; $(rm -rf x) & "so" \u00e9').write_text("odd")
    sign_bundle(root)
    assert bench_on_board(BOARD, load_bundle(root), options, Told()).latency_ms.runs >= 64


def test_what_the_agent_refuses_is_said_with_the_boards_name(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None], options: RemoteOptions
) -> None:
    root = make_bundle(agent="import sys; print('Error: no such sensor.', file=sys.stderr); sys.exit(2)")
    with pytest.raises(InputError, match=r"^board: no such sensor\.$"):
        bench_on_board(BOARD, load_bundle(root), options, Told())
    (root / "agent.py").write_text("import os; os.kill(os.getpid(), 4)")
    sign_bundle(root)
    with pytest.raises(DeviceError, match="killed by signal 4"):
        bench_on_board(BOARD, load_bundle(root), options, Told())


def test_the_command_prints_the_report_and_the_board(board: HostBoard, bundle: Bundle, tmp_path: Path) -> None:
    words = ["bench", str(bundle.path), "--host", "board", "--ssh-config", str(board.config), "--min-seconds", "0"]
    ended = edgevit_here(*words, "-o", str(tmp_path / "report.json"))
    assert ended.returncode == 0, ended.stderr
    assert "(board)" in ended.stdout
    assert json.loads((tmp_path / "report.json").read_text())["host"] == "board"


def edgevit_here(*words: str) -> subprocess.CompletedProcess[str]:
    import sys

    command = [sys.executable, "-m", "edgevit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_no_socket_and_no_process_is_left(
    board: HostBoard, bundle: Bundle, options: RemoteOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    import psutil

    short = Path(tempfile.mkdtemp(prefix="ev", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    bench_on_board(BOARD, bundle, options, Told())
    assert list(short.iterdir()) == []
    shutil.rmtree(short)
    assert [child for child in psutil.Process().children() if child.name() == "ssh"] == []
