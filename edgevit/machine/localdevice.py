"""Makes the profile 'local' from this machine: what /proc/cpuinfo, /sys and psutil say, and what follows from it."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgevit.device import (
    Arch,
    Caches,
    Cpu,
    Device,
    Memory,
    OperatingSystem,
    QuantizationPreset,
    Sensors,
    Source,
    Toolchain,
)
from edgevit.errors import DeviceError
from edgevit.machine.cpuinfo import UNKNOWN_CLOCK_MHZ, parse_clusters, parse_isa, parse_title
from edgevit.units import MIB

LOCAL = "local"
VNNI = frozenset({"avx512_vnni", "avx_vnni"})
_ARCHS: dict[str, Arch] = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "armv7": "arm-linux-gnueabihf"}


@dataclass(frozen=True)
class MachineFacts:
    """What was read from a machine. `max_mhz`: of each processor, in /proc/cpuinfo's order; empty where unknown.

    machine: as `uname -m` spells it. cores: physical ones that this process may use.
    """

    cpuinfo: str
    machine: str
    cores: int
    ram_mib: int
    caches: Caches
    os_name: str
    glibc: str
    python: str
    max_mhz: tuple[int, ...] = ()
    has_rapl: bool = False


def local_device() -> Device:
    """Profile of the machine that this runs on. Raises DeviceError where it cannot be a target."""
    return device_from(read_machine())


def device_from(facts: MachineFacts) -> Device:
    """Profile of the machine that `facts` were read from. Peak figures are derived from its instruction set.

    Raises DeviceError for another architecture than ARM and x86, and without glibc.
    """
    arch = _arch(facts.machine)
    if not re.fullmatch(r"\d+\.\d+", facts.glibc):
        raise DeviceError("'local' needs Linux with glibc, which this machine lacks. Name a board: --device rpi5")
    clusters = parse_clusters(facts.cpuinfo, arch, facts.cores, facts.max_mhz)
    isa = parse_isa(facts.cpuinfo)
    fast_cores = min(clusters[0].cores, facts.cores)
    return Device(
        name=LOCAL,
        title=f"This machine: {parse_title(facts.cpuinfo) or clusters[0].model}",
        arch=arch,
        cpu=Cpu(clusters=clusters, isa=isa),
        caches=facts.caches,
        memory=Memory(ram_mib=facts.ram_mib),
        os=OperatingSystem(name=facts.os_name, glibc=facts.glibc, python=(facts.python,)),
        runtimes=("onnxruntime", "openvino", "litert", "executorch", "torchscript"),
        quantization=choose_preset(arch, isa),
        threads=fast_cores,
        sensors=_sensors(facts),
        toolchain=Toolchain(triple=_TRIPLES[arch]),
        sources=_sources(clusters[0].clock_mhz),
    )


def choose_preset(arch: Arch, isa: tuple[str, ...]) -> QuantizationPreset:
    """What INT8 means for these instructions.

    Source: ONNX Runtime, "Quantize ONNX models", data type selection and reduce_range.
    """
    flags = frozenset(isa)
    if arch == "x86_64":
        has_vnni = bool(flags & VNNI)
        return QuantizationPreset(
            precision="auto",
            activation="uint8",
            weight="int8",
            per_channel=True,
            reduce_range=not has_vnni,
            symmetric=False,
            why="VNNI multiplies 8-bit values into 32-bit sums, so all 8 bits of a weight can be used."
            if has_vnni
            else "Without VNNI, 8-bit products are summed in 16 bits that saturate, so weights keep to 7 bits.",
        )
    has_dot_product = "asimddp" in flags
    return QuantizationPreset(
        precision="auto" if has_dot_product else "fp32",
        activation="int8",
        weight="int8",
        per_channel=True,
        reduce_range=False,
        symmetric=False,
        why="SDOT does four signed 8-bit products per lane, so INT8 pays."
        if has_dot_product
        else "Without dot-product instructions INT8 saves memory but hardly an instruction, so fp32 ships.",
    )


def read_machine() -> MachineFacts:
    """What this machine says of itself."""
    return MachineFacts(
        cpuinfo=_read(Path("/proc/cpuinfo")),
        machine=platform.machine(),
        cores=_usable_cores(),
        ram_mib=psutil.virtual_memory().total // MIB,
        caches=_read_caches(Path("/sys/devices/system/cpu")),
        os_name=_os_name(),
        glibc=platform.libc_ver()[1],
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        max_mhz=_read_clocks(Path("/sys/devices/system/cpu")),
        has_rapl=Path("/sys/class/powercap/intel-rapl:0").exists(),
    )


def _arch(machine: str) -> Arch:
    name = machine.lower()
    if name.startswith(("armv7", "armv8")):
        return "armv7"
    if name not in _ARCHS:
        raise DeviceError(f"This machine's architecture '{machine}' is no target. Name a board: --device rpi5")
    return _ARCHS[name]


def _sensors(facts: MachineFacts) -> Sensors:
    if "Raspberry Pi" in facts.cpuinfo:
        return "raspberry-pi"
    if "tegra" in facts.os_name.lower():
        return "jetson"
    return "rapl" if facts.has_rapl else "none"


def _sources(clock_mhz: int) -> tuple[Source, ...]:
    clock = " Its clock could not be read and is assumed." if clock_mhz == UNKNOWN_CLOCK_MHZ else ""
    return (
        Source(covers=("cpu", "caches", "memory", "os", "threads"), note=f"Read from this machine.{clock}"),
        Source(
            covers=("cpu.clusters",),
            note="Peak operations per cycle are derived from the core's model or the instruction set, not measured.",
        ),
    )


def _usable_cores() -> int:
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        name = platform.system()
    return f"{name}, kernel {platform.release()}"


def _read(path: Path) -> str:
    """The file's text, '' where there is none: not every kernel and container shows every file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_clocks(cpus: Path) -> tuple[int, ...]:
    """Highest clock of each processor in MHz; empty where the kernel does not say."""
    folders = sorted(cpus.glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))
    texts = [_read(folder / "cpufreq" / "cpuinfo_max_freq") for folder in folders]
    return tuple(int(text) // 1000 for text in texts) if texts and all(text.isdigit() for text in texts) else ()


def _read_caches(cpus: Path) -> Caches:
    """The largest data cache of each level that one core sees, in KiB."""
    sizes: dict[str, int] = {}
    for folder in cpus.glob("cpu[0-9]*/cache/index*"):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        kib = re.fullmatch(r"(\d+)K", size)
        if kib and int(kib[1]) > 0 and kind != "Instruction" and level in ("1", "2", "3"):
            key = "l1d_kib" if level == "1" else f"l{level}_kib"
            sizes[key] = max(sizes.get(key, 0), int(kib[1]))
    return Caches(**sizes)
