"""Cores: which are big and which little, and holding a process to some of them.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.board.files import read_number
from edgevit.board.options import core_numbers
from edgevit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Cores of one kind may differ a little: the better halves of a chip are clocked higher.
ALIKE_SHARE = 0.1


def choose_cores(asked: str, usable: Collection[int], strengths: Mapping[int, float]) -> list[int]:
    """Numbers of the cores that `asked` (of options.parse_cores) means. strengths: of core_strengths.

    Raises InputError for a core that this process may not use, and for big or little where all cores are alike.
    """
    if asked in ("big", "little"):
        big, little = split_cores({core: strengths[core] for core in usable if core in strengths})
        if not little:
            raise InputError(
                f"--cores {asked}: the cores of this machine are of one kind, or it does not say. Name their numbers: "
                f"--cores {core_list(usable)}"
            )
        return big if asked == "big" else little
    wanted = core_numbers(asked)
    absent = [core for core in wanted if core not in usable]
    if absent:
        raise InputError(f"--cores {asked}: there is no core {absent[0]} to use here. These are: {core_list(usable)}")
    return wanted


def split_cores(strengths: Mapping[int, float]) -> tuple[list[int], list[int]]:
    """Big and little cores: those nearer to the strongest, and those nearer to the weakest. All are big if alike."""
    low, high = min(strengths.values(), default=0.0), max(strengths.values(), default=0.0)
    if high - low <= ALIKE_SHARE * high:
        return sorted(strengths), []
    big = sorted(core for core, strength in strengths.items() if 2 * strength > low + high)
    return big, sorted(set(strengths) - set(big))


def core_strengths(root: Path = Path("/")) -> dict[int, float]:
    """Each core's capacity (1024: the strongest) where the kernel says it for all, else its highest clock in kHz.

    Two kinds of core may share a clock, so that capacities are the better sign. Source: Linux,
    Documentation/devicetree/bindings/cpu/cpu-capacity.txt; https://github.com/AsahiLinux/muvm/issues/43
    """
    folders = {
        int(folder.name[3:]): folder
        for folder in root.glob("sys/devices/system/cpu/cpu[0-9]*")
        if re.fullmatch(r"cpu[0-9]{1,4}", folder.name)
    }
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        found = {core: read_number(folder / name) for core, folder in folders.items()}
        known = {core: value for core, value in found.items() if value is not None}
        if known and len(known) == len(folders):
            return known
    return {}


def pin_to_cores(cores: Collection[int]) -> None:
    """Holds all of this process's threads to `cores`, and so whatever threads and programs they start later.

    Raises InputError where the system cannot, or does not let us.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("--cores needs Linux: this system cannot hold a program to some cores.")
    try:
        os.sched_setaffinity(0, cores)
        for task in os.listdir("/proc/self/task"):
            _pin_thread(int(task), cores)
    except OSError as error:
        raise InputError(f"--cores {core_list(cores)}: is not allowed here ({error.strerror}).") from None


def core_list(cores: Collection[int]) -> str:
    """'0,4-7': numbers in the form that core_numbers reads."""
    spans: list[list[int]] = []
    for core in sorted(cores):
        if spans and spans[-1][1] == core - 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _pin_thread(task: int, cores: Collection[int]) -> None:
    try:
        os.sched_setaffinity(task, cores)
    except ProcessLookupError:
        return  # it has ended meanwhile
