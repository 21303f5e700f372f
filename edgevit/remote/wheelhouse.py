"""Wheelhouse: the wheels that a board needs, found on this machine by its pip, for the board's Python and glibc.

Nothing is installed here. The board unpacks them itself, so that it needs no pip, no venv and no network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.errors import DeviceError, EdgevitError, InputError
from edgevit.remote.complaints import quoted
from edgevit.store import cache_folder, publish

LIMIT_S = 1800.0
# The first manylinux levels of glibc 2.17, and those before that have names of their own.
# Source: PEP 600 (manylinux_x_y), PEP 599 (manylinux2014), PEP 571 (manylinux2010), PEP 513 (manylinux1).
OLDEST_MINOR = 5
NAMED_LEVELS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OFFLINE_WORDS = re.compile(r"Failed to establish|Temporary failure|NewConnectionError|timed out|ProxyError|SSLError")

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class WheelTarget:
    """Whose wheels: python '3.11', arch as profiles spell it, glibc '2.36'."""

    python: str
    arch: str
    glibc: str

    def __str__(self) -> str:
        return f"Python {self.python} with glibc {self.glibc} on {self.arch}"


def find_wheels(
    requirements: Sequence[str],
    target: WheelTarget,
    folder: Path | None = None,
    *,
    offline: bool = False,
    note: Callable[[str], None] = lambda text: None,
    run: Run | None = None,
) -> tuple[Path, ...]:
    """Wheels of `requirements` and of what those need, by name; pip chooses.

    folder: the only place to look in; when None the package index, once: after that they are kept in ~/.cache/edgevit.
    Raises DeviceError when there is no wheel for such a board, InputError when pip or the folder is missing, or for a
    download that is needed offline.
    """
    run = run or _run
    if folder is not None:
        if not any(folder.glob("*.whl")):
            raise InputError(f"{folder}: holds no wheels. Fill it with: {_by_hand(requirements, target, folder)}")
        kept = _keep(requirements, target, f"{folder.resolve()}:{_listing(folder)}")
        return _fetched(kept, requirements, target, ["--no-index", "--find-links", str(folder)], str(folder), run)
    kept = _keep(requirements, target, "index")
    if not kept.exists():
        if offline:
            fix = f"Go online once, or pass --wheels DIR filled with: {_by_hand(requirements, target, Path('DIR'))}"
            raise InputError(f"The wheels for {target} are not here, and --offline forbids to download them. {fix}")
        note(f"Downloading wheels for {target}: {', '.join(requirements)}")
    return _fetched(kept, requirements, target, [], "the package index", run)


def platform_tags(target: WheelTarget) -> tuple[str, ...]:
    """Tags of wheels that run there, the newest first."""
    minor = int(target.glibc.split(".")[1])
    tags = []
    for level in range(minor, OLDEST_MINOR - 1, -1):
        tags.append(f"manylinux_2_{level}_{target.arch}")
        tags += [f"{NAMED_LEVELS[level]}_{target.arch}"] if level in NAMED_LEVELS else []
    return (*tags, f"linux_{target.arch}")


def _fetched(
    kept: Path, requirements: Sequence[str], target: WheelTarget, source: Sequence[str], place: str, run: Run
) -> tuple[Path, ...]:
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=kept.parent, ignore_cleanup_errors=True) as partial:
            whole = Path(partial) / "wheels"
            ended = run([*_download_words(target, whole), *source, *requirements])
            if ended.returncode != 0:
                raise _refusal(ended.stderr, requirements, target, place)
            try:
                publish(whole, kept)
            except InputError:  # another process was faster
                shutil.rmtree(whole, ignore_errors=True)
    return tuple(sorted(kept.glob("*.whl")))


def _download_words(target: WheelTarget, folder: Path) -> list[str]:
    short = target.python.replace(".", "")
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    words += ["--dest", str(folder), "--only-binary=:all:", "--implementation", "cp", "--python-version", target.python]
    for tag in platform_tags(target):
        words += ["--platform", tag]
    for abi in (f"cp{short}", "abi3", "none"):
        words += ["--abi", abi]
    return words


def _refusal(said: str, requirements: Sequence[str], target: WheelTarget, place: str) -> EdgevitError:
    wanted = re.search(r"No matching distribution found for ([^\s(]+)", said)
    if "No module named pip" in said:
        return InputError("This needs pip on this machine. Install it with: python3 -m ensurepip --upgrade")
    if _OFFLINE_WORDS.search(said):
        fix = "Go online once, or pass --wheels DIR for a board without a network."
        return InputError(f"The wheels for {target} cannot be downloaded. {fix}")
    if wanted:
        return DeviceError(f"{place} has no wheel of {quoted(wanted[1])} for {target}. Nothing was copied.")
    return DeviceError(f"pip finds no wheels for {target} in {place}: {quoted(said) or 'it does not say why'}.")


def _by_hand(requirements: Sequence[str], target: WheelTarget, folder: Path) -> str:
    first = platform_tags(target)[0]
    return (
        f"pip download -d {folder} --only-binary=:all: --python-version {target.python} --platform {first} "
        f"{' '.join(requirements)}"
    )


def _keep(requirements: Sequence[str], target: WheelTarget, source: str) -> Path:
    key = hashlib.sha256("\n".join([*requirements, str(target), source]).encode()).hexdigest()[:32]
    return cache_folder("wheels", key)


def _listing(folder: Path) -> str:
    found = ((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("*.whl"))
    return repr(sorted(found))


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT_S
    )
