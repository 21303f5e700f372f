"""The host that edgevit runs on: its Python, its packages, its room, and whether it can stand for a board."""

from __future__ import annotations

from edgevit.device import Device
from edgevit.doctor.calm import check_calm
from edgevit.doctor.finding import Finding, Severity, gib, numbers
from edgevit.doctor.silicon import check_int8, dot_products
from edgevit.errors import DeviceError
from edgevit.machine.cpuinfo import select_isa
from edgevit.machine.hostfacts import Facts, Requirement, gather_facts
from edgevit.machine.wheels import RUNTIME_PACKAGES, board_requirements

OLDEST_PYTHON = (3, 10)
OTHER_EXTRAS = {"dev"}  # edgevit's own checkers, no user's concern
# Exporting a DeiT-Ti may take 3 GiB at its peak; below 1 GiB not even a light bundle can be verified in peace.
RAM_TIGHT_MIB, RAM_LEAST_MIB = 3072, 1024
# A run keeps a checkpoint, its artifacts and a page; a full disk ends it.
DISK_TIGHT_MIB, DISK_LEAST_MIB = 4096, 512


def examine(device: Device | None = None) -> tuple[Finding, ...]:
    """Findings for this machine; with a `device`, also whether it can stand for that board and what the board needs."""
    return diagnose(gather_facts(), device)


def diagnose(facts: Facts, device: Device | None = None) -> tuple[Finding, ...]:
    """Findings that follow from `facts`, in the order in which they would be mended."""
    return (
        check_python(facts.machine.python),
        *check_packages(facts.requirements, facts.installed),
        *check_torchvision(facts.installed, facts.torchvision_needs),
        *check_room(facts.ram_free_mib, facts.disk_free_mib, facts.folder),
        *check_calm(facts.sensors, facts.machine),
        *check_cpu(facts, device),
        *check_offline(facts.offline_variables),
        *(check_board(device) if device else ()),
    )


def check_python(python: str) -> Finding:
    if numbers(python)[:2] >= OLDEST_PYTHON:
        return Finding(severity="ok", what=f"Python {python}.")
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        severity="problem",
        what=f"Python {python} is older than {oldest}, the oldest that edgevit runs on.",
        fix=f"python{oldest} -m venv .venv && .venv/bin/pip install edgevit",
    )


def check_packages(requirements: tuple[Requirement, ...], installed: dict[str, str]) -> tuple[Finding, ...]:
    """One finding an extra: complete, or what is missing or too old."""
    if not requirements:
        return (
            Finding(
                severity="problem",
                what="edgevit runs from a folder and is not installed, so its packages cannot be checked.",
                fix="pip install -e '.[train,export]'",
            ),
        )
    extras = dict.fromkeys(r.extra for r in requirements if r.extra not in OTHER_EXTRAS)
    return tuple(_check_extra(extra, [r for r in requirements if r.extra == extra], installed) for extra in extras)


def check_torchvision(installed: dict[str, str], needs: str) -> tuple[Finding, ...]:
    """Whether torch and torchvision were built for each other. Source: https://github.com/pytorch/vision/issues/8696."""
    torch, torchvision = installed.get("torch", ""), installed.get("torchvision", "")
    if not torch or not torchvision:
        return ()
    if needs and numbers(torch) != numbers(needs):
        return (
            Finding(
                severity="problem",
                what=f"torchvision {torchvision} is built for torch {needs}, and torch {torch} is installed.",
                fix="pip install --upgrade torch torchvision",
            ),
        )
    if torch.partition("+")[2] != torchvision.partition("+")[2]:
        return (
            Finding(
                severity="note",
                what=f"torch {torch} and torchvision {torchvision} come from different builds: torchvision's compiled "
                "operators may not load. edgevit declares the ones that timm asks for then: nothing to do.",
            ),
        )
    return (Finding(severity="ok", what=f"torch {torch} and torchvision {torchvision} match."),)


def check_room(ram_free_mib: float, disk_free_mib: float, folder: str) -> tuple[Finding, ...]:
    ram, disk = gib(ram_free_mib), gib(disk_free_mib)
    return (
        Finding(
            severity=_room(ram_free_mib, RAM_TIGHT_MIB, RAM_LEAST_MIB),
            what=f"{ram} of memory are free; exporting a DeiT-Ti may take {gib(RAM_TIGHT_MIB)}.",
            fix="" if ram_free_mib >= RAM_TIGHT_MIB else "ps aux --sort=-rss | head",
        ),
        Finding(
            severity=_room(disk_free_mib, DISK_TIGHT_MIB, DISK_LEAST_MIB),
            what=f"{disk} are free on the disk of '{folder}'.",
            fix="" if disk_free_mib >= DISK_TIGHT_MIB else f"du -xh --max-depth=1 '{folder}' | sort -h",
        ),
    )


def check_cpu(facts: Facts, device: Device | None) -> tuple[Finding, ...]:
    """What INT8 has on this CPU, and whether it can stand for the device's."""
    stand_in = _check_stand_in(facts, device) if device else None
    return check_int8(facts.machine, facts.isa), *((stand_in,) if stand_in else ())


def _check_stand_in(facts: Facts, device: Device) -> Finding | None:
    """What keeps a latency that is measured here from being the device's; None when nothing does."""
    arch = facts.machine.arch
    severity: Severity = "warning"
    more = [flag for flag in dot_products(facts.machine, facts.isa) if flag not in device.cpu.isa]
    missing = [flag for flag in select_isa(device.cpu.isa) if flag not in facts.isa]
    if device.arch != arch or facts.machine.is_emulated:
        here = f"an emulated {arch}" if facts.machine.is_emulated else arch
        severity = "note"
        what = (
            f"{device.name} is {device.arch} and this machine is {here}: "
            "artifacts are built and verified here, never measured for it."
        )
    elif more:
        what = f"This CPU has {', '.join(more)}, which {device.name} lacks: INT8 looks better here than there."
    elif missing:
        what = f"This CPU lacks {', '.join(missing)} of {device.name}: a latency from here says little about it."
    else:
        return None
    return Finding(
        severity=severity,
        what=what,
        fix=f"On {device.name}, in the bundle's folder: python3 agent.py bench",
    )


def check_offline(variables: tuple[str, ...]) -> tuple[Finding, ...]:
    if not variables:
        return ()
    return (
        Finding(
            severity="note",
            what=f"The model hub is switched off ({', '.join(variables)}): "
            "pretrained weights come from the cache only.",
            fix=f"unset {' '.join(variables)}",
        ),
    )


def check_board(device: Device) -> tuple[Finding, ...]:
    """What the board's Python can install for the first of its runtimes that edgevit makes artifacts for."""
    runtime = next((name for name in device.runtimes if name in RUNTIME_PACKAGES), "onnxruntime")
    findings = []
    for python in device.os.python:
        try:
            pins = " ".join(board_requirements(runtime, (python,), device.os.glibc, device.arch))
            findings.append(Finding(severity="ok", what=f"{device.name} with Python {python} installs {pins}."))
        except DeviceError as error:
            findings.append(
                Finding(
                    severity="problem" if len(device.os.python) == 1 else "note",
                    what=f"{device.name}: {error}",
                )
            )
    return tuple(findings)


def _check_extra(extra: str, requirements: list[Requirement], installed: dict[str, str]) -> Finding:
    title = f"The extra [{extra}]" if extra else "The light install"
    missing = [r.package for r in requirements if r.package not in installed]
    old = [
        f"{r.package} {installed[r.package]} (needs {r.least})"
        for r in requirements
        if r.package in installed and r.least and numbers(installed[r.package]) < numbers(r.least)
    ]
    if not missing and not old:
        versions = ", ".join(f"{r.package} {installed[r.package]}" for r in requirements)
        return Finding(severity="ok", what=f"{title} is complete: {versions}.")
    lacks = [f"lacks {', '.join(missing)}"] if missing else []
    outdated = [f"has too old a {', '.join(old)}"] if old else []
    return Finding(
        severity="note" if extra and not old else "problem",
        what=f"{title} {' and '.join([*lacks, *outdated])}.",
        fix=f"pip install --upgrade 'edgevit[{extra}]'" if extra else "pip install --upgrade edgevit",
    )


def _room(free_mib: float, tight_mib: float, least_mib: float) -> Severity:
    return "problem" if free_mib < least_mib else "warning" if free_mib < tight_mib else "ok"
