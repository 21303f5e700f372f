"""The governor of a machine made of files, by a sudo that is made of a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.board.governor import held_governor
from edgevit.errors import DeviceError
from edgevit.interpreter import child_environment

Machine = Callable[[dict[str, str]], Path]
POLICIES = "sys/devices/system/cpu/cpufreq"
LIMIT_S = 20.0


@pytest.fixture
def board(machine: Machine) -> Path:
    """Two clusters, of governors 'ondemand' and 'schedutil'."""
    files = {}
    for number, governor in ((0, "ondemand"), (4, "schedutil")):
        files[f"{POLICIES}/policy{number}/scaling_governor"] = f"{governor}\n"
        files[f"{POLICIES}/policy{number}/scaling_available_governors"] = "ondemand schedutil performance\n"
    return machine(files)


def governors(root: Path) -> list[str]:
    return [path.read_text().strip() for path in sorted(root.glob(f"{POLICIES}/policy*/scaling_governor"))]


def fake_sudo(folder: Path, text: str) -> tuple[str, ...]:
    """The words of `sudo -n`, of a program that does `text` with the command."""
    path = folder / "sudo"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (str(path), "-n")


def test_the_governor_is_held_by_sudo_and_put_back(board: Path, tmp_path: Path) -> None:
    sudo = fake_sudo(tmp_path, f'echo "$1 $2" > {tmp_path}/asked; shift; exec "$@"')
    with held_governor(board, sudo) as what:
        assert governors(board) == ["performance", "performance"]
    assert governors(board) == ["ondemand", "schedutil"]
    assert what == "The governor was set to performance for this run; it was ondemand, schedutil before."
    assert (tmp_path / "asked").read_text() == "-n sh\n"  # never asks for a password


def test_files_that_may_be_written_need_no_sudo(board: Path) -> None:
    with held_governor(board, None):
        assert governors(board) == ["performance", "performance"]
    assert governors(board) == ["ondemand", "schedutil"]


def test_it_is_put_back_when_the_measurement_fails(board: Path) -> None:
    with pytest.raises(KeyboardInterrupt), held_governor(board, ()):
        raise KeyboardInterrupt
    assert governors(board) == ["ondemand", "schedutil"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_is_put_back_when_all_that_measures_is_ended(board: Path, number: int) -> None:
    """Ctrl-C reaches the whole group; what ends a run over ssh kills the group."""
    script = (
        "import pathlib, time\nfrom edgevit.board.governor import held_governor\n"
        f"with held_governor(pathlib.Path({str(board)!r}), ()):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"held\n"
        assert governors(board) == ["performance", "performance"]
        os.killpg(process.pid, number)
    deadline = time.monotonic() + LIMIT_S
    while governors(board) != ["ondemand", "schedutil"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert governors(board) == ["ondemand", "schedutil"]


def test_a_sudo_that_refuses_is_one_line_with_what_to_do(board: Path, tmp_path: Path) -> None:
    sudo = fake_sudo(tmp_path, "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(DeviceError) as caught, held_governor(board, sudo):
        pass
    assert str(caught.value) == (
        "--set-governor: is not allowed (sudo: a password is required). Set it yourself before measuring: "
        "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
    )
    assert caught.value.exit_code == 5
    assert governors(board) == ["ondemand", "schedutil"]


def test_a_machine_without_sudo_says_so(board: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="sudo cannot be started"), held_governor(board, (str(tmp_path / "sudo"),)):
        pass


def test_what_cannot_be_set_on_all_clusters_is_set_on_none(board: Path) -> None:
    last = board / POLICIES / "policy4/scaling_governor"
    last.unlink()
    last.mkdir()
    (board / POLICIES / "policy4/scaling_governor/x").touch()
    with pytest.raises(DeviceError, match="this machine shows no governor"), held_governor(board, ()):
        pass
    assert (board / POLICIES / "policy0/scaling_governor").read_text() == "ondemand\n"


def test_a_machine_without_a_governor_is_refused(tmp_path: Path) -> None:
    words = r"shows no governor \(a virtual machine or a container\)"
    with pytest.raises(DeviceError, match=words), held_governor(tmp_path):
        pass


def test_a_machine_without_the_governor_performance_is_refused(board: Path) -> None:
    (board / POLICIES / "policy4/scaling_available_governors").write_text("powersave\n")
    with pytest.raises(DeviceError, match="'performance' is not among those"), held_governor(board):
        pass


def test_where_it_is_set_already_nothing_is_done(machine: Machine) -> None:
    root = machine({f"{POLICIES}/policy0/scaling_governor": "performance\n"})
    with held_governor(root, ("no-such-sudo",)) as what:
        assert what == "The governor was performance already."
