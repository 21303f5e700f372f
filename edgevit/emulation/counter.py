"""Counter: qemu's plugin that counts instructions by class, compiled on first use and kept in ~/.cache/edgevit."""

from __future__ import annotations

import hashlib
import os
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

from pydantic import ValidationError

from edgevit.emulation.report import InstructionCounts
from edgevit.errors import EdgevitError, InputError
from edgevit.store import cache_folder

SOURCES = ("counter.c", "classes.h")
FLAGS = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")


def build_counter(compiler: str) -> Path:
    """The plugin for this machine. Raises InputError when the compiler fails, as it does without libc's headers."""
    texts = [files("edgevit").joinpath("emulation", name).read_bytes() for name in SOURCES]
    key = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    folder = cache_folder("emulation")
    built = folder / f"counter-{key}.so"
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".counter-{key}-{os.getpid()}.so"
    with as_file(files("edgevit").joinpath("emulation")) as room:
        words = [compiler, *FLAGS, "-o", str(partial), str(room / "counter.c")]
        ended = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = next((line for line in ended.stderr.splitlines() if "error" in line), "it does not say why")
        raise InputError(f"{compiler} cannot compile the instruction counter ({said.strip()[:200]}).")
    partial.replace(built)
    return built


def read_counts(path: Path) -> InstructionCounts:
    """What the plugin wrote. Raises EdgevitError when it wrote nothing: both marks must have been passed."""
    try:
        return InstructionCounts.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise EdgevitError("The instruction counter wrote nothing: this qemu has another plugin interface.") from None
