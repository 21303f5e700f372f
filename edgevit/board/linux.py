"""What any Linux says of itself in /proc and /sys, read. Pure functions: text in, a value or None out.

Source: Linux, Documentation/filesystems/proc.rst, Documentation/accounting/psi.rst.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# Source: MIDR part numbers in the Linux kernel, arch/arm64/include/asm/cputype.h
ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1",
    "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0x004": "NVIDIA Carmel",
}  # fmt: skip
# The columns of /proc/stat in which a processor did nothing: idle and iowait. guest and guest_nice, from the ninth on,
# are in user and nice already.
IDLE_COLUMNS, COUNTED_COLUMNS = (3, 4), 8
LEAST_TICKS = 50  # half a second: below that a tick of 10 ms is too coarse to see 5 % in


def parse_load(text: str) -> float | None:
    """The load of the last minute in /proc/loadavg."""
    match = re.match(r"([0-9]{1,7}(?:\.[0-9]{1,6})?) ", text)
    return float(match.group(1)) if match else None


def parse_pressure(text: str) -> float | None:
    """Percent of the last ten seconds in which some task waited, from a file in /proc/pressure."""
    match = re.search(r"^some avg10=([0-9]{1,3}(?:\.[0-9]{1,4})?) ", text, re.MULTILINE)
    return float(match.group(1)) if match else None


def parse_cpu_times(text: str) -> dict[int, tuple[int, int]]:
    """Ticks that each processor has been (busy, idle) since boot, from /proc/stat."""
    times = {}
    for number, columns in re.findall(r"^cpu([0-9]{1,5})((?: [0-9]{1,18}){4,10}) *$", text, re.MULTILINE):
        ticks = [int(column) for column in columns.split()[:COUNTED_COLUMNS]]
        idle = sum(ticks[column] for column in IDLE_COLUMNS if column < len(ticks))
        times[int(number)] = (sum(ticks) - idle, idle)
    return times


def foreign_share(
    before: Mapping[int, tuple[int, int]],
    after: Mapping[int, tuple[int, int]],
    own_ticks: float,
    processors: Collection[int],
) -> float | None:
    """Share of `processors` that others had between two looks at parse_cpu_times: 0.05 is five percent of them all.

    own_ticks: what this process and its children had. processors: those that this process may run on; what others do
    on the rest of the machine is not counted. None when the counters did not move for half a second, or cannot be
    right: a sandbox may show zeros, and time that we had but they do not know of.
    """
    seen = [number for number in processors if number in before and number in after]
    busy = sum(after[number][0] - before[number][0] for number in seen)
    idle = sum(after[number][1] - before[number][1] for number in seen)
    if busy < 0 or idle < 0 or busy + idle < LEAST_TICKS * max(1, len(seen)) or busy < own_ticks / 2:
        return None
    return max(0.0, busy - own_ticks) / (busy + idle)


def parse_memory(text: str) -> dict[str, int]:
    """MiB of /proc/meminfo: total, available, swap_total, swap_free; what it does not say is left out."""
    keys = {"MemTotal": "total", "MemAvailable": "available", "SwapTotal": "swap_total", "SwapFree": "swap_free"}
    found = re.findall(r"^(MemTotal|MemAvailable|SwapTotal|SwapFree): +([0-9]{1,15}) kB", text, re.MULTILINE)
    return {keys[name]: int(kib) // 1024 for name, kib in found}


def parse_os_release(text: str) -> dict[str, str]:
    """The fields of /etc/os-release, without their quotes: ID, VERSION_ID, PRETTY_NAME and others."""
    return dict(re.findall(r"""^([A-Z_]+)=["']?([^"'\n]*)["']?$""", text, re.MULTILINE))


def hottest_zone(zones: Sequence[tuple[str, float]]) -> float | None:
    """Degrees of the hottest of (type, degrees), CPU zones first; a PMIC's fixed figure (Jetson) does not count."""
    real = [(kind.lower(), degrees) for kind, degrees in zones if "pmic" not in kind.lower() and degrees > -100]
    cpu = [degrees for kind, degrees in real if re.search(r"cpu|x86_pkg|soc|^tj", kind)]
    return max(cpu or [degrees for _, degrees in real], default=None)


def machine_arch(machine: str) -> str:
    """A machine's name as device profiles spell it: aarch64, armv7 or x86_64, else as it is."""
    if machine.startswith("armv7"):
        return "armv7"
    return {"arm64": "aarch64", "AMD64": "x86_64", "amd64": "x86_64"}.get(machine, machine)


def is_emulated(arch: str, modalias: str) -> bool:
    """Whether a program for `arch` runs on a kernel of another one: user-mode QEMU does not hide the host's /sys."""
    kernel = re.match(r"cpu:type:(\w+)", modalias)
    return kernel is not None and (kernel.group(1) == "x86") != (arch in ("x86_64", "i686", "i386"))


def cpu_name(cpuinfo: str, board: str) -> str:
    """'AMD EPYC 7763', 'Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)', or an empty string."""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(\w+)$", cpuinfo, re.MULTILINE)))
    cores = " + ".join(ARM_PARTS.get(part, f"ARM part {part}") for part in parts)
    name = cores or (model.group(1).strip() if model else "")
    board = board.strip("\0 \n")
    return f"{name} ({board})" if name and board else name or board


def energy_uj(first_uj: float, last_uj: float, range_uj: float) -> float:
    """Microjoules between two looks at a counter that begins again at range_uj.

    A counter that went back although it has no range says nothing: 0.
    """
    used_uj = last_uj - first_uj if last_uj >= first_uj else last_uj + range_uj - first_uj
    return max(0.0, used_uj)
