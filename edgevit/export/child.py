"""Child: a conversion in a process of its own.

Converters take up to gigabytes for minutes; a child that is killed for them takes nothing else with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgevit.errors import EdgevitError
from edgevit.interpreter import child_environment, module_command

POLL_SECONDS = 0.5
# A child says why it could not in the last line of stderr that begins so.
REASON = "edgevit: "
NO_MEMORY = "out of memory. Close other programs, or take a smaller model."


def convert_in_child(
    module: str, words: Sequence[str], path: Path, what: str, on_second: Callable[[int], None] = lambda seconds: None
) -> Path:
    """Runs `python -m MODULE WORDS… OUT`, and what it writes to OUT becomes `path`, whole or not at all.

    on_second is called with the seconds so far, about once each.
    Raises EdgevitError when it cannot convert to `what` or is killed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            command = module_command(module, [*words, str(partial)])
            child = subprocess.Popen(
                command, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
            )
            code = _wait(child, on_second)
            said.seek(0)
            lines = said.read().splitlines()
        if code or not partial.is_file():
            raise EdgevitError(f"This model cannot be converted to {what}: {_why(code, lines)}")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def end_with_parent() -> None:
    """In the child, first of all: it then ends when its parent does, however that ends.

    The parent says nothing; standard input ends with it.
    """

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def exit_code(convert: Callable[[], object]) -> int:
    """In the child: 0, or 1 once stderr has the reason in one line."""
    try:
        convert()
    except EdgevitError as error:
        reason = str(error)
    except MemoryError:
        reason = NO_MEMORY
    except Exception as error:  # converters raise about any type
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        reason = f"{type(error).__name__} {first[:250]}".rstrip(". ") + "."
    else:
        return 0
    print(f"{REASON}{reason}", file=sys.stderr)
    return 1


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
        if child.stdin:
            child.stdin.close()


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
