"""Fitness: whether a board is what a bundle was made for. Another architecture is refused, another CPU is noted."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.artifact import TargetInfo
from edgevit.board.linux import machine_arch
from edgevit.device import Device
from edgevit.errors import DeviceError
from edgevit.machine.cpuinfo import parse_clusters, parse_isa
from edgevit.remote.errands import BoardFacts
from edgevit.remote.host import Host

# Vector instructions by which runtimes choose their kernels; the others say little about a figure.
DECISIVE = frozenset({"asimddp", "asimdhp", "i8mm", "bf16", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni"})


@dataclass(frozen=True)
class Fitness:
    """is_target: the board is of the kind that the profile describes, by what can be told from its CPU."""

    is_target: bool
    notes: tuple[str, ...] = ()


def judge_fitness(host: Host, target: TargetInfo, profile: Device | None, facts: BoardFacts) -> Fitness:
    """Raises DeviceError when nothing on the board can run the bundle. profile: None for one that is not known here."""
    arch = machine_arch(facts.machine)
    if facts.system != "Linux":
        raise DeviceError(f"{host}: runs {facts.system[:40] or 'no known system'}, and boards run Linux.")
    if arch != target.arch:
        raise DeviceError(
            f"{host}: is {arch}, and this bundle is for {target.arch} ({target.name}). Export it again with --device "
            "and a board of that architecture: edgevit devices"
        )
    if profile is None:
        return Fitness(False)
    flags = frozenset(parse_isa(facts.cpuinfo))
    lacking = sorted((DECISIVE & set(profile.cpu.isa)) - flags)
    if flags and lacking:
        note = (
            f"This board lacks {', '.join(lacking)}, which {profile.name} has: what was chosen for {profile.name} may "
            "not be the fastest here."
        )
        return Fitness(False, (note,))
    if arch != "x86_64" and flags:
        cores = {cluster.model for cluster in parse_clusters(facts.cpuinfo, profile.arch, 1)}
        wanted = {cluster.model for cluster in profile.cpu.clusters}
        if cores != wanted:
            note = f"This board's cores are {' and '.join(sorted(cores))}; those of {profile.name} are"
            return Fitness(False, (f"{note} {' and '.join(sorted(wanted))}.",))
    return Fitness(arch != "x86_64" and bool(flags))
