"""Asking a Jetson's tegrastats for one line: the module's power where its power monitor's files cannot be read.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

from edgevit.board.jetson import module_watts, parse_tegrastats

if TYPE_CHECKING:
    from collections.abc import Sequence

# tegrastats prints a line every so many milliseconds until it is stopped. Source: Jetson Linux Developer Guide,
# "tegrastats Utility".
TEGRASTATS = ("tegrastats", "--interval", "100")
LINE_SECONDS = 2.0
LINE_MAX_BYTES = 8192


def tegrastats_watts(words: Sequence[str] = TEGRASTATS, limit_s: float = LINE_SECONDS) -> float | None:
    """Watts of the module by one line of the program; None where there is no program, no line in time, or no rail of
    the whole module in it. The program has ended when this returns.
    """
    found = parse_tegrastats(_first_line(words, limit_s))
    return None if found is None else module_watts(found["rails_w"])


def _first_line(words: Sequence[str], limit_s: float) -> str:
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=False
        )
    except OSError:
        return ""
    assert process.stdout is not None
    number, line, deadline = process.stdout.fileno(), b"", time.monotonic() + limit_s
    try:
        while b"\n" not in line and len(line) < LINE_MAX_BYTES:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([number], [], [], left_s)[0]:
                return ""
            piece = os.read(number, LINE_MAX_BYTES)
            if not piece:
                break
            line += piece
    finally:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        process.stdout.close()
    return line.split(b"\n")[0].decode("utf-8", "replace")
