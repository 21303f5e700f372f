"""Opening a bundle's artifact with its runtime, in the package and in the bundle's single file.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from edgevit.errors import BadFileError, InputError

if TYPE_CHECKING:
    from edgevit.board.contents import Bundle


def open_artifact(bundle: Bundle, threads: int | None) -> Any:
    """A session on the bundle's model. threads: the number that the bundle was made for when None."""
    runtime = bundle.manifest["runtime"]
    path = os.path.join(bundle.path, *runtime["entry"].split("/"))
    return runtime_functions(runtime["name"])["open_session"](path, thread_count(bundle, threads), runtime["session"])


def runtime_functions(name: str) -> dict[str, Any]:
    """open_session and import_runtime of a runtime, by name.

    In the bundle's single file they are its own globals, since one runtime's module stands above this one. In the
    package they are found in the table of runtimes, which is imported by name: board is a lower layer.
    """
    here = globals()
    if "open_session" not in here:
        functions: dict[str, Any] = vars(importlib.import_module("edgevit.runtimes").runtime_module(name))
        return functions
    if here["RUNTIME"] != name:
        problem = f"is '{name}', and this agent.py runs '{here['RUNTIME']}'."
        raise BadFileError("manifest.json", problem, where="runtime.name", fix="Make the bundle again.")
    return here


def thread_count(bundle: Bundle, threads: int | None) -> int:
    """The number asked for, or the one that the bundle was made for."""
    return threads if threads is not None else int(bundle.manifest["device"]["threads"])


def batch_size(input_shape: tuple[int | None, ...], asked: int | None) -> int:
    """Pictures in one inference: the artifact's own number, or `asked` where it leaves that free (1 when None).

    Raises InputError when the artifact's number is another than the one asked for.
    """
    own = input_shape[0]
    if asked is not None and own not in (None, asked):
        raise InputError(
            f"--batch {asked}: this bundle takes {own} at a time. Leave --batch out, or export it again with "
            "--dynamic-batch."
        )
    return asked or own or 1
