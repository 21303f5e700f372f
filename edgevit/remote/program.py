"""Program: the text of what is sent to a board, made of edgevit's onboard modules, one after the other."""

from __future__ import annotations

import ast
import functools
import shlex
from importlib.resources import files

from edgevit.board.amalgamate import take_apart

MODULES = ("remote.onboard_store", "remote.onboard_run", "remote.onboard")
NO_PYTHON, OLD_PYTHON = 37, 38
NEWEST_MINOR, OLDEST_MINOR = 15, 8
# Reads the program's text from its input and runs it; what follows there is the request.
LOADER = "import sys;exec(compile(sys.stdin.buffer.read(%d),'edgevit','exec'))"
# Runs the loader, or where this Python is too old for the program hands it to the shell's search. Any Python reads it.
CHECK = (
    "import os,sys;v=sys.version_info;v<(3,8)and os.execvp('sh',['sh','-c',sys.argv[2],sys.argv[1],'%d.%d.%d'%v[:3]]);"
    "exec(sys.argv[1])"
)
# JetPack 4 has Python 3.6, and a newer one beside it once it is installed. $0: the loader; $1: the old one's version.
SEARCH = (
    'PATH="$PATH:$HOME/.local/bin"; '
    f"for v in {' '.join(map(str, range(NEWEST_MINOR, OLDEST_MINOR - 1, -1)))}; do "
    'if p=$(command -v "python3.$v"); then exec "$p" -c "$0"; fi; done; '
    f'echo "Python $1" >&2; exit {OLD_PYTHON}'
)


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

    Where that Python is older than 3.8, the newest python3.N beside it runs the program instead. It ends with 37 where
    there is no such Python, with 38 and 'Python 3.6.9' on stderr where there is an old one only.
    """
    name = shlex.quote(python)
    words = " ".join(map(shlex.quote, (CHECK, LOADER % length, SEARCH)))
    script = f"command -v {name} >/dev/null 2>&1 || exit {NO_PYTHON}; exec {name} -c {words}"
    return f"exec sh -c {shlex.quote(script)}"


def _source(name: str) -> str:
    *rooms, module = name.split(".")
    return files("edgevit").joinpath(*rooms, f"{module}.py").read_text(encoding="utf-8")
