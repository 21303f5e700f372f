"""Every error that a user can mend, and the exit code that it ends the command with.

EdgevitError                1  the work failed
├── InputError              2  bad input or usage
│   ├── UnknownNameError       a name that is in no list, with the nearest one
│   ├── BadFileError           a file that cannot be used: path, place in it, problem
│   ├── MissingExtraError      a package that the light install does not bring
│   └── ShapeMismatchError     arrays that do not belong together
├── BudgetError             3  no artifact meets the limits asked for
├── ParityError             4  an artifact does not say what its source says
├── DeviceError             5  a device is unreachable or unfit
└── MeasurementError        6  a measurement that may not be used

Standard library only: this file is also a part of the bundle's agent.py (Python 3.8 and later).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgevitError(Exception):
    """What is wrong, where, and what to do next, in one line."""

    exit_code = 1


class InputError(EdgevitError):
    exit_code = 2


class UnknownNameError(InputError):
    """`kind` is what was named ('device'), `listing` the command that lists the `known` ones; `also`: their aliases."""

    def __init__(self, kind: str, name: str, known: Iterable[str], listing: str, also: Iterable[str] = ()) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(name, [*names, *also], n=1)
        suggestion = f" Did you mean '{nearest[0]}'?" if nearest else ""
        super().__init__(f"Unknown {kind} '{name}'.{suggestion} Run '{listing}' to see all {len(names)}.")


class BadFileError(InputError):
    """`where` is a key or a line inside the file; `fix` is what to do next."""

    def __init__(self, path: object, problem: str, where: str = "", fix: str = "") -> None:
        place = f"{path}: {where}" if where else str(path)
        super().__init__(f"{place}: {problem}" + (f" {fix}" if fix else ""))


class MissingExtraError(InputError):
    """`fix` stands in for the usual command where another one fits better, as on a board."""

    def __init__(self, package: str, extra: str, fix: str = "") -> None:
        command = fix or f"pip install 'edgevit[{extra}]'"
        super().__init__(f"This needs the package '{package}'. Install it with: {command}")


class ShapeMismatchError(InputError):
    pass


class BudgetError(EdgevitError):
    exit_code = 3


class ParityError(EdgevitError):
    exit_code = 4


class DeviceError(EdgevitError):
    exit_code = 5


class MeasurementError(EdgevitError):
    exit_code = 6


def error_by_code(exit_code: int, words: str) -> EdgevitError | None:
    """What a process of ours that ended with this code raised, in those words; None where code or words say nothing."""
    for kind in (InputError, ParityError, DeviceError, MeasurementError):
        if kind.exit_code == exit_code and words:
            return kind(words)
    return None
