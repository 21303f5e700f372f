from __future__ import annotations

from edgevit.catalog import load_device
from edgevit.emulation.features import parse_features, shared_isa

# What glibc 2.36 prints for LD_SHOW_AUXV=1 under qemu 7.2 with -cpu cortex-a72 and cortex-a76.
A72 = (
    "AT_PAGESZ:            4096\nAT_HWCAP:             8fb\nAT_HWCAP2:            0x0\nAT_PLATFORM:          aarch64\n"
)
A76 = "AT_HWCAP:             119ffb\nAT_HWCAP2:            0x0\n"


def test_bits_are_named() -> None:
    # 0x8fb: bits 0, 1, 3 to 7 and 11
    assert parse_features(A72) == {"fp", "asimd", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid"}
    assert parse_features(A76) - parse_features(A72) == {
        "atomics", "fphp", "asimdhp", "asimdrdm", "lrcpc", "dcpop", "asimddp"
    }  # fmt: skip
    assert "i8mm" in parse_features("AT_HWCAP2: 0x2000")
    assert parse_features("") == frozenset()


def test_a_profile_is_held_to_what_the_emulated_cpu_has() -> None:
    rpi5 = load_device("rpi5")
    assert shared_isa(rpi5, parse_features(A76)) == (rpi5.cpu.isa, ())
    shared, lacking = shared_isa(rpi5, parse_features(A72))
    assert lacking == ("atomics", "fphp", "asimdhp", "asimdrdm", "lrcpc", "dcpop", "asimddp")
    assert sorted((*shared, *lacking)) == sorted(rpi5.cpu.isa)
