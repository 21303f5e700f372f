"""Environment: the Python packages that the agent needs on a board, and where they come from. Decided before a copy."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgevit.artifact import BundleFile
from edgevit.board.linux import machine_arch
from edgevit.bundle import REQUIREMENTS, Bundle
from edgevit.errors import BadFileError, DeviceError
from edgevit.machine.wheels import RUNTIME_PACKAGES, WITH_THE_SYSTEM, board_requirement, board_requirements
from edgevit.remote.errands import BoardFacts, Content
from edgevit.remote.wheelhouse import WheelTarget, find_wheels
from edgevit.store import sha256_file

NUMPY = "numpy"
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(==(?P<version>[A-Za-z0-9.+!_-]+))?"
    r"(\s*;\s*python_version\s*==\s*[\"'](?P<python>\d+\.\d+)[\"'])?"
)


@dataclass(frozen=True)
class WheelSource:
    """folder: `--wheels`, the only place to look in. offline: nothing is downloaded."""

    folder: Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class Plan:
    """wheels: to be unpacked on the board; () when its own packages serve. notes: what readers of figures must know."""

    wheels: tuple[Content, ...] = ()
    key: str = ""
    imports: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_environment(
    facts: BoardFacts, bundle: Bundle, source: WheelSource, note: Callable[[str], None] = lambda text: None
) -> Plan:
    """The board's own packages where the runtime is the one that the bundle pins, else wheels.

    Where no wheel exists for the board, its own runtime serves in another version, and a note says so.
    Raises DeviceError when neither is there, with the wheels that exist; nothing was copied by then.
    """
    runtime = bundle.manifest.runtime.name
    if runtime in WITH_THE_SYSTEM:  # whether it is there, the agent says
        if NUMPY not in facts.packages:
            raise DeviceError("Its Python has no numpy. Install it there: sudo apt install python3-numpy")
        return Plan()
    package = RUNTIME_PACKAGES.get(runtime, runtime)
    python = ".".join(facts.python.split(".")[:2])
    arch = machine_arch(facts.machine)
    own = facts.packages.get(package)
    has_own = own is not None and NUMPY in facts.packages
    try:
        pins = read_requirements(bundle.path / REQUIREMENTS, python)
        if not pins:
            pins = board_requirements(runtime, [python], facts.glibc or "0.0", arch)
        pinned = next((pin.partition("==")[2] for pin in pins if pin.partition("==")[0] == package), "")
        if has_own and own is not None and pinned in ("", own):
            return Plan()
        if facts.glibc is None or facts.implementation != "CPython":
            what = "its C library is not glibc" if facts.glibc is None else f"its Python is {facts.implementation}"
            raise DeviceError(f"There are no wheels for this board: {what}. Install {package} and numpy there.")
        if source.folder is None:
            board_requirement(runtime, python, facts.glibc, arch)  # says which boards have wheels
        found = find_wheels(
            pins, WheelTarget(python, arch, facts.glibc), source.folder, offline=source.offline, note=note
        )
    except DeviceError as error:
        if not has_own or source.folder is not None:
            raise
        return Plan(notes=(f"The board's own {package} {own} was used: {str(error).rstrip('.')}.",))
    wheels = tuple(_content(path) for path in found)
    listed = [python, arch, facts.glibc, sorted(wheel.file.sha256 for wheel in wheels)]
    key = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]
    return Plan(wheels, key, (NUMPY, package))


def read_requirements(path: Path, python: str) -> tuple[str, ...]:
    """Lines of a bundle's requirements.txt for a Python such as '3.11', without their markers; none when it has none.

    Only names with pinned versions and python_version markers are read: what edgevit writes, and nothing that would
    make pip fetch from elsewhere. Raises BadFileError for other lines.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(path, f"cannot be read ({error}).") from None
    pins = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        found = _LINE.fullmatch(text)
        if text and not found:
            problem = "is no line that edgevit writes (NAME==VERSION)."
            raise BadFileError(path, problem, f"line {number}", "Export the bundle again.")
        if found and found["python"] in (None, python):
            pins.append(found["name"] + (f"=={found['version']}" if found["version"] else ""))
    return tuple(pins)


def _content(path: Path) -> Content:
    return Content(path, BundleFile(sha256=sha256_file(path), size=path.stat().st_size))
