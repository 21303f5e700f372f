"""The captures are /proc/cpuinfo as owners of these machines posted it, serial numbers left out:
Pi 4 fastfetch-cli/fastfetch#1529, Pi 5 hrw/arm-socs-table#96, Jetson Nano gist
kitsook/87f473503b42f313862c843d0798c35d, Xavier NX hrw/arm-socs-table#26 (first processor repeated), Agilex 5
hrw/arm-socs-table#202 (two kinds of cores),
Haswell ajaiantilal/i7z#9 (first processor only), Zen 4 a virtual machine of ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.machine.cpuinfo import UNKNOWN_CLOCK_MHZ, parse_clusters, parse_isa, parse_title

CAPTURES = Path(__file__).parent / "captures"


def capture(name: str) -> str:
    return (CAPTURES / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "model", "cores", "peak"),
    [
        ("raspberry-pi-4", "Cortex-A72", 4, (8, None, 16)),
        ("raspberry-pi-5", "Cortex-A76", 4, (16, 32, 64)),
        ("jetson-nano", "Cortex-A57", 4, (8, None, 16)),
        ("jetson-xavier-nx", "NVIDIA Carmel", 6, (16, 32, 32)),
    ],
)
def test_each_arm_board_is_one_cluster_of_its_cores(name, model, cores, peak):
    (cluster,) = parse_clusters(capture(name), "aarch64", cores=1)

    assert (cluster.model, cluster.cores) == (model, cores)
    assert (cluster.fp32_flops_per_cycle, cluster.fp16_flops_per_cycle, cluster.int8_ops_per_cycle) == peak


def test_unlike_cores_become_two_clusters_the_fast_one_first():
    fast, small = parse_clusters(capture("agilex-5"), "aarch64", 4, max_mhz=(1500, 1500, 1800, 1800))

    assert (fast.model, fast.cores, fast.clock_mhz) == ("Cortex-A76", 2, 1800)
    assert (small.model, small.cores, small.clock_mhz) == ("Cortex-A55", 2, 1500)


def test_a_cluster_whose_clock_nobody_tells_gets_the_assumed_one():
    (cluster,) = parse_clusters(capture("raspberry-pi-4"), "aarch64", 4)

    assert cluster.clock_mhz == UNKNOWN_CLOCK_MHZ


def test_x86_takes_the_cores_from_outside_and_the_clock_from_cpuinfo():
    (cluster,) = parse_clusters(capture("xeon-haswell"), "x86_64", cores=16)

    assert (cluster.model, cluster.cores) == ("Intel(R) Xeon(R) CPU E5-2698 v3 @ 2.30GHz", 16)
    assert cluster.clock_mhz == 2300
    # Two 256-bit FMA pipes: 2 * 8 lanes * 2 operations.
    assert cluster.fp32_flops_per_cycle == 2 * 8 * 2
    assert cluster.int8_ops_per_cycle == 64


def test_vnni_doubles_the_int8_peak():
    (cluster,) = parse_clusters(capture("epyc-zen4"), "x86_64", cores=2)

    # 64 products of 8 bits fit in 512 bits.
    assert cluster.int8_ops_per_cycle == 64 * 2


def test_x86_without_avx2_counts_sse_only():
    text = "processor : 0\nflags : fpu sse4_2\n"

    assert parse_clusters(text, "x86_64", 1)[0].fp32_flops_per_cycle == 8


def test_fp16_of_x86_needs_its_own_flag():
    text = "processor : 0\nflags : avx2 avx512_fp16\n"

    assert parse_clusters(text, "x86_64", 1)[0].fp16_flops_per_cycle == 64


def test_an_unknown_arm_core_is_named_by_its_numbers_and_counted_by_its_flags():
    text = "processor : 0\nFeatures : asimd asimdhp asimddp\nCPU implementer : 0x61\nCPU part : 0x022\n"

    (cluster,) = parse_clusters(text, "aarch64", 1)

    assert cluster.model == "ARM core 0x61/0x022"
    assert (cluster.fp32_flops_per_cycle, cluster.fp16_flops_per_cycle, cluster.int8_ops_per_cycle) == (8, 16, 32)


@pytest.mark.parametrize("text", ["", "garbage", "no : processor\n\n\n:\n"])
def test_a_cpuinfo_that_says_nothing_still_gives_one_cluster(text):
    (cluster,) = parse_clusters(text, "aarch64", cores=3)

    assert (cluster.model, cluster.cores, cluster.int8_ops_per_cycle) == ("unknown aarch64 core", 3, 16)
    assert parse_isa(text) == ()
    assert parse_title(text) == ""


def test_flags_are_those_that_every_core_has_and_that_matter():
    text = "processor : 0\nFeatures : fp asimd sha1 asimddp i8mm\n\nprocessor : 1\nFeatures : fp asimd sha1 asimddp\n"

    assert parse_isa(text) == ("asimd", "asimddp")


def test_flags_of_x86_keep_the_vector_instructions():
    assert parse_isa(capture("xeon-haswell")) == ("fma", "sse4_2", "avx", "f16c", "avx2")
    assert "avx512_vnni" in parse_isa(capture("epyc-zen4"))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("raspberry-pi-5", "Raspberry Pi 5 Model B Rev 1.0"),
        ("xeon-haswell", "Intel(R) Xeon(R) CPU E5-2698 v3 @ 2.30GHz"),
        ("jetson-nano", ""),
    ],
)
def test_the_title_is_the_boards_or_the_processors_own_name(name, title):
    assert parse_title(capture(name)) == title


def test_a_core_without_a_peak_of_its_own_still_has_its_name() -> None:
    block = "processor\t: 0\nFeatures\t: asimd\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    assert parse_clusters(block.format("0xd09"), "aarch64", 1)[0].model == "Cortex-A73"
    assert parse_clusters(block.format("0xfff"), "aarch64", 1)[0].model == "ARM core 0x41/0xfff"
