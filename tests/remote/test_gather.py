"""Facts of a board over ssh: what it says of itself, doctor's findings, and a profile made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from host_board import HostBoard

from edgevit.board.sensors import describe_machine
from edgevit.device import Device
from edgevit.errors import DeviceError
from edgevit.remote import gather
from edgevit.remote.connection import SshOptions
from edgevit.remote.gather import gather_board_facts
from edgevit.remote.host import parse_host
from edgevit.yamlfile import read_yaml

BOARD = parse_host("board")


def test_a_board_says_of_itself_what_this_machine_is(board: HostBoard, ssh: SshOptions) -> None:
    here = describe_machine()
    found = gather_board_facts(BOARD, ssh)
    assert (found.machine.cpu, found.machine.arch) == (here["cpu"], here["arch"])
    assert not list((board.cache / "work").glob("[!.]*"))


def test_a_program_that_fails_there_is_one_line(ssh: SshOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "facts_source", lambda: "import sys; sys.exit('no \\x1b[2Jsensor')")
    with pytest.raises(DeviceError, match=r"^board: cannot describe itself \(no \[2Jsensor\)\.$"):
        gather_board_facts(BOARD, ssh)


def edgevit(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgevit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_doctor_judges_a_board(board: HostBoard) -> None:
    ended = edgevit("doctor", "--host", "board", "--ssh-config", board.config, "--json")
    assert ended.returncode in (0, 5), ended.stderr
    document = json.loads(ended.stdout)
    assert document["kind"] == "doctor"
    assert document["findings"]
    assert (ended.returncode == 5) == any(each["severity"] == "problem" for each in document["findings"])


def test_a_profile_is_made_from_a_board(board: HostBoard, tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    words = ("devices", "add", "--from-host", "board", "--ssh-config", board.config, "--name", "mine", "-o", target)
    ended = edgevit(*words)
    assert ended.returncode == 0, ended.stderr
    assert read_yaml(target, Device).arch == describe_machine()["arch"]


def test_a_board_is_named_once(board: HostBoard, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text("{}")
    for words in (("doctor", "--host"), ("devices", "add", "--from-host")):
        ended = edgevit(*words, "board", "--from-facts", tmp_path / "facts.json")
        assert ended.returncode == 2
        assert "name two boards. Give one of them." in ended.stderr
    ended = edgevit("doctor", "--host=-oProxyCommand=x")
    assert ended.returncode == 2
    assert "begins with '-'" in ended.stderr
