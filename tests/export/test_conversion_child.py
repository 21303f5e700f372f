"""A conversion in a process of its own: what it may import, and that it ends when its parent does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgevit.errors import EdgevitError
from edgevit.export.child import convert_in_child
from edgevit.interpreter import child_environment

WAITING = """
import os, pathlib, sys, time
from edgevit.export.child import end_with_parent, exit_code

def convert():
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)

end_with_parent()
sys.exit(exit_code(convert))
"""
IMPORTING = """
import sys
from edgevit.export.child import exit_code

def convert():
    import trap

sys.exit(exit_code(convert))
"""
PARENT = """
import sys
from pathlib import Path
from edgevit.export.child import convert_in_child
convert_in_child("waiting_child", [sys.argv[1]], Path("out"), "it")
"""


def wait_until(is_so: Callable[[], object], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.05)
    return False


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waiting_child.py").write_text(WAITING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(said)], cwd=tmp_path, env=child_environment())
    try:
        assert wait_until(lambda: said.exists() and said.read_text())
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    pid = int(said.read_text())
    assert wait_until(lambda: not psutil.pid_exists(pid))


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules, here = tmp_path / "modules", tmp_path / "here"
    modules.mkdir()
    here.mkdir()
    (modules / "importing_child.py").write_text(IMPORTING)
    (here / "trap.py").write_text("raise SystemExit('HIJACKED')")
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.chdir(here)
    with pytest.raises(EdgevitError, match=r"converted to it: ModuleNotFoundError No module named 'trap'\.$"):
        convert_in_child("importing_child", [], here / "out", "it")
    assert [path.name for path in here.iterdir()] == ["trap.py"]
