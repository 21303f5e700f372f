"""Packages: numpy, the runtime and what they need for the emulated board, unpacked from the wheels of its own kind."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

from edgevit.bundle import REQUIREMENTS, Bundle
from edgevit.emulation.sysroot import Sysroot
from edgevit.errors import InputError
from edgevit.machine.wheels import board_requirements
from edgevit.remote.environment import WheelSource, read_requirements
from edgevit.remote.wheelhouse import WheelTarget, find_wheels
from edgevit.store import cache_folder, new_directory, sha256_file

ARCH = "aarch64"


def make_packages(
    bundle: Bundle, sysroot: Sysroot, source: WheelSource, note: Callable[[str], None] = lambda text: None
) -> Path:
    """A folder for PYTHONPATH with what the bundle pins, or the wheels that there are for the sysroot's Python.

    Unpacked once for each set of wheels, which their contents name. Raises as find_wheels does, and InputError for a
    damaged wheel.
    """
    pins = read_requirements(bundle.path / REQUIREMENTS, sysroot.python)
    pins = pins or board_requirements(bundle.manifest.runtime.name, [sysroot.python], sysroot.glibc, ARCH)
    target = WheelTarget(sysroot.python, ARCH, sysroot.glibc)
    wheels = find_wheels(pins, target, source.folder, offline=source.offline, note=note)
    listed = "\n".join(sorted(f"{path.name} {sha256_file(path)}" for path in wheels))
    site = cache_folder("emulation", f"packages-{hashlib.sha256(listed.encode()).hexdigest()[:32]}")
    if site.exists():
        return site
    try:
        with new_directory(site) as folder:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder)
    except zipfile.BadZipFile:
        raise InputError(f"{wheel}: is no whole wheel. Remove its folder and give the command again.") from None
    except InputError:
        if not site.exists():  # another process was not faster
            raise
    return site
