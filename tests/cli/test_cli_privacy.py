"""No telemetry: ONNX Runtime, which reports its use from 1.29 on, neither identifies this machine nor keeps events."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

IMPORT_BARE = ["-c", "import onnxruntime"]
PREDICT = ["-m", "edgevit", "predict", "pictures/cats/0.png", "--bundle", "bundle"]
BENCH = ["-m", "edgevit", "bench", "bundle", "--min-seconds", "0"]
SELF_CHECK = ["bundle/agent.py", "selfcheck"]


def left_behind(words: list[str], workplace: Path, home: Path) -> list[str]:
    """Files that `python WORDS` leaves in a user's home and in the folder for temporary files."""
    homes = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    silenced = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")  # each would hide what this looks for
    environment = {key: value for key, value in os.environ.items() if key not in silenced}
    subprocess.run(
        [sys.executable, *words], cwd=workplace, env={**environment, **homes}, check=True, capture_output=True
    )
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("words", [PREDICT, BENCH, SELF_CHECK], ids=["predict", "bench", "agent"])
def test_nothing_is_kept_to_be_reported(workplace, tmp_path, words):
    assert left_behind(words, workplace, tmp_path) == []


def test_the_bare_runtime_does_keep_something(workplace, tmp_path):
    if not left_behind(IMPORT_BARE, workplace, tmp_path):
        pytest.skip("this version of ONNX Runtime reports nothing by itself")
