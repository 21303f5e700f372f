"""The program that boards run: one text of Python 3.8, run here without edgevit beside it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.remote.program import program_command, program_text

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
