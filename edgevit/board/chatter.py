"""Chatter: what a library's C++ code tells stderr of every file that it opens, which is no concern of the user's."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDERR_LOCK = threading.Lock()


@contextlib.contextmanager
def without_chatter(pattern: str) -> Iterator[list[str]]:
    """Keeps from stderr the lines that begin as the pattern says; all else that is said there stays.

    The list that it gives holds these lines once the block is left.
    """
    kept_back: list[str] = []
    with _STDERR_LOCK, tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            # pybind11 passes C++'s stderr on to Python's, which need not be file 2
            with open(os.dup(2), "w") as text, contextlib.redirect_stderr(text):
                yield kept_back
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said.read().splitlines(True):
                words = line.decode(errors="replace")
                if re.match(pattern, words):
                    kept_back.append(words.strip())
                else:
                    os.write(2, line)
