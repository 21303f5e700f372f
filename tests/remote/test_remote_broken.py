"""What goes wrong between here and a board, over a real sshd: each a clear line, and the board left clean."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from cable import Cable, cable_to
from digits_shop import Told
from host_board import HostBoard, free_port, make_key, running_board, write_known_hosts

from edgevit.benchreport import BenchReport
from edgevit.board.amalgamate import agent_source
from edgevit.board.options import BenchOptions
from edgevit.bundle import Bundle, load_bundle
from edgevit.errors import DeviceError, InputError, MeasurementError
from edgevit.remote import errands
from edgevit.remote.bench import RemoteOptions, bench_on_board
from edgevit.remote.connection import SshOptions, connect
from edgevit.remote.host import parse_host

BOARD = parse_host("board")
SLOW_AGENT = "import sys, time\nprint('progress: 1 100 x', file=sys.stderr, flush=True)\ntime.sleep(120)\n"
MakeBundle = Callable[..., Path]


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return load_bundle(make_bundle(agent=agent_source("onnxruntime")))


@pytest.fixture
def endless(make_bundle: MakeBundle) -> Bundle:
    """A bundle whose agent says that it has begun and then takes longer than anybody waits."""
    return load_bundle(make_bundle("endless", agent=SLOW_AGENT))


@pytest.fixture
def cable(board: HostBoard) -> Iterator[Cable]:
    with cable_to(board.port) as running:
        yield running


class Triggered(Told):
    """Does something when a stage begins, or is told of its first step."""

    def __init__(self, at: str, act: Callable[[], None], at_step: bool = False) -> None:
        super().__init__()
        self._at, self._act, self._at_step = at, act, at_step

    def stage(self, title: str) -> None:
        super().stage(title)
        if title.startswith(self._at) and not self._at_step:
            self._act()

    def update(self, done: int, total: int, detail: str = "") -> None:
        if self._at_step and self.stages[-1].startswith(self._at):
            self._act()


def through(board: HostBoard, cable: Cable, folder: Path, *lines: str) -> RemoteOptions:
    """The board at the cable's other end; its host key is known."""
    write_known_hosts(folder / "known", cable.port, board.folder / "host_key.pub")
    config = folder / "cable_config"
    board.config_with(config, f"UserKnownHostsFile {folder / 'known'}", *lines, port=cable.port)
    return RemoteOptions(ssh=SshOptions(config), bench=BenchOptions(min_seconds=0))


def agents(board: HostBoard) -> list[psutil.Process]:
    """Agents that run on the board now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(board.cache) in word for word in process.cmdline()):
                found.append(process)
    return found


def clean(board: HostBoard, limit_s: float = 20.0) -> bool:
    """Whether the board comes to rest: no agent, and no folder of an errand."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not agents(board) and {path.name for path in (board.cache / "work").glob("*")} <= {".lock"}:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("stage", "at_step", "words"),
    [
        ("Connecting", False, "closed the connection while it was being made"),
        ("Looking", False, "the connection was lost while looking at the board"),
        ("Copying", False, "the connection was lost while comparing files"),
        ("Copying", True, "the connection was lost while copying files"),
        ("Measuring", False, "the connection was lost while measuring"),
        ("Measuring", True, "the connection was lost while measuring"),
    ],
)
def test_a_connection_that_is_cut_is_one_line_and_leaves_nothing(
    board: HostBoard,
    cable: Cable,
    endless: Bundle,
    sign_bundle: Callable[[Path], None],
    tmp_path: Path,
    stage: str,
    at_step: bool,
    words: str,
) -> None:
    (endless.path / "model.onnx").write_bytes(os.urandom(4 * 1024 * 1024))  # so large that a copy is cut half way
    sign_bundle(endless.path)
    with pytest.raises(DeviceError, match=rf"^board: .*{words}") as failure:
        bench_on_board(
            BOARD, load_bundle(endless.path), through(board, cable, tmp_path), Triggered(stage, cable.cut, at_step)
        )
    assert failure.value.exit_code == 5
    assert "\n" not in str(failure.value)
    assert clean(board)


def test_a_connection_that_is_cut_while_the_report_comes_is_one_line(
    board: HostBoard, cable: Cable, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    agent = "import sys\nprint('progress: 99 100 x', file=sys.stderr, flush=True)\nprint('x' * 40_000_000)\n"
    bundle = load_bundle(make_bundle("wordy", agent=agent))

    def cut_later() -> None:
        carried = cable.carried
        while cable.carried < carried + 1_000_000:
            time.sleep(0.001)
        cable.cut()

    begin = threading.Thread(target=cut_later).start
    with pytest.raises(DeviceError, match="the connection was lost while measuring"):
        bench_on_board(BOARD, bundle, through(board, cable, tmp_path), Triggered("Measuring", begin, True))
    assert clean(board)


def test_a_link_that_goes_silent_is_noticed_on_both_sides(
    board: HostBoard, cable: Cable, endless: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = errands.program_text().replace(b"SILENCE_SECONDS = 30.0", b"SILENCE_SECONDS = 2.0")
    monkeypatch.setattr(errands, "program_text", lambda: text)
    options = through(board, cable, tmp_path, "ServerAliveInterval 1", "ServerAliveCountMax 2")
    with pytest.raises(DeviceError, match="the connection was lost while measuring"):
        bench_on_board(BOARD, endless, options, Triggered("Measuring", cable.silence, True))
    assert clean(board)


def test_a_slow_link_takes_longer_and_says_how_far_it_is(
    board: HostBoard, bundle: Bundle, sign_bundle: Callable[[Path], None], tmp_path: Path
) -> None:
    path = bundle.path / "bin" / "extra"
    path.parent.mkdir()
    path.write_bytes(os.urandom(300_000))
    sign_bundle(bundle.path)
    told = Told()
    with cable_to(board.port, bytes_per_s=400_000) as slow:
        report = bench_on_board(BOARD, load_bundle(bundle.path), through(board, slow, tmp_path), told)
    assert report.latency_ms.runs >= 64
    steps = [done for done, _, what in told.updates if what == "KiB"]
    assert len(steps) >= 4
    assert steps == sorted(steps)


def test_a_run_that_does_not_end_in_time_is_ended(
    board: HostBoard, endless: Bundle, ssh: SshOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.remote.bench.OVERHEAD_SECONDS", -188.0)  # and 180 + 10 of measuring
    with pytest.raises(MeasurementError, match="did not finish within 2 s"):
        bench_on_board(BOARD, endless, RemoteOptions(ssh=ssh), Told())
    assert clean(board)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_when_edgevit_ends_so_does_the_agent(board: HostBoard, endless: Bundle, number: int, code: int) -> None:
    words = [sys.executable, "-m", "edgevit", "bench", endless.path, "--host", "board", "--ssh-config", board.config]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not agents(board):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    assert clean(board)
    if number != signal.SIGKILL:
        assert err.strip().splitlines() == ["Error: Interrupted. Nothing half written is left behind."]


def test_what_a_killed_errand_left_is_removed_by_the_next(
    board: HostBoard, bundle: Bundle, endless: Bundle, ssh: SshOptions
) -> None:
    def kill_all() -> None:
        while not agents(board):
            time.sleep(0.02)
        (agent,) = agents(board)
        parent = agent.parent()
        assert parent is not None
        parent.kill()  # what the kernel does when memory runs out
        agent.kill()

    with pytest.raises(DeviceError, match=r"lost while measuring|failed while measuring|Python was killed"):
        bench_on_board(BOARD, endless, RemoteOptions(ssh=ssh), Triggered("Measuring", kill_all, True))
    assert len(list((board.cache / "work").iterdir())) == 2
    bench_on_board(BOARD, bundle, RemoteOptions(ssh=ssh, bench=BenchOptions(min_seconds=0)), Told())
    assert clean(board)


def test_a_full_disk_is_said_and_nothing_is_left_half(
    tmp_path_factory: pytest.TempPathFactory, endless: Bundle, bundle: Bundle, sign_bundle: Callable[[Path], None]
) -> None:
    folder = tmp_path_factory.mktemp("small")
    with small_disk(folder / "home", mib=24) as home, running_board(folder, home=home) as small:
        (endless.path / "model.onnx").write_bytes(os.urandom(12 * 1024 * 1024))
        sign_bundle(endless.path)
        options = RemoteOptions(ssh=SshOptions(small.config), bench=BenchOptions(min_seconds=0))
        with pytest.raises(
            DeviceError, match=r"^board: its disk is full while copying files \(.* MiB are free"
        ) as full:
            bench_on_board(BOARD, load_bundle(endless.path), options, Told())
        assert str(full.value).endswith("Free some space there.")
        assert bench_on_board(BOARD, bundle, options, Told()).latency_ms.runs >= 64

        def fill() -> None:
            with contextlib.suppress(OSError), (home / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(65536))

        (endless.path / "model.onnx").write_bytes(os.urandom(2 * 1024 * 1024))
        sign_bundle(endless.path)
        before = {path.name for path in small.cache.rglob("*")}
        with pytest.raises(DeviceError, match=r"its disk is full while "):
            bench_on_board(BOARD, load_bundle(endless.path), options, Triggered("Copying", fill))
        assert {path.name for path in small.cache.rglob("*")} <= before | {"work", ".lock"}


def test_a_home_that_is_read_only_is_said(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> None:
    folder = tmp_path_factory.mktemp("sealed")
    with small_disk(folder / "home", mib=24) as home, running_board(folder, home=home) as sealed:
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        with pytest.raises(DeviceError, match=r"^board: cannot keep files while copying files .*Read-only"):
            bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(sealed.config)), Told())


def test_an_unknown_host_key_is_refused(board: HostBoard, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for lines in ((f"UserKnownHostsFile {tmp_path / 'empty'}",), ("StrictHostKeyChecking ask",)):
        config = board.config_with(tmp_path / "config", f"UserKnownHostsFile {tmp_path / 'empty'}", *lines)
        with pytest.raises(DeviceError, match=r"host key is not in known_hosts.*ssh board$"):
            bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(config)), Told())
    assert (tmp_path / "empty").read_text() == ""


@pytest.mark.parametrize("checking", ["yes", "ask", "accept-new", "no", "off"])
def test_a_changed_host_key_is_refused_whatever_the_config_says(
    board: HostBoard, bundle: Bundle, tmp_path: Path, checking: str
) -> None:
    make_key(tmp_path / "other")
    write_known_hosts(tmp_path / "known", board.port, tmp_path / "other.pub")
    lines = (f"UserKnownHostsFile {tmp_path / 'known'}", f"StrictHostKeyChecking {checking}")
    config = board.config_with(tmp_path / "config", *lines)
    with pytest.raises(DeviceError, match=r"is not the one that known_hosts has.*ssh-keygen -R"):
        bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(config)), Told())


def test_a_config_that_ignores_host_keys_is_noted(board: HostBoard, bundle: Bundle, tmp_path: Path) -> None:
    lines = (f"UserKnownHostsFile {tmp_path / 'new'}", "StrictHostKeyChecking no")
    config = board.config_with(tmp_path / "config", *lines)
    report = bench_on_board(
        BOARD, bundle, RemoteOptions(ssh=SshOptions(config), bench=BenchOptions(min_seconds=0)), Told()
    )
    assert "Your ssh config ignores host keys" in " ".join(report.notes)
    assert (tmp_path / "new").exists()


def test_a_key_that_the_board_does_not_know_is_refused(board: HostBoard, bundle: Bundle, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    board.config_with(tmp_path / "config")
    text = (tmp_path / "config").read_text().replace(str(board.folder / "user_key"), str(tmp_path / "stranger"))
    (tmp_path / "config").write_text(text)
    with pytest.raises(DeviceError, match=r"lets nobody in with your keys.*ssh-copy-id board"):
        bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(tmp_path / "config")), Told())


def test_where_nothing_listens_is_said(board: HostBoard, bundle: Bundle, tmp_path: Path) -> None:
    config = board.config_with(tmp_path / "config", port=free_port())
    with pytest.raises(DeviceError, match="no ssh server listens there"):
        bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(config)), Told())


def test_a_name_that_nobody_has_is_said(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host *\nConnectTimeout 5\n")
    with pytest.raises(DeviceError, match=r"^nowhere\.invalid: there is no machine of that name"):
        bench_on_board(
            parse_host("nowhere.invalid"), bundle, RemoteOptions(ssh=SshOptions(tmp_path / "config")), Told()
        )


def test_a_broken_ssh_config_is_bad_input(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host board\nPrt 22\n")
    with pytest.raises(InputError, match=r"line 2: Bad configuration option: prt"):
        bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(tmp_path / "config")), Told())


def test_without_ssh_the_package_is_named(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="sudo apt install openssh-client"):
        bench_on_board(BOARD, bundle, RemoteOptions(ssh=SshOptions(program="no-such-ssh")), Told())


def test_options_of_the_users_config_that_take_the_command_away_are_overruled(
    board: HostBoard, bundle: Bundle, tmp_path: Path
) -> None:
    config = board.config_with(
        tmp_path / "config", "RemoteCommand echo no", "RequestTTY force", "ControlMaster auto", "ControlPersist 10m",
        f"ControlPath {tmp_path / 'mux'}", "PermitLocalCommand yes", f"LocalCommand touch {tmp_path / 'ran'}",
        "LocalForward 47999 127.0.0.1:22", "ForwardAgent yes", "LogLevel QUIET",
    )  # fmt: skip
    report: BenchReport = bench_on_board(
        BOARD, bundle, RemoteOptions(ssh=SshOptions(config), bench=BenchOptions(min_seconds=0)), Told()
    )
    assert report.host == "board"
    assert not (tmp_path / "mux").exists()
    assert not (tmp_path / "ran").exists()


def test_a_login_shell_that_talks_is_passed_over(board: HostBoard, bundle: Bundle, ssh: SshOptions) -> None:
    (board.home / ".bashrc").write_text("echo Welcome to the board\necho '@edgevit nonsense' >&2\n")
    try:
        assert (
            bench_on_board(
                BOARD, bundle, RemoteOptions(ssh=ssh, bench=BenchOptions(min_seconds=0)), Told()
            ).latency_ms.runs
            >= 64
        )
    finally:
        (board.home / ".bashrc").unlink()


def test_a_board_without_python_is_told_how_to_get_it(board: HostBoard, bundle: Bundle, ssh: SshOptions) -> None:
    python = board.folder / "bin" / "python3"
    kept = python.read_text()
    try:
        python.write_text("#!/bin/sh\necho Python 3.6.9 >&2\nexit 38\n")
        with pytest.raises(DeviceError, match=r"^board: its python3 is 3\.6\.9\. 3\.8 is the oldest .* python3\.8$"):
            bench_on_board(BOARD, bundle, RemoteOptions(ssh=ssh), Told())
        python.write_text("#!/bin/sh\nexit 37\n")
        with pytest.raises(DeviceError, match=r"has no python3. On the board: sudo apt install python3-minimal"):
            bench_on_board(BOARD, bundle, RemoteOptions(ssh=ssh), Told())
    finally:
        python.write_text(kept)


def test_the_connection_ends_with_its_block(ssh: SshOptions) -> None:
    with connect(BOARD, ssh) as connection:
        assert connection.is_alive
        (master,) = [child for child in psutil.Process().children() if child.name() == "ssh"]
    assert not connection.is_alive
    assert not master.is_running()


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of its own at `folder`."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "edgevit-test", str(folder)], capture_output=True,
        check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
