"""What the machine says about itself: clock, temperature, throttling, load, power.

What it has no sensor for, or does not let us read, is None and never an error.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Source: raspberrypi.com, "vcgencmd", get_throttled. Bits 16 to 19 say that the same has happened since boot.
THROTTLE_BITS = ("under-voltage", "frequency-capped", "throttled", "soft-temperature-limit")
HAS_OCCURRED = "-occurred"
RAPL_INTERVAL_S = 0.05
# Source: MIDR part numbers in the Linux kernel, arch/arm64/include/asm/cputype.h
ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1",
    "0xd42": "Cortex-A78AE", "0x004": "Carmel",
}  # fmt: skip


def read_sensors(
    at: str, kind: str, root: Path = Path("/"), command: Callable[[Sequence[str]], str] | None = None
) -> dict[str, Any]:
    """One look at the machine, with the keys of a report's sensor reading; None where there is no sensor.

    at: 'before', 'during' or 'after'. kind: 'raspberry-pi', 'jetson', 'rapl' or 'none' (what any Linux has).
    Takes some 10 ms on a Raspberry Pi and 50 ms with RAPL: call it between runs, not within one.
    """
    command = command or run_command
    cpufreq = root / "sys/devices/system/cpu/cpufreq"
    governors = sorted({_first_line(path) for path in cpufreq.glob("policy*/scaling_governor")} - {""})
    reading: dict[str, Any] = {
        "at": at,
        "governor": ",".join(governors) or None,
        "clock_mhz": _clock_mhz(cpufreq, root / "proc/cpuinfo"),
        "temperature_c": hottest_zone(_thermal_zones(root)),
        "throttled": None,
        "throttle_flags": [],
        "load_1min": parse_load(_text(root / "proc/loadavg")),
        "power_w": None,
    }
    if kind == "raspberry-pi":
        flags = parse_throttled(command(["vcgencmd", "get_throttled"]))
        if flags is not None:
            reading["throttle_flags"] = flags
            reading["throttled"] = any(not flag.endswith(HAS_OCCURRED) for flag in flags)
        measured_c = parse_temperature(command(["vcgencmd", "measure_temp"]))
        reading["temperature_c"] = reading["temperature_c"] if measured_c is None else measured_c
        reading["power_w"] = parse_pmic(command(["vcgencmd", "pmic_read_adc"]))
    elif kind == "jetson":
        reading["power_w"] = _jetson_power_w(root)
    elif kind == "rapl":
        reading["power_w"] = _rapl_power_w(root)
    return reading


def read_throttle_count(root: Path = Path("/")) -> int | None:
    """How often the machine has throttled since boot, where it only counts (x86 cores, Jetson's over-current events).

    Source: Linux, Documentation/ABI/testing/sysfs-devices-system-cpu, thermal_throttle; Jetson Linux Developer Guide,
    "Platform Power and Performance", oc*_event_cnt.
    """
    files = [
        *root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"),
        *root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt"),
    ]
    counts = [count for count in map(_number, files) if count is not None]
    return int(sum(counts)) if counts else None


def throttle_reasons(readings: Sequence[dict[str, Any]], counted: tuple[int | None, int | None]) -> list[str]:
    """Why readings make a run invalid, in words: flags that stood during it, and counters that grew.

    readings: in order, the first one before the run. counted: read_throttle_count before and after.
    A flag that says 'has occurred' counts only when the first reading does not have it: it may be days old.
    """
    old = set(readings[0]["throttle_flags"]) if readings else set()
    reasons = []
    for reading in readings:
        now = [flag for flag in reading["throttle_flags"] if not flag.endswith(HAS_OCCURRED)]
        if reading["throttled"]:
            reasons.append(f"The CPU was throttled {reading['at']} the run ({', '.join(now) or 'no reason given'}).")
        new = [flag for flag in reading["throttle_flags"] if flag.endswith(HAS_OCCURRED) and flag not in old]
        if new and not reading["throttled"]:
            reasons.append(f"The CPU throttled between two looks at it ({', '.join(new)}).")
        old |= set(new)
    if counted[0] is not None and counted[1] is not None and counted[1] > counted[0]:
        reasons.append(f"The CPU throttled {counted[1] - counted[0]} times during the run (the machine's counter).")
    return reasons


def detect_sensors(root: Path = Path("/")) -> str:
    """'raspberry-pi', 'jetson', 'rapl' or 'none': which sensors this machine has."""
    board = _text(root / "proc/device-tree/model")
    if "Raspberry Pi" in board:
        return "raspberry-pi"
    if "Jetson" in board or (root / "etc/nv_tegra_release").exists():
        return "jetson"
    return "rapl" if (root / "sys/class/powercap/intel-rapl:0/energy_uj").exists() else "none"


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """cpu, arch, cores, os, python and is_emulated of the machine that this runs on."""
    arch = machine_arch(platform.machine())
    cpu = cpu_name(_text(root / "proc/cpuinfo"), _text(root / "proc/device-tree/model"))
    os_name = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text(root / "etc/os-release"), re.MULTILINE)
    return {
        "cpu": cpu or platform.processor() or "unknown",
        "arch": arch,
        "cores": os.cpu_count() or 1,
        "os": os_name.group(1) if os_name else f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "is_emulated": is_emulated(arch, _text(root / "sys/devices/system/cpu/modalias")),
    }


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


def parse_throttled(text: str) -> list[str] | None:
    """Flags of 'throttled=0x50005'; an empty list when all is well, None when there is no such answer."""
    match = re.search(r"throttled=0x([0-9a-fA-F]+)", text)
    if match is None:
        return None
    bits = int(match.group(1), 16)
    now = [flag for bit, flag in enumerate(THROTTLE_BITS) if bits >> bit & 1]
    return now + [flag + HAS_OCCURRED for bit, flag in enumerate(THROTTLE_BITS) if bits >> (bit + 16) & 1]


def parse_temperature(text: str) -> float | None:
    """Degrees Celsius of "temp=48.3'C"."""
    match = re.search(r"temp=(-?[0-9.]+)'C", text)
    return float(match.group(1)) if match else None


def parse_pmic(text: str) -> float | None:
    """Watts of a Raspberry Pi 5's rails: the sum of current times voltage over `vcgencmd pmic_read_adc`.

    What the power chip itself and the USB ports take is not in it.
    """
    # the answer names a rail's current NAME_A and its voltage NAME_V
    currents = dict(re.findall(r"(\w+)_A\s+current\(\d+\)=([0-9.]+)A", text))
    volts = dict(re.findall(r"(\w+)_V\s+volt\(\d+\)=([0-9.]+)V", text))
    both = [float(currents[rail]) * float(volts[rail]) for rail in currents if rail in volts]
    return sum(both) if both else None


def parse_load(text: str) -> float | None:
    """The load of the last minute in /proc/loadavg."""
    match = re.match(r"[0-9.]+", text)
    return float(match.group()) if match else None


def hottest_zone(zones: Sequence[tuple[str, float]]) -> float | None:
    """Degrees of the hottest of (type, degrees), CPU zones first; a PMIC's fixed figure (Jetson) does not count."""
    real = [(kind.lower(), degrees) for kind, degrees in zones if "pmic" not in kind.lower()]
    cpu = [degrees for kind, degrees in real if re.search(r"cpu|x86_pkg|soc|^tj", kind)]
    return max(cpu or [degrees for _, degrees in real], default=None)


def rapl_watts(first_uj: float, last_uj: float, range_uj: float, seconds: float) -> float:
    """Watts from two looks at an energy counter that begins again at range_uj."""
    used_uj = last_uj - first_uj if last_uj >= first_uj else last_uj + range_uj - first_uj
    return max(0.0, used_uj) / 1e6 / seconds


def run_command(words: Sequence[str]) -> str:
    """What a program prints; an empty string when it is not there or fails."""
    try:
        answer = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode("utf-8", "replace")


def _clock_mhz(cpufreq: Path, cpuinfo: Path) -> float | None:
    khz = [value for value in map(_number, cpufreq.glob("policy*/scaling_cur_freq")) if value is not None]
    if khz:
        return max(khz) / 1000.0
    mhz = re.findall(r"^cpu MHz\s*:\s*([0-9.]+)$", _text(cpuinfo), re.MULTILINE)
    return max(map(float, mhz)) if mhz else None


def _thermal_zones(root: Path) -> list[tuple[str, float]]:
    found = []
    for zone in root.glob("sys/class/thermal/thermal_zone*"):
        millidegrees = _number(zone / "temp")
        if millidegrees is not None:
            found.append((_first_line(zone / "type"), millidegrees / 1000.0))
    return found


def _jetson_power_w(root: Path) -> float | None:
    """Watts at the module's input, from its INA3221. Source: Jetson Linux Developer Guide, power monitoring."""
    for label in root.glob("sys/class/hwmon/hwmon*/in*_label"):
        if _first_line(label) in ("VDD_IN", "VIN_SYS_5V0"):
            channel = re.sub(r"\D", "", label.name)
            millivolts = _number(label.with_name(f"in{channel}_input"))
            milliamps = _number(label.with_name(f"curr{channel}_input"))
            if millivolts is not None and milliamps is not None:
                return millivolts * milliamps / 1e6
    for label in root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):  # Jetson Nano, TX2
        milliwatts = _number(label.with_name(f"in_power{label.name[-1]}_input"))
        if _first_line(label) in ("POM_5V_IN", "VDD_IN") and milliwatts is not None:
            return milliwatts / 1000.0
    return None


def _rapl_power_w(root: Path) -> float | None:
    """Watts of the first CPU package over 50 ms; None where only root may read it."""
    domain = root / "sys/class/powercap/intel-rapl:0"
    first_uj, began = _number(domain / "energy_uj"), time.perf_counter()
    if first_uj is None:
        return None
    time.sleep(RAPL_INTERVAL_S)
    last_uj, seconds = _number(domain / "energy_uj"), time.perf_counter() - began
    if last_uj is None:
        return None
    return rapl_watts(first_uj, last_uj, _number(domain / "max_energy_range_uj") or 0.0, seconds)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a thermal zone that is switched off answers EAGAIN
        return ""


def _first_line(path: Path) -> str:
    return _text(path).split("\n", 1)[0].strip("\0 ")


def _number(path: Path) -> float | None:
    try:
        return float(_first_line(path))
    except ValueError:
        return None
