"""Features: what instructions an emulated CPU has, in the words of /proc/cpuinfo."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgevit.device import Device

# Source: Linux, arch/arm64/include/uapi/asm/hwcap.h; a name is at the place of its bit.
HWCAP = (
    "fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp", "cpuid",
    "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4", "asimddp", "sha512", "sve", "asimdfhm",
    "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb", "paca", "pacg",
)  # fmt: skip
HWCAP2 = (
    "dcpodp", "sve2", "sveaes", "svepmull", "svebitperm", "svesha3", "svesm4", "flagm2", "frint", "svei8mm",
    "svef32mm", "svef64mm", "svebf16", "i8mm", "bf16", "dgh",
)  # fmt: skip
# Source: sysdeps/unix/sysv/linux of glibc's dynamic linker, which prints them for LD_SHOW_AUXV=1.
_LINE = re.compile(r"^AT_(HWCAP2?):\s+(?:0x)?([0-9a-f]+)\s*$", re.MULTILINE)
# Of the kernel, not of the instruction set: qemu need not have them.
_OF_THE_KERNEL = ("evtstrm", "cpuid")


def parse_features(auxiliary: str) -> frozenset[str]:
    """Names of the bits that are set in what LD_SHOW_AUXV=1 prints; none where it prints none."""
    found = {name: int(value, 16) for name, value in _LINE.findall(auxiliary)}
    names = {"HWCAP": HWCAP, "HWCAP2": HWCAP2}
    return frozenset(word for key, bits in found.items() for bit, word in enumerate(names[key]) if bits >> bit & 1)


def shared_isa(device: Device, emulated: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What of the profile's isa the emulated CPU has as well, and what it lacks, both in the profile's order."""
    has = {*emulated, *_OF_THE_KERNEL}
    isa = device.cpu.isa
    return tuple(word for word in isa if word in has), tuple(word for word in isa if word not in has)
