"""How a module of edgevit is started in a fresh process: the same interpreter, the same edgevit, nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.resources import files


def module_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The words that run a module of edgevit with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """This process's environment, such that a child imports this edgevit and nothing from the working directory."""
    root = os.path.dirname(str(files("edgevit")))
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *others]), "PYTHONSAFEPATH": "1"}


def last_line(text: str) -> str:
    """The last line that says something, without the word 'Error: ' before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""
