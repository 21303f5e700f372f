"""Starting this agent anew in a process of its own, and reading what it says.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from edgevit.errors import EdgevitError, MeasurementError, error_by_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROGRESS_PREFIX = "progress: "
AGENT_MODULE = "edgevit.board.agent"


def agent_words() -> list[str]:
    """The words that start this agent with this Python, as this one was started."""
    flags = sys.flags
    switches = ["-I"] if flags.isolated else ["-s"] * flags.no_user_site + ["-S"] * flags.no_site
    module = AGENT_MODULE  # in the bundle's single file there is no such module, and this file is the agent
    is_package = __name__ == AGENT_MODULE.rpartition(".")[0] + ".child"
    return [sys.executable, *switches, *(["-m", module] if is_package else [os.path.abspath(__file__)])]


def run_agent_again(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """The document that this agent writes with these arguments, in a process of its own that ends with this one's wait.

    on_progress: is told 'DONE TOTAL what' of each of its steps. A measurement that it calls invalid is a document, too.
    Raises the error that it ended with, EdgevitError when it crashed or wrote no document.
    """
    said: list[str] = []
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*agent_words(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        assert process.stderr is not None
        try:
            for line in process.stderr:
                text = line.decode("utf-8", "replace").strip()
                if text.startswith(PROGRESS_PREFIX):
                    if on_progress is not None:
                        on_progress(text[len(PROGRESS_PREFIX) :])
                elif text:
                    said.append(text)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
        output.seek(0)
        written = output.read()
    if code not in (0, MeasurementError.exit_code) or not written:
        raise _child_error(code, said[-1] if said else "")
    document: dict[str, Any] = json.loads(written.decode("utf-8"))
    return document


def _child_error(code: int, said: str) -> EdgevitError:
    text = said[len("Error: ") :] if said.startswith("Error: ") else said
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    other = f"A process that was started to measure {how} ({text or 'no word'})."
    return error_by_code(code, text) or EdgevitError(other)
