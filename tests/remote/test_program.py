"""The program that boards run: one text of Python 3.8, run here without edgevit beside it."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.remote import onboard
from edgevit.remote.program import CHECK, LOADER, program_command, program_text

Errand = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def errand(tmp_path: Path) -> Errand:
    """errand('look', data=b'', packages=[]) sends the program to a shell, and gives its exit code and last answer."""
    text = program_text()

    def run(name: str, data: bytes = b"", **request: Any) -> tuple[int, dict[str, Any]]:
        head = text + json.dumps({"errand": name, **request}).encode() + b"\n"
        words = ["sh", "-c", program_command(len(text), sys.executable)]
        ended = subprocess.run(
            words, input=head + data, capture_output=True, check=False,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, timeout=60,
        )  # fmt: skip
        assert ended.stderr == b""
        last = ended.stdout.splitlines()[-1]
        assert last.startswith(b"@edgevit ")
        answer: dict[str, Any] = json.loads(last[9:])
        return ended.returncode, answer

    return run


def cache(home: Path) -> Path:
    return home / ".cache" / "edgevit" / "board"


def test_it_is_python_3_8_of_the_standard_library() -> None:
    tree = ast.parse(program_text(), feature_version=(3, 8))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"removeprefix", "removesuffix", "is_relative_to", "hardlink_to", "file_digest"}
    roots = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots <= set(sys.stdlib_module_names)


def test_the_command_holds_nothing_that_a_user_names() -> None:
    assert program_command(7) == program_command(7)
    assert program_command(7).startswith("exec sh -c '")
    assert "\n" not in program_command(7)


def old_python(folder: Path, version: str = "3.6.9") -> Path:
    """A python3 that says it is of `version` and otherwise runs what it is given."""
    folder.mkdir(exist_ok=True)
    path = folder / "python3"
    numbers = version.replace(".", ", ")
    setup = f"import sys; sys.version_info = ({numbers}); code = sys.argv.pop(1); exec(code)"
    path.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{setup}" "$@"\n')
    path.chmod(0o755)
    return path


def test_what_an_old_python_reads_first_is_python_of_old() -> None:
    ast.parse(CHECK, feature_version=(3, 4))
    ast.parse(LOADER % 7, feature_version=(3, 4))


def test_a_board_with_an_old_python_only_ends_with_38_and_its_version(tmp_path: Path) -> None:
    words = ["sh", "-c", program_command(len(program_text()), str(old_python(tmp_path / "old")))]
    environment = {"HOME": str(tmp_path), "PATH": tools(tmp_path)}
    ended = subprocess.run(words, input=program_text(), capture_output=True, check=False, env=environment, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (38, b"", b"Python 3.6.9\n")


@pytest.mark.parametrize("place", ["bin", ".local/bin"])
def test_a_newer_python_beside_an_old_one_runs_the_program(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "python3.8").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / place / "python3.8").chmod(0o755)
    text = program_text()
    words = ["sh", "-c", program_command(len(text), str(old_python(tmp_path / "old")))]
    request = json.dumps({"errand": "look", "packages": []}).encode() + b"\n"
    environment = {"HOME": str(tmp_path), "PATH": f"{tools(tmp_path)}:{tmp_path / 'bin'}"}
    ended = subprocess.run(
        words, input=text + request, capture_output=True, check=False, env=environment, timeout=60
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1][9:])["done"]["system"] == platform.system()


def tools(folder: Path) -> str:
    """A path of programs on which there is a shell and no python3.N."""
    (folder / "tools").mkdir(exist_ok=True)
    (folder / "tools" / "sh").symlink_to("/bin/sh")
    return str(folder / "tools")


def test_a_file_is_there_whole_or_not_at_all(errand: Errand, tmp_path: Path) -> None:
    # sha256 of b"hello\n", by sha256sum
    digest = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    target = cache(tmp_path) / "objects" / "58" / digest
    files = [{"sha256": digest, "size": 6}]
    assert errand("missing", digests=[digest]) == (0, {"done": [digest]})
    for data, kind in ((b"hell", "cut"), (b"jello\n", "damaged")):
        code, answer = errand("receive", data, files=files)
        assert (code, answer["failed"]["kind"]) == (1, kind)
        assert not target.exists()
        assert [path.name for path in (cache(tmp_path) / "work").iterdir()] == [".lock"]
    assert errand("receive", b"hello\n", files=files) == (0, {"done": 1})
    assert target.read_bytes() == b"hello\n"
    assert errand("missing", digests=[digest]) == (0, {"done": []})


class Drops(io.RawIOBase):
    """A link over which one byte arrives at a time, each of which is an event."""

    def __init__(self, data: bytes, events: list[str]) -> None:
        self._left, self._events = list(data), events

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._events.append("byte")
        buffer[0] = self._left.pop(0)
        return 1


def test_every_byte_that_arrives_puts_the_end_for_silence_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(Drops(b"slow", events))))
    monkeypatch.setattr("signal.alarm", lambda seconds: events.append(f"alarm {seconds}"))
    files = [{"sha256": hashlib.sha256(b"slow").hexdigest(), "size": 4}]
    assert onboard.receive({"files": files}) == 1
    assert events == ["alarm 30", "byte"] * 4 + ["alarm 0"]


def test_a_link_that_stands_still_is_the_cause_that_is_named(tmp_path: Path) -> None:
    text = program_text().replace(b"SILENCE_SECONDS = 30.0", b"SILENCE_SECONDS = 1.0")
    request = json.dumps({"errand": "receive", "files": [{"sha256": "0" * 64, "size": 6}]}).encode() + b"\n"
    words = ["sh", "-c", program_command(len(text), sys.executable)]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text + request + b"he")
        process.stdin.flush()
        last = process.stdout.read().splitlines()[-1]
    assert json.loads(last[9:]) == {"failed": {"kind": "silence", "text": "nothing arrived there for 1 s"}}


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "0" * 63, "0" * 64 + "\n", "A" * 64])
def test_a_name_that_is_no_sha256_is_refused(errand: Errand, digest: str) -> None:
    code, answer = errand("missing", digests=[digest])
    assert (code, answer["failed"]["kind"]) == (1, "request")


@pytest.mark.parametrize("path", ["../agent.py", "/agent.py", "a/../../b", "a//b", "", "a\0b", "x" * 256])
def test_a_bundles_path_stays_in_its_folder(errand: Errand, path: str) -> None:
    files = [{"path": path, "sha256": "0" * 64}]
    code, answer = errand("bench", files=files, environment="", arguments=[])
    assert (code, answer["failed"]["kind"]) == (1, "request")


def test_what_more_than_fits_is_refused_before_it_is_taken(errand: Errand, tmp_path: Path) -> None:
    code, answer = errand("receive", files=[{"sha256": "0" * 64, "size": 1 << 60}])
    assert (code, answer["failed"]["kind"]) == (1, "full")
    assert "MiB are needed" in answer["failed"]["text"]


def test_a_relative_cache_folder_does_not_count(errand: Errand, tmp_path: Path) -> None:
    assert errand("look", packages=["no-such-package"])[1]["done"]["cache"] == str(cache(tmp_path))


def test_a_program_ends_with_its_input(errand: Errand) -> None:
    code, answer = errand("run", source="import time; time.sleep(60)", arguments=[])
    assert (code, answer["failed"]) == (1, {"kind": "cut", "text": "the host is gone"})
