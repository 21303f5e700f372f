"""Chatter: which lines of stderr are kept back, whoever writes them."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest

from edgevit.board.chatter import without_chatter


def test_lines_that_begin_so_are_kept_back_and_all_others_stay(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter("INFO: |WARN: ") as kept_back:
        os.write(2, b"INFO: by its number\nan error INFO: \n")
        print("WARN: by its name", file=sys.stderr)
        print("another", file=sys.stderr)
    print("INFO: later", file=sys.stderr)
    assert kept_back == ["INFO: by its number", "WARN: by its name"]
    assert capfd.readouterr().err == "an error INFO: \nanother\nINFO: later\n"


def test_an_exception_goes_on_and_stderr_is_back(capfd: pytest.CaptureFixture[str]) -> None:
    stderr = sys.stderr
    with contextlib.suppress(ValueError), without_chatter("INFO"):
        os.write(2, b"why\n")
        raise ValueError
    assert sys.stderr is stderr
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "why\nafter\n"
