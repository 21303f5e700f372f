"""Engines: what TensorRT builds of a bundle's model on this board, kept until GPU, TensorRT or model change.

They stand in the user's cache, not in the bundle, whose files never change. One is written under another name and
renamed when it is complete.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgevit.board.integrity import sha256_of
from edgevit.board.trtexec import EngineRecipe, version_text
from edgevit.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.board.cuda import Gpu
    from edgevit.board.trtexec import Version

    # Builds the engine of (model, engine, timing cache), or raises EdgevitError.
    Build = Callable[[str, str, str], object]

# Entries of the manifest's runtime.session.
PRECISION_ENTRY, FLOAT32_ENTRY = "tensorrt.precision", "tensorrt.float32_layers"
ENGINE_PRECISIONS = ("fp32", "fp16", "int8")
CACHE_VARIABLE = "XDG_CACHE_HOME"
BUILD_SECONDS = 3600.0
UNFINISHED = re.compile(r"\.building-(\d+)-")
LEAST_FREE_BYTES = 64 * 1024 * 1024
# Of the model's size: the engine itself, which may hold weights in two layouts, and the timing cache.
FREE_FACTOR = 3


@dataclass(frozen=True)
class EngineKey:
    """What an engine is good for. gpu: of Gpu.key; tensorrt: its version."""

    model_sha256: str
    gpu: str
    tensorrt: str
    precision: str
    float32_layers: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]

    @property
    def file_name(self) -> str:
        gpu = re.sub(r"[^a-z0-9]+", "-", self.gpu.split(",")[0].lower()).strip("-")
        return f"{gpu}-trt{self.tensorrt}-{self.precision}-{self.digest}.engine"


@dataclass(frozen=True)
class Engine:
    """A built engine. seconds: that building took; built_by: 'trtexec 10.3.0', say. was_built: just now."""

    path: str
    key: EngineKey
    built_by: str
    seconds: float
    was_built: bool


def recipe_of(config: dict[str, str]) -> EngineRecipe:
    """How the manifest wants the engine. Raises DeviceError for a precision that this agent does not know."""
    precision = config.get(PRECISION_ENTRY, "fp32")
    if precision not in ENGINE_PRECISIONS:
        raise DeviceError(f"The bundle asks for an engine in '{precision}', which this agent does not build.")
    layers = tuple(name for name in config.get(FLOAT32_ENTRY, "").split(",") if name)
    return EngineRecipe(precision, layers)


def engine_key(model: str, gpu: Gpu, version: Version, recipe: EngineRecipe) -> EngineKey:
    return EngineKey(sha256_of(model), gpu.key, version_text(version), recipe.precision, recipe.float32_layers)


def engine_folder() -> str:
    """~/.cache/edgevit/engines, or what the environment has for ~/.cache."""
    base = os.environ.get(CACHE_VARIABLE) or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "edgevit", "engines")


def kept_engine(key: EngineKey, folder: str) -> Engine | None:
    """The engine that was built for exactly this key and is whole; None when there is none."""
    path = os.path.join(folder, key.file_name)
    try:
        with open(f"{path}.json", encoding="utf-8") as file:
            notes = json.load(file)
        is_whole = notes["key"] == _plain(key) and sha256_of(path) == notes["sha256"]
        return Engine(path, key, str(notes["built_by"]), float(notes["seconds"]), False) if is_whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ensure_engine(
    model: str, key: EngineKey, folder: str, build: Build, built_by: str, force: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:  # fmt: skip
    """The kept engine, or one that is built now. force: build it anyway.

    The timing cache is kept beside it, one for each GPU and version. Raises what `build` raises, DeviceError without
    room or without the right to write; then nothing new is left but what the timing cache learned.
    """
    kept = None if force else kept_engine(key, folder)
    if kept is not None:
        return kept
    try:
        os.makedirs(folder, exist_ok=True)
        _remove_unfinished(folder)
        _require_room(model, folder)
        path = os.path.join(folder, key.file_name)
        unfinished = os.path.join(folder, f".building-{os.getpid()}-{key.digest}")
        began = clock()
        try:
            build(model, unfinished, timing_cache(key, folder))
            if not os.path.isfile(unfinished) or os.path.getsize(unfinished) == 0:
                raise DeviceError(f"{built_by} said that it was done, and wrote no engine. Is the disk full?")
            seconds = clock() - began
            notes = {
                "key": _plain(key),
                "built_by": built_by,
                "seconds": round(seconds, 1),
                "sha256": sha256_of(unfinished),
            }
            with open(f"{unfinished}.json", "w", encoding="utf-8") as file:
                json.dump(notes, file, indent=2)
            os.replace(unfinished, path)
            os.replace(f"{unfinished}.json", f"{path}.json")
        finally:
            for left in (unfinished, f"{unfinished}.json"):
                if os.path.exists(left):
                    os.remove(left)
    except OSError as error:
        raise DeviceError(f"{folder}: the engine cannot be kept there ({error.strerror}).") from None
    return Engine(path, key, built_by, seconds, True)


def timing_cache(key: EngineKey, folder: str) -> str:
    """Kernels' timings do not depend on the model: all engines of a GPU and version share them."""
    digest = hashlib.sha256(f"{key.gpu} {key.tensorrt}".encode()).hexdigest()[:16]
    return os.path.join(folder, f"timing-{digest}.cache")


def discard_engine(engine: Engine) -> None:
    for path in (engine.path, f"{engine.path}.json"):
        if os.path.exists(path):
            os.remove(path)


def _plain(key: EngineKey) -> dict[str, Any]:
    return {**asdict(key), "float32_layers": list(key.float32_layers)}


def _require_room(model: str, folder: str) -> None:
    needed = max(LEAST_FREE_BYTES, FREE_FACTOR * os.path.getsize(model))
    free = shutil.disk_usage(folder).free
    if free < needed:
        mib = 1024 * 1024
        raise DeviceError(
            f"{folder}: {free // mib} MiB are free, and building an engine takes {needed // mib}. Make room, or set "
            f"{CACHE_VARIABLE} to a folder on another disk."
        )


def _remove_unfinished(folder: str) -> None:
    """What a build left behind that was ended without a chance to clean up."""
    for name in os.listdir(folder):
        found = UNFINISHED.match(name)
        if found and not _is_running(int(found.group(1))):
            os.remove(os.path.join(folder, name))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
