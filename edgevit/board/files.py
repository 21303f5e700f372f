"""Small files of /proc and /sys: their text, their first line, their number; nothing where they cannot be read.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMMAND_SECONDS = 2.0


def read_text(path: Path, limit: int = 1 << 20) -> str:
    """The file's text up to `limit` bytes; '' where it cannot be read, as a thermal zone that is switched off."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def first_line(path: Path) -> str:
    return read_text(path).split("\n", 1)[0].strip("\0 ")


def read_number(path: Path) -> float | None:
    line = first_line(path)
    return float(line) if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", line) else None


def run_command(words: Sequence[str]) -> str:
    """What a program prints; an empty string when it is not there or fails.

    File descriptors are left open on purpose: Python then starts the program without a copy of this process's page
    tables, which for a process with a model in it would take longer than the program.
    """
    try:
        answer = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=COMMAND_SECONDS, check=True,
            close_fds=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode("utf-8", "replace")
