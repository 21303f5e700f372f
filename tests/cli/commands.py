"""Commands run in this process, as the command line starts them."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any, NamedTuple

import pytest

import edgevit.cli


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def run_here(*words: object) -> Ended:
    """`edgevit WORDS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exit_info:
        edgevit.cli.main([str(word) for word in words])
    assert isinstance(exit_info.value.code, int)
    return Ended(exit_info.value.code, out.getvalue(), err.getvalue())
