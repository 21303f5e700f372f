"""What the machine says about itself: clock, temperature, throttling, load, power.

What it has no sensor for, or does not let us read, is None and never an error. How the answers are read stands in
linux.py, raspberrypi.py and jetson.py.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.board.files import first_line, read_number, read_text, run_command
from edgevit.board.linux import (
    cpu_name,
    energy_uj,
    foreign_share,
    hottest_zone,
    is_emulated,
    machine_arch,
    parse_cpu_times,
    parse_load,
    parse_os_release,
    parse_pressure,
)
from edgevit.board.power import jetson_watts
from edgevit.board.raspberrypi import HAS_OCCURRED, parse_clock, parse_pmic, parse_temperature, parse_throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RAPL_INTERVAL_S = 0.05
COOLED = "cooling-device"


def read_sensors(
    at: str, kind: str, root: Path = Path("/"), command: Callable[[Sequence[str]], str] | None = None
) -> dict[str, Any]:
    """One look at the machine, with the keys of a report's sensor reading; None where there is no sensor.

    at: 'before', 'during' or 'after'. kind: 'raspberry-pi', 'jetson', 'rapl' or 'none' (what any Linux has).
    Takes some 10 ms on a Raspberry Pi and 50 ms with RAPL: call it between runs, not within one.
    """
    command = command or run_command
    cpufreq = root / "sys/devices/system/cpu/cpufreq"
    governors = sorted({first_line(path) for path in cpufreq.glob("policy*/scaling_governor")} - {""})
    cooled = _cooled_by_clock(root)
    reading: dict[str, Any] = {
        "at": at,
        "governor": ",".join(governors) or None,
        "clock_mhz": _clock_mhz(cpufreq, root / "proc/cpuinfo"),
        "clock_range_mhz": _clock_range_mhz(cpufreq),
        "temperature_c": hottest_zone(_thermal_zones(root)),
        "throttled": cooled,
        "throttle_flags": [COOLED] if cooled else [],
        "load_1min": parse_load(read_text(root / "proc/loadavg")),
        "pressure_percent": parse_pressure(read_text(root / "proc/pressure/cpu")),
        "power_w": None,
    }
    if kind == "raspberry-pi":
        _read_firmware(reading, command)
    elif kind == "jetson":
        reading["power_w"] = jetson_watts(root)
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
    counts = [count for count in map(read_number, files) if count is not None]
    return int(sum(counts)) if counts else None


def read_usage(root: Path = Path("/")) -> dict[str, Any]:
    """Ticks of every processor and seconds that this process and its children have had: for measure_foreign_share."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "times": parse_cpu_times(read_text(root / "proc/stat")),
        "own_s": sum(usage.ru_utime + usage.ru_stime for usage in spent),
    }


def measure_foreign_share(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """Share of the processors that this process may run on, which others had between two looks of read_usage."""
    own_ticks = (after["own_s"] - before["own_s"]) * os.sysconf("SC_CLK_TCK")
    return foreign_share(before["times"], after["times"], own_ticks, usable_processors())


def usable_processors() -> list[int]:
    """Numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def detect_sensors(root: Path = Path("/")) -> str:
    """'raspberry-pi', 'jetson', 'rapl' or 'none': which sensors this machine has."""
    board = board_model(root)
    if "Raspberry Pi" in board:
        return "raspberry-pi"
    if "Jetson" in board or (root / "etc/nv_tegra_release").exists():
        return "jetson"
    return "rapl" if (root / "sys/class/powercap/intel-rapl:0/energy_uj").exists() else "none"


def board_model(root: Path = Path("/")) -> str:
    """The board's name in its device tree; '' on a PC."""
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        model = first_line(root / path)
        if model:
            return model
    return ""


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """cpu, arch, cores, os, python and is_emulated of the machine that this runs on."""
    arch = machine_arch(platform.machine())
    cpu = cpu_name(read_text(root / "proc/cpuinfo"), board_model(root))
    os_name = parse_os_release(read_text(root / "etc/os-release")).get("PRETTY_NAME")
    return {
        "cpu": cpu or platform.processor() or "unknown",
        "arch": arch,
        "cores": os.cpu_count() or 1,
        "os": os_name or f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "is_emulated": is_emulated(arch, read_text(root / "sys/devices/system/cpu/modalias")),
    }


def _read_firmware(reading: dict[str, Any], command: Callable[[Sequence[str]], str]) -> None:
    """What a Raspberry Pi's firmware knows better than the kernel: it also lowers the clock without telling Linux.

    Source: https://github.com/raspberrypi/linux/issues/2986
    """
    flags = parse_throttled(command(["vcgencmd", "get_throttled"]))
    if flags is not None:
        reading["throttle_flags"] = flags
        reading["throttled"] = any(not flag.endswith(HAS_OCCURRED) for flag in flags)
    measured_c = parse_temperature(command(["vcgencmd", "measure_temp"]))
    reading["temperature_c"] = reading["temperature_c"] if measured_c is None else measured_c
    measured_mhz = parse_clock(command(["vcgencmd", "measure_clock", "arm"]))
    reading["clock_mhz"] = reading["clock_mhz"] if measured_mhz is None else measured_mhz
    reading["power_w"] = parse_pmic(command(["vcgencmd", "pmic_read_adc"]))


def _clock_mhz(cpufreq: Path, cpuinfo: Path) -> float | None:
    khz = [value for value in map(read_number, cpufreq.glob("policy*/scaling_cur_freq")) if value is not None]
    if khz:
        return max(khz) / 1000.0
    mhz = re.findall(r"^cpu MHz\s*:\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)$", read_text(cpuinfo), re.MULTILINE)
    return max(map(float, mhz)) if mhz else None


def _clock_range_mhz(cpufreq: Path) -> list[float] | None:
    """Between which clocks the governor may choose, lowest and highest of all cores."""
    policies = [
        (read_number(policy / "scaling_min_freq"), read_number(policy / "scaling_max_freq"))
        for policy in sorted(cpufreq.glob("policy*"))
    ]
    spans = [(low, high) for low, high in policies if low is not None and high is not None]
    widest = max(spans, key=lambda span: span[1] - span[0], default=None)
    return [widest[0] / 1000.0, widest[1] / 1000.0] if widest else None


def _cooled_by_clock(root: Path) -> bool | None:
    """Whether Linux holds the CPU's clock down against heat; None where it has no such means.

    Source: Linux, Documentation/driver-api/thermal/sysfs-api.rst, cooling devices 'cpufreq-cpu*' and 'Processor'.
    """
    states = [
        read_number(device / "cur_state")
        for device in root.glob("sys/class/thermal/cooling_device*")
        if re.match(r"thermal-cpufreq|cpufreq-|Processor", first_line(device / "type"))
    ]
    known = [state for state in states if state is not None]
    return any(state > 0 for state in known) if known else None


def _thermal_zones(root: Path) -> list[tuple[str, float]]:
    found = []
    for zone in root.glob("sys/class/thermal/thermal_zone*"):
        millidegrees = read_number(zone / "temp")
        if millidegrees is not None:
            found.append((first_line(zone / "type"), millidegrees / 1000.0))
    return found


def _rapl_power_w(root: Path) -> float | None:
    """Watts of the first CPU package over 50 ms; None where only root may read it."""
    domain = root / "sys/class/powercap/intel-rapl:0"
    first_uj, began = read_number(domain / "energy_uj"), time.perf_counter()
    if first_uj is None:
        return None
    time.sleep(RAPL_INTERVAL_S)
    last_uj, seconds = read_number(domain / "energy_uj"), time.perf_counter() - began
    if last_uj is None:
        return None
    return energy_uj(first_uj, last_uj, read_number(domain / "max_energy_range_uj") or 0.0) / 1e6 / seconds
