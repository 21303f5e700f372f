"""LiteRT: an fp32 ONNX graph as a .tflite file, converted in a child process.

litert-torch takes up to gigabytes for a minute; a child that is killed for them takes nothing else with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from edgevit.errors import EdgevitError, MissingExtraError
from edgevit.export.litert_child import REASON

CHILD = "edgevit.export.litert_child"
PACKAGE = "litert_torch"
POLL_SECONDS = 0.5


def export_litert(graph: Path, path: Path, on_second: Callable[[int], None] = lambda seconds: None) -> Path:
    """Writes the graph of an .onnx file, whole or not at all. It takes (1, H, W, C), of the graph's type.

    on_second is called with the seconds so far, about once each.
    Raises MissingExtraError without litert-torch, EdgevitError when the graph cannot be converted or when the child is
    killed.
    """
    if find_spec(PACKAGE) is None:
        raise MissingExtraError(PACKAGE, "litert")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            command = [sys.executable, "-m", CHILD, str(graph), str(partial)]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            code = _wait(child, on_second)
            said.seek(0)
            lines = said.read().splitlines()
        if code or not partial.is_file():
            raise EdgevitError(f"This model cannot be converted to LiteRT: {_why(code, lines)}")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _wait(child: subprocess.Popen[bytes], on_second: Callable[[int], None]) -> int:
    """The child's exit code; it does not outlive an exception of ours, such as Ctrl-C."""
    began = time.monotonic()
    try:
        while True:
            try:
                return child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                on_second(int(time.monotonic() - began))
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _why(code: int, lines: list[str]) -> str:
    reasons = [line.removeprefix(REASON) for line in lines if line.startswith(REASON)]
    if reasons:
        return reasons[-1]
    if code == -signal.SIGKILL:
        return "its process was killed, most likely for want of memory. Close other programs, or take a smaller model."
    if code < 0:
        return f"its process ended by {signal.Signals(-code).name}."
    last = next((line.strip() for line in reversed(lines) if line.strip()), f"its process ended with code {code}")
    return last[:300]
