"""Opening a bundle's artifact with its runtime, in the package and in the bundle's single file.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from edgevit.board.child import PROGRESS_PREFIX
from edgevit.errors import BadFileError, InputError

if TYPE_CHECKING:
    from edgevit.board.contents import Bundle


def open_artifact(bundle: Bundle, threads: int | None) -> Any:
    """A session on the bundle's model. threads: the number that the bundle was made for when None."""
    runtime = bundle.manifest["runtime"]
    path = os.path.join(bundle.path, *runtime["entry"].split("/"))
    return runtime_functions(runtime["name"])["open_session"](path, thread_count(bundle, threads), runtime["session"])


def prepare_artifact(bundle: Bundle, force: bool = False, timeout_s: float | None = None) -> Any:
    """What has to be made of the artifact on this machine before it runs, TensorRT's engine; progress goes to stderr.

    None for a runtime that needs no such thing. force: make it anew. Raises DeviceError, EdgevitError.
    """
    runtime = bundle.manifest["runtime"]
    prepare = runtime_functions(runtime["name"]).get("prepare")
    if prepare is None:
        return None
    path = os.path.join(bundle.path, *runtime["entry"].split("/"))
    how = {} if timeout_s is None else {"timeout_s": timeout_s}
    try:
        return prepare(path, runtime["session"], force=force, tell=_tell_of_build, **how)
    finally:
        if _is_watched():
            sys.stderr.write("\r\x1b[K")


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


def _tell_of_build(seconds: float, limit_s: float) -> None:
    if os.environ.get("EDGEVIT_PROGRESS") == "1":
        print(f"{PROGRESS_PREFIX}{int(seconds)} {int(limit_s)} s of building the engine", file=sys.stderr, flush=True)
    elif _is_watched():
        sys.stderr.write(f"\rBuilding the engine for this board, once: {seconds:.0f} s")
        sys.stderr.flush()


def _is_watched() -> bool:
    return sys.stderr.isatty() and os.environ.get("EDGEVIT_PROGRESS") != "1"
