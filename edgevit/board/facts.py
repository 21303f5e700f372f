"""What a board says of itself, as one JSON document: python3 facts.py [--bench] [--folder DIR]

Reads only; it changes nothing and needs no package. --bench adds a second of arithmetic and memory copies.
Python 3.8 and standard library only: with the modules that it needs, it is sent to a board as one file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.board.files import first_line, read_number, read_text, run_command
from edgevit.board.jetson import parse_jetson_clocks, parse_l4t, parse_power_mode
from edgevit.board.linux import parse_memory, parse_os_release
from edgevit.board.microbench import copy_gb_s, gemm_gflops
from edgevit.board.power import find_power_source
from edgevit.board.raspberrypi import parse_supply
from edgevit.board.sensors import (
    board_model,
    describe_machine,
    detect_sensors,
    read_sensors,
    read_throttle_count,
    usable_processors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FACTS_SCHEMA_VERSION = 1
MIB_BYTES = 1 << 20
# A bundle's runtimes and what beside them decides whether one installs.
PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "torchvision", "ai-edge-litert", "tflite-runtime",
    "executorch", "tensorrt", "numpy", "pillow",
)  # fmt: skip
OLDEST_MINOR, NEWEST_MINOR = 6, 16


def collect_facts(
    root: Path = Path("/"),
    command: Callable[[Sequence[str]], str] | None = None,
    folder: str = ".",
    with_bench: bool = False,
) -> dict[str, Any]:
    """The document that machine.facts.Facts reads. What cannot be found out is None, '' or left out, never an error.

    folder: where a bundle would lie; its disk is looked at. with_bench: also takes a second of the processor.
    """
    ask = command or run_command
    kind = detect_sensors(root)
    source = find_power_source(kind, root, ask)
    cpus = root / "sys/devices/system/cpu"
    release = parse_os_release(read_text(root / "etc/os-release"))
    return {
        "schema_version": FACTS_SCHEMA_VERSION,
        "kind": "facts",
        "machine": describe_machine(root),
        "uname": platform.machine(),
        "board": board_model(root),
        "cpuinfo": read_text(root / "proc/cpuinfo"),
        "cores": _physical_cores(cpus),
        "max_mhz": _highest_clocks(cpus),
        "caches": _caches(cpus),
        "os_id": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "kernel": platform.release(),
        "glibc": _glibc(),
        "pythons": _pythons(),
        "has_pip": importlib.util.find_spec("pip") is not None,
        "has_venv": importlib.util.find_spec("ensurepip") is not None,
        "packages": _packages(),
        "memory": parse_memory(read_text(root / "proc/meminfo")),
        "folder": folder,
        "disk_free_mib": _free_mib(folder),
        "sensor_kind": kind,
        "sensors": read_sensors("before", kind, root, ask),
        "throttle_count": read_throttle_count(root),
        "supply_v": parse_supply(ask(["vcgencmd", "pmic_read_adc"])) if kind == "raspberry-pi" else None,
        "power_sensor": source.name,
        "power_missing": source.missing,
        "jetson": _jetson(root, ask) if kind == "jetson" else None,
        "bench": {"gemm_gflops": gemm_gflops(), "copy_gb_s": copy_gb_s()} if with_bench else None,
    }


def facts_main(argv: Sequence[str] | None = None) -> int:
    """Prints the document. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="facts.py", description="What this machine says of itself, as JSON.")
    parser.add_argument("--bench", action="store_true", help="also a second of arithmetic and memory copies")
    parser.add_argument("--folder", default=".", metavar="DIR", help="where a bundle would lie (default: here)")
    arguments = parser.parse_args(argv)
    print(json.dumps(collect_facts(folder=arguments.folder, with_bench=arguments.bench), allow_nan=False))
    return 0


def _physical_cores(cpus: Path) -> int:
    """Cores that this process may use, two threads of one core counted once."""
    usable = usable_processors()
    siblings = [first_line(cpus / f"cpu{number}/topology/thread_siblings_list") for number in usable]
    return len(set(siblings)) if siblings and all(siblings) else len(usable)


def _highest_clocks(cpus: Path) -> list[int]:
    """MHz of each processor in order; empty where the kernel does not say."""
    folders = sorted(cpus.glob("cpu[0-9]*"), key=lambda path: int(re.sub("[^0-9]", "", path.name)))
    khz = [read_number(folder / "cpufreq/cpuinfo_max_freq") for folder in folders]
    known = [value for value in khz if value is not None]
    return [int(value) // 1000 for value in known] if known and len(known) == len(khz) else []


def _caches(cpus: Path) -> dict[str, int]:
    """KiB of the largest data cache of each level that one core sees."""
    sizes: dict[str, int] = {}
    for index in cpus.glob("cpu[0-9]*/cache/index*"):
        level, kind, size = (first_line(index / name) for name in ("level", "type", "size"))
        kib = re.fullmatch(r"([0-9]{1,9})K", size)
        if kib and int(kib.group(1)) and kind != "Instruction" and level in ("1", "2", "3"):
            key = "l1d_kib" if level == "1" else f"l{level}_kib"
            sizes[key] = max(sizes.get(key, 0), int(kib.group(1)))
    return sizes


def _glibc() -> str:
    """'2.36'; '' for another C library, as musl."""
    try:
        words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (AttributeError, OSError, ValueError):
        return ""
    return words[1] if len(words) == 2 and words[0] == "glibc" else ""


def _pythons() -> list[str]:
    """'3.11' of each python3.N on the path, and of this one."""
    names = [f"3.{minor}" for minor in range(OLDEST_MINOR, NEWEST_MINOR)]
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [name for name in names if name == own or shutil.which(f"python{name}")]


def _packages() -> dict[str, str]:
    import importlib.metadata

    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _free_mib(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free // MIB_BYTES
    except OSError:
        return None


def _jetson(root: Path, ask: Callable[[Sequence[str]], str]) -> dict[str, Any]:
    mode = parse_power_mode(ask(["nvpmodel", "-q"])) or (None, None)
    clocks = parse_jetson_clocks(ask(["jetson_clocks", "--show"]))
    return {
        "l4t": parse_l4t(read_text(root / "etc/nv_tegra_release")),
        "power_mode": mode[0],
        "power_mode_id": mode[1],
        "is_clock_locked": clocks["is_locked"] if clocks else None,
        "jetpack": _debian_version(ask, "nvidia-jetpack"),
        "tensorrt": _debian_version(ask, "libnvinfer10", "libnvinfer8", "tensorrt"),
        "cuda": _cuda(root),
    }


def _debian_version(ask: Callable[[Sequence[str]], str], *names: str) -> str | None:
    """'10.3.0' of the first of these packages that is installed."""
    for name in names:
        match = re.match(r"([0-9]{1,4}(?:\.[0-9]{1,4}){0,3})", ask(["dpkg-query", "-W", "-f=${Version}", name]))
        if match:
            return match.group(1)
    return None


def _cuda(root: Path) -> str | None:
    """'12.6' of the CUDA that /usr/local/cuda is: version.json, and version.txt up to CUDA 10."""
    folder = root / "usr/local/cuda"
    text = read_text(folder / "version.json") or read_text(folder / "version.txt")
    match = re.search(r'"cuda"\s*:\s*{[^}]*"version"\s*:\s*"([0-9]+\.[0-9]+)|^CUDA Version ([0-9]+\.[0-9]+)', text)
    return (match.group(1) or match.group(2)) if match else None


if __name__ == "__main__":
    sys.exit(facts_main())
