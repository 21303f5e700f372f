"""Tools: the programs of this machine that emulation needs, and how to install those that are missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from edgevit.errors import InputError

EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
COMPILER = "gcc"
INSTALL_COUNTER = "apt-get install qemu-user gcc libc6-dev"


@dataclass(frozen=True)
class Emulator:
    """A user-mode qemu for aarch64. takes_plugins: Debian's static one does not."""

    path: str
    version: str
    takes_plugins: bool


@dataclass(frozen=True)
class Tools:
    """uncounted: why instructions cannot be counted; '' if they can."""

    emulator: Emulator
    compiler: str | None
    uncounted: str


def find_tools() -> Tools:
    """What is on the PATH; of two emulators the one that counts. Raises InputError with all that is missing."""
    compiler = shutil.which(COMPILER)
    found = [_describe(path) for name in EMULATORS if (path := shutil.which(name))]
    if not found:
        missing = ["qemu-aarch64 (the emulator)", *([] if compiler else [f"{COMPILER} (for its instruction counter)"])]
        raise InputError(f"--emulate needs {' and '.join(missing)}. Install what is missing with: {INSTALL_COUNTER}")
    emulator = next((one for one in found if one.takes_plugins), found[0])
    reasons = [] if emulator.takes_plugins else [f"{emulator.path} takes no plugins"]
    reasons += [] if compiler else [f"{COMPILER} is missing"]
    uncounted = f"{' and '.join(reasons)} ({INSTALL_COUNTER})" if reasons else ""
    return Tools(emulator, compiler, uncounted)


def require_tools(names: tuple[str, ...], purpose: str) -> None:
    """Raises InputError with all of `names` that are missing; they are called as Debian's packages are."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise InputError(f"{purpose} needs {', '.join(missing)}, which Debian and its descendants have.")


def known_cpus(emulator: Emulator) -> tuple[str, ...]:
    """The CPUs that it emulates, by the names that its -cpu takes."""
    return tuple(sorted(set(re.findall(r"^\s+(\S+)$", _said(emulator.path, "-cpu", "help"), re.MULTILINE))))


def _describe(path: str) -> Emulator:
    version = re.search(r"version (\d+(?:\.\d+)+)", _said(path, "--version"))
    return Emulator(path, version[1] if version else "unknown", "-plugin" in _said(path, "--help"))


def _said(*words: str) -> str:
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    return ended.stdout
