"""Identity: the files by which a program learns on which board it is, written from a device profile.

They must agree with the CPU that qemu emulates: ONNX Runtime picks its kernels by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevit.device import Device
from edgevit.errors import InputError
from edgevit.machine.cpuinfo import ARM_CORES

VARIANTS = {"Cortex-A76": 4}


def write_identity(root: Path, device: Device, isa: Sequence[str] | None = None) -> None:
    """/sys of the board at root/sys, and its /proc/cpuinfo at root/proc/cpuinfo. isa: the profile's when None.

    Raises InputError for a profile with a core whose part number is not known.
    """
    parts = {core.model: part for part, core in ARM_CORES.items()}
    features = " ".join(device.cpu.isa if isa is None else isa)
    blocks, number = [], 0
    for cluster in device.cpu.clusters:
        if cluster.model not in parts:
            raise InputError(f"{device.name}: cpu.clusters: '{cluster.model}' is none of {', '.join(sorted(parts))}.")
        implementer, part = parts[cluster.model]
        variant = VARIANTS.get(cluster.model, 0)
        for _ in range(cluster.cores):
            blocks.append(
                f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
                f"CPU implementer\t: 0x{implementer:02x}\nCPU architecture: 8\nCPU variant\t: 0x{variant:x}\n"
                f"CPU part\t: 0x{part:03x}\nCPU revision\t: 1\n"
            )
            midr = implementer << 24 | variant << 20 | 0xF << 16 | part << 4 | 1
            _write_core(root / f"sys/devices/system/cpu/cpu{number}", cluster.clock_mhz * 1000, number, midr)
            number += 1
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc/cpuinfo").write_text("\n".join([*blocks, f"Model\t\t: {device.title}\n"]))
    cpus = root / "sys/devices/system/cpu"
    for name in ("possible", "present", "online"):
        (cpus / name).write_text(f"0-{number - 1}\n")
    (cpus / "kernel_max").write_text("255\n")
    # user-mode qemu does not hide the kernel's own /sys; by this line edgevit knows an emulated board
    (cpus / "modalias").write_text(_host_modalias())
    tree = root / "sys/firmware/devicetree/base"
    tree.mkdir(parents=True)
    (tree / "model").write_text(f"{device.title}\0")


def _write_core(folder: Path, khz: int, number: int, midr: int) -> None:
    files = {
        "cpufreq/cpuinfo_max_freq": khz, "cpufreq/cpuinfo_min_freq": 600_000, "cpufreq/scaling_cur_freq": khz,
        "cpufreq/scaling_governor": "performance", "topology/physical_package_id": 0, "topology/core_id": number,
        "regs/identification/midr_el1": f"0x{midr:016x}",
    }  # fmt: skip
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{value}\n")


def _host_modalias() -> str:
    path = Path("/sys/devices/system/cpu/modalias")
    return path.read_text() if path.exists() else "cpu:type:x86,ven0000fam0000mod0000:feature:\n"
