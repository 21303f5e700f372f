"""How a module of edgevit is started in a fresh process, the same interpreter and nothing else, and how it answers."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

Write = Callable[[dict[str, Any]], None]


def module_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The words that run a module of edgevit with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """This process's environment, such that a child imports this edgevit and nothing from the working directory."""
    root = os.path.dirname(str(files("edgevit")))
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *others]), "PYTHONSAFEPATH": "1"}


@contextlib.contextmanager
def answers() -> Iterator[Write]:
    """Writes JSON lines to this process's own output, which takes nothing else: whatever is printed goes to stderr."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def write(answer: dict[str, Any]) -> None:
            output.write(json.dumps(answer) + "\n")
            output.flush()

        yield write


def last_line(text: str) -> str:
    """The last line that says something, without the word 'Error: ' before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""
