"""Host facts: what this machine says about itself and about the packages on it; none of them is imported."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgevit.benchreport import Machine, SensorReading
from edgevit.board.sensors import describe_machine, detect_sensors, read_sensors
from edgevit.extras import installed_versions
from edgevit.machine.cpuinfo import parse_isa
from edgevit.units import MIB

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Requirement:
    """One line of the package's own metadata; `extra` is '' for the light install, `least` '' without a lower bound."""

    package: str
    least: str
    extra: str


@dataclass(frozen=True)
class Facts:
    """What was read from a machine. `installed`: version by package; `torchvision_needs`: the torch it is built for."""

    machine: Machine
    sensors: SensorReading
    isa: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    installed: dict[str, str]
    ram_free_mib: float
    disk_free_mib: float
    torchvision_needs: str = ""
    offline_variables: tuple[str, ...] = ()
    folder: str = "."


def gather_facts(folder: Path = Path()) -> Facts:
    """What this machine says now; no package is imported, only its metadata read."""
    requirements, needs = _requirements("edgevit"), [r for r in _requirements("torchvision") if r.package == "torch"]
    names = {requirement.package for requirement in requirements} | {"torch", "torchvision"}
    cpuinfo = Path("/proc/cpuinfo")
    return Facts(
        machine=Machine.model_validate(describe_machine()),
        sensors=SensorReading.model_validate(read_sensors("before", detect_sensors())),
        isa=parse_isa(cpuinfo.read_text("utf-8", "replace")) if cpuinfo.exists() else (),
        requirements=requirements,
        installed=installed_versions(sorted(names)),
        ram_free_mib=psutil.virtual_memory().available / MIB,
        disk_free_mib=shutil.disk_usage(folder).free / MIB,
        torchvision_needs=needs[0].least if needs else "",
        offline_variables=tuple(name for name in OFFLINE_VARIABLES if os.environ.get(name, "0") not in ("", "0")),
        folder=str(folder),
    )


def parse_requirement(line: str) -> Requirement:
    """One Requires-Dist line: 'torch>=2.9; extra == "train"' gives Requirement('torch', '2.9', 'train')."""
    name = re.match(r"[A-Za-z0-9._-]+", line)
    least = re.search(r"[>=]=\s*([0-9][0-9.]*)", line.partition(";")[0])
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", line)
    return Requirement(name.group() if name else line, least.group(1) if least else "", extra.group(1) if extra else "")


def _requirements(package: str) -> tuple[Requirement, ...]:
    try:
        return tuple(map(parse_requirement, importlib.metadata.requires(package) or ()))
    except importlib.metadata.PackageNotFoundError:
        return ()
