"""Finding: one thing that doctor saw, how bad it is, and the command that mends it."""

from __future__ import annotations

import re
from typing import Literal

from edgevit.schema import Record

Severity = Literal["ok", "note", "warning", "problem"]


class Finding(Record):
    """`fix`: the command or step that mends it; empty where there is nothing to mend."""

    severity: Severity
    what: str
    fix: str = ""


def ok(what: str) -> Finding:
    return Finding(severity="ok", what=what)


def note(what: str, fix: str = "") -> Finding:
    return Finding(severity="note", what=what, fix=fix)


def warning(what: str, fix: str) -> Finding:
    return Finding(severity="warning", what=what, fix=fix)


def problem(what: str, fix: str) -> Finding:
    return Finding(severity="problem", what=what, fix=fix)


def numbers(version: str) -> tuple[int, ...]:
    """(2, 13) of '2.13.0+cpu': the release, without what follows it and without zeros at its end."""
    release = re.match(r"\d+(?:\.\d+)*?(?=(?:\.0+)*(?![\d.]))", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()


def gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"
