"""Finding a named dataset on this machine, and fetching it when it is not there: never without saying so."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.errors import InputError, MissingExtraError

Notify = Callable[[str], None]

_BEANS_URL = "https://storage.googleapis.com/ibeans/{}.zip"


@dataclass(frozen=True)
class Origin:
    """`folder`: the dataset's place under a data root. `marks`: what must lie in it. `download_mb`: roughly.

    torchvision: the class that fetches it; empty for beans, which torchvision does not know.
    """

    folder: str
    marks: tuple[str, ...]
    download_mb: int
    torchvision: str


def data_roots() -> list[Path]:
    """Where datasets are looked for, in this order; downloads go to the first."""
    home = Path.home()
    own = os.environ.get("EDGEVIT_DATA") or home / ".cache" / "edgevit" / "data"
    torch_home = Path(os.environ.get("TORCH_HOME") or home / ".cache" / "torch")
    return [Path(own).expanduser(), torch_home, torch_home / "datasets", Path("/usr/share/datasets")]


def find_or_fetch(name: str, origin: Origin, offline: bool, notify: Notify) -> Path:
    """The folder of dataset `name`. Fetches it when it is nowhere and `offline` is False, after saying so.

    A fetch that fails or is interrupted leaves nothing behind. Raises InputError naming where to put the dataset.
    """
    roots = data_roots()
    for root in roots:
        for folder in (root / origin.folder, root / name):
            if all((folder / mark).exists() or (folder / f"{mark}.gz").exists() for mark in origin.marks):
                return folder
    target = roots[0] / origin.folder
    way_out = f"Put it into {target}, or set EDGEVIT_DATA to the folder that holds '{Path(origin.folder).parts[0]}'."
    if offline:
        raise InputError(f"Dataset '{name}' is not on this machine, and --offline forbids to download it. {way_out}")
    notify(f"Downloading dataset '{name}' (about {origin.download_mb} MB) to {target}")
    try:
        with _staging(roots[0]) as staging:
            _fetch_beans(staging) if name == "beans" else _fetch_with_torchvision(origin, staging)
            _move_into_place(staging / origin.folder, target)
    except MissingExtraError:
        raise
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # URLError is an OSError; torchvision's: RuntimeError
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"Dataset '{name}' could not be downloaded ({reason}). {way_out}") from error
    return target


def torchvision_datasets() -> Any:
    """The module torchvision.datasets. Raises MissingExtraError without torchvision."""
    from edgevit.models.torchvision_ops import import_timm

    import_timm()  # makes torchvision import beside a torch that it was not built for
    return importlib.import_module("torchvision.datasets")


def _fetch_with_torchvision(origin: Origin, staging: Path) -> None:
    getattr(torchvision_datasets(), origin.torchvision)(str(staging), download=True)


def _fetch_beans(staging: Path) -> None:
    for part in ("train", "validation", "test"):
        archive = staging / f"{part}.zip"
        with urllib.request.urlopen(_BEANS_URL.format(part), timeout=60) as response, archive.open("wb") as file:
            shutil.copyfileobj(response, file)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(staging / "beans")  # drops '..' and absolute paths itself


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".downloading-", dir=root) as folder:
        yield Path(folder)


def _move_into_place(source: Path, target: Path) -> None:
    if target.exists():  # an incomplete one: without its marks it was not found
        raise OSError(f"{target} exists and is incomplete; remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
