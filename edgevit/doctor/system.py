"""The system: memory, swap, disk, C library, Python, and which runtimes have a wheel for them."""

from __future__ import annotations

from edgevit.device import Device
from edgevit.doctor.finding import Finding, gib, note, numbers, ok, problem, warning
from edgevit.errors import DeviceError
from edgevit.machine.facts import Facts
from edgevit.machine.wheels import RUNTIME_PACKAGES, board_requirements, runtime_wheel

# ONNX Runtime, numpy and Pillow take some 180 MiB unpacked, and pip as much again while it unpacks them.
DISK_TIGHT_MIB, DISK_LEAST_MIB = 1024, 400
# A DeiT-Ti in ONNX Runtime holds about 100 MiB; below that a board swaps.
RAM_TIGHT_MIB, RAM_LEAST_MIB = 256, 120
SWAPPED_MIB = 64
RAM_TOLERANCE = 0.15
OLDEST_AGENT_PYTHON = (3, 8)
# Works without a compiler and as any user, from Python 3.8 and glibc 2.17 on.
# Source: uv's documentation, "Installing Python".
NEW_PYTHON = "python3 -m pip install --user uv && python3 -m uv python install 3.11"


def check_system(facts: Facts, device: Device | None, runtime: str | None) -> tuple[Finding, ...]:
    """runtime: what the bundle needs; without one, the first of the profile's that edgevit makes bundles for."""
    runtimes = device.runtimes if device else ("onnxruntime",)
    needed = runtime or next((name for name in runtimes if name in RUNTIME_PACKAGES), "onnxruntime")
    return (
        *check_memory(facts, device),
        *check_disk(facts),
        *check_c_library(facts, device),
        *check_python(facts),
        *(
            check_wheel(facts, name, name == needed)
            for name in dict.fromkeys((needed, *runtimes))
            if name in RUNTIME_PACKAGES
        ),
    )


def check_memory(facts: Facts, device: Device | None) -> tuple[Finding, ...]:
    memory, findings = facts.memory, []
    if device is not None and memory.total and memory.total < (1 - RAM_TOLERANCE) * device.memory.ram_mib:
        findings.append(
            note(f"The board has {gib(memory.total)} of memory, {device.name} {gib(device.memory.ram_mib)}.")
        )
    if memory.available:
        free = f"{memory.available} MiB of memory are free"
        if memory.available < RAM_LEAST_MIB:
            findings.append(problem(f"{free}: a bundle of a DeiT-Ti needs some 100.", "ps aux --sort=-rss | head"))
        elif memory.available < RAM_TIGHT_MIB:
            findings.append(warning(f"{free}: a larger model will be swapped out.", "ps aux --sort=-rss | head"))
        else:
            findings.append(ok(f"{free}."))
    swapped = memory.swap_total - memory.swap_free
    if swapped > SWAPPED_MIB and memory.available < swapped:
        findings.append(
            warning(
                f"{swapped} MiB are swapped out: a latency may hold the disk's.",
                "sudo swapoff -a && sudo swapon -a  # after ending what fills the memory",
            )
        )
    return tuple(findings)


def check_disk(facts: Facts) -> tuple[Finding, ...]:
    free = facts.disk_free_mib
    if free is None:
        return ()
    what = f"{gib(free)} are free on the disk of '{facts.folder}'"
    if free >= DISK_TIGHT_MIB:
        return (ok(f"{what}."),)
    fix = "sudo apt-get clean; du -xh --max-depth=1 ~ | sort -h | tail"
    if free < DISK_LEAST_MIB:
        return (problem(f"{what}; a runtime and a bundle take {DISK_LEAST_MIB} MiB.", fix),)
    return (warning(f"{what}.", fix),)


def check_c_library(facts: Facts, device: Device | None) -> tuple[Finding, ...]:
    name = facts.machine.os
    if not facts.glibc:
        return (
            problem(
                f"{name} has no glibc (it may have musl): no runtime has a wheel for it.",
                "Install a system with glibc: Raspberry Pi OS, Debian, Ubuntu.",
            ),
        )
    if device is not None and numbers(facts.glibc) < numbers(device.os.glibc):
        return (
            warning(
                f"{name} has glibc {facts.glibc}, older than {device.os.glibc} of {device.name}: packages that were "
                "chosen for the profile may not load.",
                f"edgevit devices add --from-host USER@BOARD  # or install {device.os.name}",
            ),
        )
    return (ok(f"{name} with glibc {facts.glibc}."),)


def check_python(facts: Facts) -> tuple[Finding, ...]:
    python = facts.machine.python
    if numbers(python)[:2] < OLDEST_AGENT_PYTHON:
        return (problem(f"Python {python} is older than 3.8, the oldest that a bundle runs on.", NEW_PYTHON),)
    findings = [ok(f"Python {python}.")]
    if not facts.has_venv:
        what = f"Python {python} cannot make a virtual environment (ensurepip is missing)."
        findings.append(problem(what, f"sudo apt-get install python{facts.python}-venv"))
    return tuple(findings)


def check_wheel(facts: Facts, runtime: str, is_needed: bool) -> Finding:
    """Whether the board's Python can install the runtime. is_needed: without it the bundle does not run."""
    arch, glibc = facts.machine.arch, facts.glibc or "0.0"
    try:
        if runtime in RUNTIME_PACKAGES:
            return ok(
                f"Python {facts.python} installs {' '.join(board_requirements(runtime, (facts.python,), glibc, arch))}."
            )
        return ok(f"Python {facts.python} installs {runtime_wheel(runtime, facts.python, glibc, arch)}.")
    except DeviceError as error:
        what = str(error).split(": install", 1)[0] + "."
        other = _python_with(facts, runtime, glibc, arch)
        fix = f"python{other} -m venv edgevit-venv  # this Python has one" if other else NEW_PYTHON
        return problem(what, fix) if is_needed else note(what, fix)


def _python_with(facts: Facts, runtime: str, glibc: str, arch: str) -> str | None:
    """The newest other Python on the board that the runtime has a wheel for."""
    for python in reversed(facts.pythons):
        try:
            runtime_wheel(runtime, python, glibc, arch)
        except DeviceError:
            continue
        return python
    return None
