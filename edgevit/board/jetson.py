"""What a Jetson's tools print, read: tegrastats, nvpmodel, jetson_clocks. Pure functions: text in, a value or None out.

Source: Jetson Linux Developer Guide, "tegrastats Utility" and "Platform Power and Performance", releases 32, 35, 36.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The rail at the module's input, where there is one: Orin Nano and NX, Xavier NX, TX2; Nano and TX1; Thor.
INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
# AGX modules have none: these rails together feed all of the module. VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0, so it
# does not count twice. Source: Jetson Linux Developer Guide, r35, "Jetson Orin Nano Series, Jetson Orin NX Series and
# Jetson AGX Orin Series"; https://github.com/rbonghi/jetson_stats/issues/344
AGX_RAILS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
OFF_C = -100.0  # a sensor in a part without power says -256


def parse_tegrastats(line: str) -> dict[str, Any] | None:
    """One line of tegrastats of JetPack 4, 5 or 6; None when it is not one.

    ram_mib and swap_mib: (used, total) or None. cpus: (percent, MHz) of each core, None for one that is off.
    gpu_percent: of the GR3D engine, or None. temperatures_c and rails_w: by name; of a rail, its power now.
    """
    cpus = re.search(r"\bCPU \[([^\]]*)\]", line)
    if cpus is None:
        return None
    gpu = re.search(r"\bGR3D_FREQ ([0-9]{1,3})%", line)
    temperatures = re.findall(r"(\w+)@(-?[0-9]{1,3}(?:\.[0-9]{1,3})?)C\b", line)
    rails = re.findall(r"\b([A-Z]\w*) ([0-9]{1,7})(?:mW)?/[0-9]{1,7}(?:mW)?(?![0-9kM])", line)
    return {
        "ram_mib": _pair(r"\bRAM", line),
        "swap_mib": _pair(r"\bSWAP", line),
        "cpus": [_core(text) for text in cpus.group(1).split(",")],
        "gpu_percent": int(gpu.group(1)) if gpu else None,
        "temperatures_c": {name: float(degrees) for name, degrees in temperatures if float(degrees) > OFF_C},
        "rails_w": {name: int(milliwatts) / 1000.0 for name, milliwatts in rails if name != "NC"},
    }


def module_watts(rails_w: Mapping[str, float]) -> float | None:
    """Watts of the whole module from its rails; None when they do not say it, or say that it takes nothing."""
    for rail in INPUT_RAILS:
        if rails_w.get(rail):
            return rails_w[rail]
    for rails in AGX_RAILS:
        if all(rail in rails_w for rail in rails):
            return sum(rails_w[rail] for rail in rails) or None
    return None


def parse_power_mode(text: str) -> tuple[str, int | None] | None:
    """Name and number of the mode that `nvpmodel -q` prints: ('MAXN_SUPER', 2)."""
    name = re.search(r"^.*\bNV Power Mode: *([\w.+-]+)", text, re.MULTILINE)
    if name is None:
        return None
    number = re.search(r"^\s*([0-9]{1,3})\s*$", text[name.end() :], re.MULTILINE)
    return name.group(1), int(number.group(1)) if number else None


def parse_jetson_clocks(text: str) -> dict[str, Any] | None:
    """What `jetson_clocks --show` prints; None when it is something else, as without sudo.

    governors: of the cores, without doubles. is_locked: whether every core that is on runs at one clock only, and the
    GPU too, where there is a line for it; so it is after `sudo jetson_clocks`.
    """
    cores = re.findall(
        r"^\s*cpu[0-9]+: +Online=([01]) +Governor=(\w+) MinFreq=([0-9]{1,12}) MaxFreq=([0-9]{1,12})",
        text,
        re.M,
    )
    if not cores:
        return None
    spans = [(low, high) for online, _, low, high in cores if online != "0"]
    spans += re.findall(r"^\s*GPU MinFreq=([0-9]{1,12}) MaxFreq=([0-9]{1,12})", text, re.MULTILINE)
    return {
        "governors": sorted({governor for _, governor, _, _ in cores}),
        "is_locked": all(low == high for low, high in spans),
    }


def parse_l4t(text: str) -> str | None:
    """'36.4.3' of /etc/nv_tegra_release: the release of Jetson Linux."""
    match = re.search(r"# R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3})*)", text)
    return f"{match.group(1)}.{match.group(2)}" if match else None


def _pair(label: str, line: str) -> tuple[int, int] | None:
    match = re.search(label + r" ([0-9]{1,8})/([0-9]{1,8})MB", line)
    return (int(match.group(1)), int(match.group(2))) if match else None


def _core(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"\s*([0-9]{1,3})%@([0-9]{1,5})\s*", text)
    return (int(match.group(1)), int(match.group(2))) if match else None
