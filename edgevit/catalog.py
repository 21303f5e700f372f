"""Finds the recipes and device profiles that come with edgevit, by name, and those of the user, by path.

They lie in `recipes/` and `devices/` beside the package in a checkout (an editable install is one), and in
`edgevit/_catalog/` in an installed wheel.
"""

from __future__ import annotations

from pathlib import Path

from edgevit.device import Device
from edgevit.errors import BadFileError, EdgevitError, UnknownNameError
from edgevit.machine.localdevice import LOCAL, local_device
from edgevit.recipe import Recipe
from edgevit.yamlfile import read_yaml

PACKAGE = Path(__file__).resolve().parent
SUFFIXES = (".yaml", ".yml")


def list_devices() -> tuple[str, ...]:
    """Names of all device profiles, 'local' last."""
    return (*_names("devices"), LOCAL)


def load_device(name: str) -> Device:
    """The profile of that name, of the file at that path, or of this machine for 'local'.

    Raises UnknownNameError, BadFileError; DeviceError where 'local' is asked for and cannot be a target.
    """
    if name == LOCAL:
        return local_device()
    if _is_path(name):
        return read_yaml(Path(name), Device)
    if name not in _names("devices"):
        raise UnknownNameError("device", name, list_devices(), "edgevit devices")
    return read_yaml(_folder("devices") / f"{name}.yaml", Device)


def list_recipes() -> tuple[str, ...]:
    """Names of all recipes that come with edgevit."""
    return _names("recipes")


def find_recipe(name: str) -> Path:
    """Path of the recipe of that name, or the path itself when it is one. Raises UnknownNameError, BadFileError."""
    known = list_recipes()
    if _is_path(name):
        path = Path(name)
        if not path.exists() and path.stem in known:
            fix = f"Did you mean the recipe '{path.stem}' that comes with edgevit?"
            raise BadFileError(path, "no such file.", fix=fix)
        return path
    if name not in known:
        raise UnknownNameError("recipe", name, known, "edgevit recipes")
    return _folder("recipes") / f"{name}.yaml"


def load_recipe(name: str) -> Recipe:
    """The recipe of that name or path, validated. Raises UnknownNameError, BadFileError."""
    return read_yaml(find_recipe(name), Recipe)


def latencies_folder() -> Path:
    """Where the published latencies lie that predictions are calibrated on."""
    return _folder("devices") / "latencies"


def _is_path(name: str) -> bool:
    return name.endswith(SUFFIXES) or "/" in name or "\\" in name


def _names(kind: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _folder(kind).glob("*.yaml")))


def _folder(kind: str) -> Path:
    for parent in (PACKAGE / "_catalog", PACKAGE.parent):
        if (parent / kind).is_dir():
            return parent / kind
    raise EdgevitError(f"The folder '{kind}' is missing from this installation of edgevit. Reinstall it with pip.")
