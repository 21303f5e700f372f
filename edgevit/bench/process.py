"""How a process that measures is asked, and how it answers."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgevit.errors import EdgevitError

Write = Callable[[dict[str, Any]], None]


def artifact_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Reads what interleave.artifact_words writes; a worker's own arguments are added to it."""
    parser = argparse.ArgumentParser(prog=module, description=description)
    parser.add_argument("--path", required=True, type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--config", required=True, type=json.loads, help="the runtime's entries, a JSON object")
    parser.add_argument("--shape", required=True, type=json.loads, help="N, C, H, W as a JSON list")
    return parser


def answer(serve: Callable[[Write], None], told: type[EdgevitError] = EdgevitError, key: str = "error") -> int:
    """The exit code of a process that answers by `serve`, which is given what writes one answer, a line of JSON.

    The process's own output takes answers only: whatever else is printed goes to stderr. An error of the kind `told`
    is answered in its own words under `key`, any other with its type under 'error'.
    """
    with _answers() as write:
        try:
            serve(write)
        except told as error:
            write({key: str(error)})
            return error.exit_code
        except Exception as error:  # a runtime's own: the parent reports it as this artifact's failure
            write({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
            return 1
    return 0


def last_line(text: str) -> str:
    """The last line that says something, without the word 'Error: ' before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else ""


@contextlib.contextmanager
def _answers() -> Iterator[Write]:
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def write(answer: dict[str, Any]) -> None:
            output.write(json.dumps(answer) + "\n")
            output.flush()

        yield write
