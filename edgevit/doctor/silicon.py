"""The processor: its instructions, its cores and its clocks, against the device profile."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.benchreport import Machine
from edgevit.device import Device
from edgevit.doctor.finding import Finding, note, ok, problem, warning
from edgevit.machine.cpuinfo import select_isa
from edgevit.machine.facts import Facts

INT8_FLAGS = {"x86_64": ("avx512_vnni", "avx_vnni"), "aarch64": ("asimddp",)}
# Without these a kernel chosen for the profile's core ends with 'Illegal instruction', or another runs, far slower.
KERNEL_FLAGS = {
    "asimddp": "dot products (SDOT)", "i8mm": "matrix products of bytes (SMMLA)", "asimdhp": "fp16 arithmetic",
    "avx2": "AVX2", "fma": "FMA", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI",
}  # fmt: skip
CLOCK_TOLERANCE = 0.05


def check_silicon(facts: Facts, device: Device | None) -> tuple[Finding, ...]:
    """What INT8 has here; with a profile, also whether this is the processor that it describes."""
    return (
        check_int8(facts.machine, facts.isa),
        *(check_profile(facts, device) if device is not None else ()),
        *check_capped(facts),
    )


def dot_products(machine: Machine, isa: Sequence[str]) -> list[str]:
    """Those of INT8_FLAGS that a machine with these instructions has."""
    return sorted(set(isa).intersection(INT8_FLAGS.get(machine.arch, ())))


def check_int8(machine: Machine, isa: Sequence[str]) -> Finding:
    found = dot_products(machine, isa)
    if found:
        return ok(f"{machine.cpu} multiplies INT8 natively ({', '.join(found)}).")
    wanted = " or ".join(INT8_FLAGS.get(machine.arch, ("asimddp",)))
    return note(f"{machine.cpu} has no INT8 dot product ({wanted}): INT8 gains less than on one that has.")


def check_profile(facts: Facts, device: Device) -> tuple[Finding, ...]:
    if facts.machine.arch != device.arch:
        return (
            problem(
                f"{device.name} is {device.arch} and this board is {facts.machine.arch}: it is another board.",
                "edgevit devices  # the profile that fits",
            ),
        )
    return (*_check_flags(facts, device), *_check_cores(facts, device), *_check_clock(facts, device))


def _check_flags(facts: Facts, device: Device) -> tuple[Finding, ...]:
    isa = set(facts.isa)
    if not isa:
        return (note("The board's /proc/cpuinfo names no instructions, so they are not compared."),)
    missing = [flag for flag in select_isa(device.cpu.isa) if flag not in isa]
    vital = [flag for flag in missing if flag in KERNEL_FLAGS]
    findings = []
    if vital:
        names = ", ".join(f"{flag} ({KERNEL_FLAGS[flag]})" for flag in vital)
        findings.append(
            problem(
                f"This processor lacks {names} of {device.name}: a bundle for {device.name} may end with 'Illegal "
                "instruction' or run many times slower.",
                "edgevit devices add --from-host USER@BOARD  # then export for that profile",
            )
        )
    elif missing:
        findings.append(
            note(f"This processor lacks {', '.join(missing)} of {device.name}, which no kernel here needs.")
        )
    else:
        findings.append(
            ok(f"The processor has the instructions of {device.name}: {', '.join(select_isa(device.cpu.isa))}.")
        )
    more = [flag for flag in facts.isa if flag in KERNEL_FLAGS and flag not in device.cpu.isa]
    if more:
        names = ", ".join(f"{flag} ({KERNEL_FLAGS[flag]})" for flag in more)
        findings.append(
            warning(
                f"This processor has {names}, which {device.name} lacks: INT8 looks better here than there.",
                "edgevit devices add --from-host USER@BOARD  # a profile of its own",
            )
        )
    return tuple(findings)


def _check_cores(facts: Facts, device: Device) -> tuple[Finding, ...]:
    if facts.cores == device.cpu.cores:
        return (ok(f"{facts.cores} cores, as {device.name} has."),)
    if facts.cores > device.cpu.cores:
        return (note(f"{facts.cores} cores, and {device.name} has {device.cpu.cores}: it is a larger one."),)
    fix = "sudo nvpmodel -m 0  # the mode with all cores" if facts.jetson else "cat /sys/devices/system/cpu/online"
    return (warning(f"{facts.cores} of {device.name}'s {device.cpu.cores} cores can be used.", fix),)


def _check_clock(facts: Facts, device: Device) -> tuple[Finding, ...]:
    said, wanted = max(facts.max_mhz, default=0), device.cpu.clusters[0].clock_mhz
    if not said:
        return (note("The highest clock cannot be seen, so it is not compared."),)
    if abs(said - wanted) <= CLOCK_TOLERANCE * wanted:
        return (ok(f"The highest clock is {said} MHz, as {device.name} has."),)
    fix = (
        "sudo nvpmodel -m 0  # the mode with the highest clocks" if facts.jetson else "edgevit devices add --from-host"
    )
    return (warning(f"The highest clock is {said} MHz, and {device.name} has {wanted} MHz.", fix),)


def check_capped(facts: Facts) -> tuple[Finding, ...]:
    """Whether a limit below the processor's own is set."""
    said, span = max(facts.max_mhz, default=0), facts.sensors.clock_range_mhz
    if not said or span is None or span[1] >= (1 - CLOCK_TOLERANCE) * said:
        return ()
    khz = said * 1000
    return (
        warning(
            f"The clock is limited to {span[1]:.0f} of {said} MHz.",
            f"echo {khz} | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq",
        ),
    )
