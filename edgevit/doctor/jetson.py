"""A Jetson: whether JetPack, CUDA and TensorRT belong together, its power mode and its clocks."""

from __future__ import annotations

from edgevit.device import Device
from edgevit.doctor.finding import Finding, note, ok, problem, warning
from edgevit.machine.facts import Facts, JetsonFacts
from edgevit.machine.jetpack import jetpack_of

BEST_MODES = ("MAXN", "MAXN_SUPER")
REINSTALL = "sudo apt-get update && sudo apt-get install --reinstall nvidia-jetpack"


def check_jetson(facts: Facts, device: Device | None) -> tuple[Finding, ...]:
    jetson = facts.jetson
    if jetson is None:
        return ()
    wants_tensorrt = device is not None and "tensorrt" in device.runtimes
    return (*check_triple(jetson, wants_tensorrt), check_mode(jetson), check_clocks(jetson))


def check_triple(jetson: JetsonFacts, wants_tensorrt: bool) -> tuple[Finding, ...]:
    """L4T, CUDA and TensorRT: those of one JetPack are built for each other."""
    if jetson.l4t is None:
        return (note("The release of Jetson Linux cannot be seen (a container?).", "cat /etc/nv_tegra_release"),)
    known = jetpack_of(jetson.l4t)
    found = f"Jetson Linux {jetson.l4t}, CUDA {jetson.cuda or 'none'}, TensorRT {jetson.tensorrt or 'none'}"
    if wants_tensorrt and jetson.tensorrt is None:
        return (warning(f"{found}: TensorRT is not installed.", "sudo apt-get install nvidia-jetpack"),)
    if known is None:
        return (note(f"{found}: this release is in no table here, so it is not judged."),)
    wrong = [
        f"{name} {wanted} belongs to JetPack {known.version}, not {version}"
        for name, version, wanted in (
            ("CUDA", jetson.cuda, known.cuda),
            ("TensorRT", jetson.tensorrt, known.tensorrt),
        )
        if version is not None and not f"{version}.".startswith(f"{wanted}.")
    ]
    if wrong:
        return (problem(f"{found} do not belong together: {'; '.join(wrong)}.", REINSTALL),)
    return (ok(f"JetPack {known.version}: {found}."),)


def check_mode(jetson: JetsonFacts) -> Finding:
    if jetson.power_mode is None:
        return note("The power mode cannot be seen.", "sudo nvpmodel -q")
    if jetson.power_mode in BEST_MODES:
        return ok(f"The power mode is {jetson.power_mode}.")
    return note(
        f"The power mode is {jetson.power_mode}: it caps clocks, and may switch cores off.",
        "grep 'POWER_MODEL ID' /etc/nvpmodel.conf && sudo nvpmodel -m ID_OF_MAXN",
    )


def check_clocks(jetson: JetsonFacts) -> Finding:
    if jetson.is_clock_locked is None:
        return note("Whether the clocks are locked can be seen with sudo only.", "sudo jetson_clocks --show")
    if jetson.is_clock_locked:
        return ok("The clocks are locked at their highest (jetson_clocks).")
    return warning("The clocks are not locked: they follow the load, and latencies with them.", "sudo jetson_clocks")
