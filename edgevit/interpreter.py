"""This interpreter once more: how a module of edgevit is started in a fresh process."""

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
