"""A device profile from what a board said of itself: valid, with the source of each figure, ready to edit."""

from __future__ import annotations

import re

import yaml
from pydantic import TypeAdapter, ValidationError

from edgevit.device import BoardRuntime, Caches, CoreCluster, Cpu, Device, Emulator, Memory, OperatingSystem, Source
from edgevit.errors import DeviceError
from edgevit.machine.cpuinfo import UNKNOWN_CLOCK_MHZ
from edgevit.machine.facts import Facts
from edgevit.machine.localdevice import MachineFacts, device_from
from edgevit.machine.wheels import RUNTIME_PACKAGES, runtime_wheel
from edgevit.recipe import Name

# QEMU's model of a core, or the nearest that has the same instructions: it has no A78AE and no Carmel.
EMULATED_CORES = {
    "Cortex-A53": "cortex-a53", "Cortex-A57": "cortex-a57", "Cortex-A72": "cortex-a72", "Cortex-A76": "cortex-a76",
    "Cortex-A78": "cortex-a76", "Cortex-A78AE": "cortex-a76", "Neoverse-N1": "neoverse-n1",
    "NVIDIA Carmel": "cortex-a72",
}  # fmt: skip
RUNTIME_ORDER: tuple[BoardRuntime, ...] = ("onnxruntime", "openvino", "litert", "executorch", "torchscript")
LEAST_PYTHON_MINOR = 8
HEADER = """\
# {title}: written by 'edgevit devices add' from what the board said of itself.
# Use:      edgevit export MODEL --device {path} -o BUNDLE
# Measured: {measured}
# To do:    read it through, mend the title, and give each figure its source (a data sheet) before contributing it.
"""


def profile_from(facts: Facts, name: str) -> Device:
    """The profile of the board that `facts` describe. name: its own, as 'rpi5'.

    Peaks are derived from the cores; where the board's own matrix product was faster than that, they are raised to it.
    Raises DeviceError for an architecture that is no target and for a system without glibc.
    """
    if not facts.glibc:
        raise DeviceError(f"The board's {facts.machine.os} has no glibc, which every runtime needs.")
    local = device_from(_machine_facts(facts))
    bench = facts.bench
    return Device(
        name=name,
        title=facts.board or facts.machine.cpu,
        arch=local.arch,
        cpu=Cpu(clusters=_measured_peaks(local.cpu.clusters, facts), isa=local.cpu.isa),
        caches=local.caches,
        memory=Memory(
            ram_mib=facts.memory.total or 1,
            bandwidth_gb_s=round(bench.copy_gb_s, 1) if bench and bench.copy_gb_s else None,
        ),
        os=OperatingSystem(name=facts.machine.os, glibc=facts.glibc, python=_pythons(facts)),
        runtimes=_runtimes(facts, local.arch),
        quantization=local.quantization,
        threads=local.threads,
        sensors=facts.sensor_kind,
        emulator=_emulator(local.cpu.clusters[0].model),
        toolchain=local.toolchain,
        sources=_sources(facts, local.cpu.clusters[0].clock_mhz),
    )


def profile_yaml(device: Device, path: str) -> str:
    """The text of the profile's file. path: what --device will be given."""
    plain = device.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
    plain.pop("limits", None)
    measured = "one core's memory copy; the rest was read or derived" if device.memory.bandwidth_gb_s else "nothing yet"
    header = HEADER.format(title=_one_line(device.title), path=path, measured=measured)
    return header + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def suggest_name(facts: Facts) -> str:
    """'raspberry-pi-5-model-b-rev-1-0': the board's or the processor's own name, as a profile's."""
    words = re.findall(r"[a-z0-9]+", (facts.board or facts.machine.cpu).lower())
    return "-".join(words)[:60].strip("-") or "board"


def is_name(name: str) -> bool:
    """Whether a profile may be named so."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        return False
    return True


def _machine_facts(facts: Facts) -> MachineFacts:
    return MachineFacts(
        cpuinfo=facts.cpuinfo,
        machine=facts.uname,
        cores=facts.cores,
        ram_mib=facts.memory.total or 1,
        caches=Caches(**{key: kib for key, kib in facts.caches.model_dump().items() if kib}),
        os_name=facts.machine.os,
        glibc=facts.glibc,
        python=facts.python,
        max_mhz=facts.max_mhz,
        has_rapl=facts.sensor_kind == "rapl",
    )


def _measured_peaks(clusters: tuple[CoreCluster, ...], facts: Facts) -> tuple[CoreCluster, ...]:
    """The first cluster's peaks doubled until the measured product fits under them, where its clock is known.

    x86 is left as derived: its clock under load is not what the kernel says.
    """
    fastest = clusters[0]
    gflops = facts.bench.gemm_gflops if facts.bench else None
    if gflops is None or not facts.max_mhz or facts.machine.arch == "x86_64" or fastest.clock_mhz == UNKNOWN_CLOCK_MHZ:
        return clusters
    factor = 1
    while factor < 8 and gflops * 1000 / fastest.clock_mhz > factor * fastest.fp32_flops_per_cycle:
        factor *= 2
    raised = fastest.model_copy(
        update={
            "fp32_flops_per_cycle": factor * fastest.fp32_flops_per_cycle,
            "fp16_flops_per_cycle": fastest.fp16_flops_per_cycle and factor * fastest.fp16_flops_per_cycle,
            "int8_ops_per_cycle": factor * fastest.int8_ops_per_cycle,
        }
    )
    return (raised, *clusters[1:])


def _pythons(facts: Facts) -> tuple[str, ...]:
    """Those of the board that a bundle runs on; its own where there is none, so that doctor can say so."""
    able = [python for python in facts.pythons if int(python.split(".")[1]) >= LEAST_PYTHON_MINOR]
    return tuple(able) or (facts.python,)


def _runtimes(facts: Facts, arch: str) -> tuple[BoardRuntime, ...]:
    """TensorRT where it is installed, then every runtime with a wheel for one of the board's Pythons."""
    found: list[BoardRuntime] = ["tensorrt"] if facts.jetson and facts.jetson.tensorrt else []
    found += [runtime for runtime in RUNTIME_ORDER if _has_wheel(facts, runtime, arch)]
    return tuple(found) or ("onnxruntime",)


def _has_wheel(facts: Facts, runtime: str, arch: str) -> bool:
    assert runtime in RUNTIME_PACKAGES
    for python in _pythons(facts):
        try:
            runtime_wheel(runtime, python, facts.glibc, arch)
        except DeviceError:
            continue
        return True
    return False


def _emulator(core: str) -> Emulator | None:
    return Emulator(cpu=EMULATED_CORES[core]) if core in EMULATED_CORES else None


def _sources(facts: Facts, clock_mhz: int) -> tuple[Source, ...]:
    clock = "" if clock_mhz != UNKNOWN_CLOCK_MHZ else " The clock could not be read and is assumed."
    peaks = "Peak operations per cycle are derived from the core's model or its instruction set."
    if facts.bench and facts.bench.gemm_gflops:
        peaks += f" One core measured {facts.bench.gemm_gflops:.1f} fp32 GFLOPS in numpy's matrix product."
    read = Source(
        covers=("cpu", "caches", "memory", "os", "threads"),
        note=f"Read on the board: /proc/cpuinfo and /sys, kernel {facts.kernel or 'unknown'}.{clock}",
    )
    sources = [
        read,
        Source(covers=("cpu.clusters",), note=peaks),
        Source(
            covers=("quantization",),
            note="ONNX Runtime, 'Quantize ONNX models', data type selection, by the board's instructions.",
        ),
    ]
    if facts.bench and facts.bench.copy_gb_s:
        note = f"Measured: one core copies {facts.bench.copy_gb_s:.1f} GB/s, read and written; all may do more."
        sources.append(Source(covers=("memory.bandwidth_gb_s",), note=note))
    return tuple(sources)


def _one_line(text: str) -> str:
    return " ".join(text.split())
