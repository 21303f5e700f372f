"""Program: the text of what is sent to a board, made of edgevit's onboard modules, one after the other."""

from __future__ import annotations

import ast
import functools
import shlex
from importlib.resources import files

from edgevit.board.amalgamate import take_apart

MODULES = ("remote.onboard_store", "remote.onboard_run", "remote.onboard")
# Reads the program's text from its input and runs it; what follows there is the request.
LOADER = "import sys;sys.version_info<(3,8)and sys.exit(38);exec(compile(sys.stdin.buffer.read(%d),'edgevit','exec'))"
NO_PYTHON, OLD_PYTHON = 37, 38


@functools.cache
def program_text() -> bytes:
    """Valid Python 3.8 that needs the standard library only."""
    parts = [take_apart(name, _source(name)) for name in MODULES]
    imports = sorted({line for part in parts for line in (*part.imports, *part.typing_only)})
    text = "from __future__ import annotations\n" + "\n".join(imports) + "\n\n"
    text += "\n\n".join(part.body for part in parts) + "\n"
    ast.parse(text, feature_version=(3, 8))
    return text.encode()


def program_command(length: int, python: str = "python3") -> str:
    """The shell command that runs a program of `length` bytes, whatever the login shell is.

    It ends with 37 where there is no such Python, with 38 where that is older than 3.8.
    """
    name = shlex.quote(python)
    script = f"command -v {name} >/dev/null 2>&1 || exit {NO_PYTHON}; exec {name} -c {shlex.quote(LOADER % length)}"
    return f"exec sh -c {shlex.quote(script)}"


def _source(name: str) -> str:
    *rooms, module = name.split(".")
    return files("edgevit").joinpath(*rooms, f"{module}.py").read_text(encoding="utf-8")
