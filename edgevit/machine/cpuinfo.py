"""Reads /proc/cpuinfo of x86 and ARM machines: core clusters, instruction-set flags, a name for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from edgevit.board.linux import ARM_PARTS
from edgevit.device import Arch, CoreCluster

UNKNOWN_CLOCK_MHZ = 1000

# The flags that decide which kernels a runtime picks; the other hundred say nothing about inference.
_MATTERS = re.compile(r"sse4_2|avx\w*|fma|f16c|amx_\w+|neon|vfpv4|asimd\w*|fphp|i8mm|bf16|sve\w*|sme2?")


class Peak(NamedTuple):
    """Operations per core and cycle; a multiply-accumulate counts as two."""

    fp32: int
    fp16: int | None
    int8: int


class ArmCore(NamedTuple):
    model: str
    peak: Peak


# One 128-bit multiply-accumulate a cycle on the A53, A55 and A57, two on the A76 and later; SMLAL takes 8 products
# an instruction, SDOT 16; the A72 is counted as the A57.
# Source: pipelines in Arm's Software Optimization Guides of these cores, part numbers in their Technical Reference
# Manuals. Carmel's pipes are from memory, not confirmed.
_ARM_PEAKS = {
    (0x41, 0xD03): Peak(8, None, 16),
    (0x41, 0xD05): Peak(8, 16, 32),
    (0x41, 0xD07): Peak(8, None, 16),
    (0x41, 0xD08): Peak(8, None, 16),
    (0x41, 0xD0B): Peak(16, 32, 64),
    (0x41, 0xD0C): Peak(16, 32, 64),
    (0x41, 0xD41): Peak(16, 32, 64),
    (0x41, 0xD42): Peak(16, 32, 64),
    (0x4E, 0x004): Peak(16, 32, 32),
}
ARM_CORES = {key: ArmCore(ARM_PARTS[f"0x{key[1]:03x}"], peak) for key, peak in _ARM_PEAKS.items()}


def parse_isa(cpuinfo: str) -> tuple[str, ...]:
    """The vector instructions that every processor has, as cpuinfo spells them, in the first one's order."""
    of_each = [block.get("flags", block.get("Features", "")).split() for block in _processors(cpuinfo)]
    if not of_each:
        return ()
    common = set(of_each[0]).intersection(*of_each)
    return select_isa(flag for flag in of_each[0] if flag in common)


def select_isa(flags: Iterable[str]) -> tuple[str, ...]:
    """Of these flags, those that decide which kernels a runtime picks: a profile may list the others too."""
    return tuple(flag for flag in flags if _MATTERS.fullmatch(flag))


def parse_title(cpuinfo: str) -> str:
    """The board's or the processor's own name; '' where it has none."""
    board = re.search(r"^Model\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if board:
        return board[1].strip()
    names = [block["model name"] for block in _processors(cpuinfo) if "model name" in block]
    # On ARM the kernel writes only 'ARMv8 Processor rev 1 (v8l)' here, which names no processor.
    return names[0] if names and not names[0].startswith("ARMv") else ""


def parse_clusters(cpuinfo: str, arch: Arch, cores: int, max_mhz: tuple[int, ...] = ()) -> tuple[CoreCluster, ...]:
    """Clusters of like cores, fastest first.

    cores: physical cores, where cpuinfo counts threads (x86) or nothing. max_mhz: of each processor, or empty; then
    cpuinfo's own clock counts, and UNKNOWN_CLOCK_MHZ where it has none.
    """
    blocks = _processors(cpuinfo)
    isa = frozenset(parse_isa(cpuinfo))
    if arch == "x86_64" or not blocks:
        model = parse_title(cpuinfo) or f"unknown {arch} core"
        clock = max(max_mhz, default=0) or max((_mhz(block) for block in blocks), default=0)
        return (_cluster(model, cores, clock, x86_peak(isa) if arch == "x86_64" else arm_peak(isa)),)
    parts = [_part(block) for block in blocks]
    clusters = []
    for part, count in Counter(parts).items():
        core = ARM_CORES.get(part) or ArmCore(_arm_name(*part), arm_peak(isa))
        clock = max((mhz for mhz, other in zip(max_mhz, parts, strict=False) if other == part), default=0)
        clusters.append(_cluster(core.model, count, clock, core.peak))
    return tuple(sorted(clusters, key=lambda cluster: -cluster.clock_mhz * cluster.fp32_flops_per_cycle))


def x86_peak(isa: frozenset[str]) -> Peak:
    """Derived for two 256-bit multiply-add pipes (one 512-bit pipe is the same); narrower cores do half of it.

    8-bit products without VNNI take VPMADDUBSW, VPMADDWD and VPADDD: half of what VNNI does.
    """
    if "avx2" not in isa:
        return Peak(8, None, 16)
    has_vnni = bool(isa & {"avx512_vnni", "avx_vnni"})
    return Peak(32, 64 if "avx512_fp16" in isa else None, 128 if has_vnni else 64)


def arm_peak(isa: frozenset[str]) -> Peak:
    """Derived for one 128-bit multiply-accumulate a cycle: the least that a 64-bit core does."""
    return Peak(8, 16 if "asimdhp" in isa else None, 32 if "asimddp" in isa else 16)


def _arm_name(implementer: int, part: int) -> str:
    """Of a core whose peak is not in the table."""
    named = ARM_PARTS.get(f"0x{part:03x}") if implementer == 0x41 else None
    return named or f"ARM core 0x{implementer:02x}/0x{part:03x}"


def _cluster(model: str, cores: int, clock_mhz: int, peak: Peak) -> CoreCluster:
    return CoreCluster(
        model=model,
        cores=cores,
        clock_mhz=clock_mhz or UNKNOWN_CLOCK_MHZ,
        fp32_flops_per_cycle=peak.fp32,
        fp16_flops_per_cycle=peak.fp16,
        int8_ops_per_cycle=peak.int8,
    )


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """Key and value of each line, by processor; what the machine says as a whole is left out."""
    blocks: list[dict[str, str]] = []
    for paragraph in re.split(r"\n\s*\n", cpuinfo):
        pairs = (line.split(":", 1) for line in paragraph.splitlines() if ":" in line)
        block = {key.strip(): value.strip() for key, value in pairs}
        if "processor" in block:
            blocks.append(block)
    return blocks


def _part(block: dict[str, str]) -> tuple[int, int]:
    """(implementer, part), as MIDR has them; zeros where the kernel does not say."""
    return _number(block.get("CPU implementer", "")), _number(block.get("CPU part", ""))


def _number(text: str) -> int:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", text) else 0


def _mhz(block: dict[str, str]) -> int:
    text = block.get("cpu MHz", "")
    return round(float(text)) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0
