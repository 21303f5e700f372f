"""Real texts of /proc, the source of each beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.board.linux import (
    cpu_name,
    energy_uj,
    foreign_share,
    hottest_zone,
    is_emulated,
    machine_arch,
    parse_cpu_times,
    parse_load,
    parse_memory,
    parse_os_release,
    parse_pressure,
)

# A virtual machine with two cores of an AMD EPYC, kernel 6.1; its interrupt counts are cut
STAT = """\
cpu  287770 0 32130 103632 722 0 191 1456 0 0
cpu0 113494 0 12808 85191 461 0 16 760 0 0
cpu1 174275 0 19322 18441 261 0 175 695 0 0
intr 1941366 0 0 0
ctxt 4122334
btime 1763724000
"""
# Source: https://github.com/flatcar-archive/coreos-overlay/pull/638
PRESSURE = "some avg10=0.13 avg60=0.68 avg300=0.28 total=1195993\n"
# Source: https://github.com/eminence/procfs/issues/40
HARD_PRESSURE = (
    "some avg10=70.24 avg60=68.52 avg300=69.91 total=3559632828\n"
    "full avg10=57.59 avg60=58.06 avg300=60.38 total=3300487258\n"
)
# Source: Linux, Documentation/filesystems/proc.rst, /proc/meminfo, with the swap of a Raspberry Pi OS
MEMINFO = """\
MemTotal:       32858820 kB
MemFree:        21001236 kB
MemAvailable:   27214312 kB
Buffers:          581092 kB
SwapTotal:        102396 kB
SwapFree:          51200 kB
"""
# Source: /etc/os-release of Raspberry Pi OS (bookworm)
OS_RELEASE = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
"""


def test_load_is_that_of_the_last_minute() -> None:
    # Source: https://github.com/prometheus/procfs, fixtures
    assert parse_load("0.02 0.04 0.05 1/497 11947\n") == 0.02
    assert parse_load("1.25 0 0") == 1.25
    assert [parse_load(text) for text in ("", "nan 0 0", "1.2.3 0", "x")] == [None] * 4


def test_pressure_is_the_share_of_ten_seconds_in_which_some_task_waited() -> None:
    assert (parse_pressure(PRESSURE), parse_pressure(HARD_PRESSURE)) == (0.13, 70.24)
    assert (parse_pressure(""), parse_pressure("full avg10=1.0 avg60=1")) == (None, None)


def test_cpu_times_are_busy_and_idle_ticks_of_each_processor() -> None:
    assert parse_cpu_times(STAT) == {
        0: (113494 + 12808 + 16 + 760, 85191 + 461),
        1: (174275 + 19322 + 175 + 695, 18441 + 261),
    }
    # an old kernel has four columns, and time in a guest is in that of the user already
    assert parse_cpu_times("cpu0 1 2 3 4\n") == {0: (6, 4)}
    assert parse_cpu_times("cpu0 10 0 0 5 0 0 0 0 7 7\n") == {0: (10, 5)}
    assert parse_cpu_times("") == {}


BEFORE = {0: (1000, 1000), 1: (0, 0)}


@pytest.mark.parametrize(
    ("busy", "own", "share"),
    [
        (300, 300, 0.0),  # all of it was ours
        (300, 270, 0.1),  # 30 of 300 ticks
        (300, 310, 0.0),  # rounding
        (150, 0, 0.5),
        (100, 250, None),  # the counters do not know of most of our time
    ],
)
def test_the_share_of_others_is_what_was_busy_without_us(busy: int, own: float, share: float | None) -> None:
    after = {0: (1000 + busy, 1000 + 300 - busy), 1: (300, 0)}
    assert foreign_share(BEFORE, after, own, [0]) == (None if share is None else pytest.approx(share))


def test_what_others_do_on_processors_that_are_not_ours_does_not_count() -> None:
    after = {0: (1300, 1000), 1: (300, 0)}
    assert foreign_share(BEFORE, after, 300, [0]) == 0.0
    assert foreign_share(BEFORE, after, 300, [0, 1]) == 0.5


def test_counters_that_stand_still_or_go_back_say_nothing() -> None:
    assert foreign_share(BEFORE, BEFORE, 0, [0]) is None
    assert foreign_share(BEFORE, {0: (1020, 1020)}, 20, [0]) is None
    assert foreign_share(BEFORE, {0: (900, 1200)}, 0, [0]) is None
    assert foreign_share(BEFORE, {0: (1200, 900)}, 0, [0]) is None
    assert foreign_share({}, {}, 0, [0]) is None


def test_memory_and_swap_are_in_mib() -> None:
    assert parse_memory(MEMINFO) == {"total": 32088, "available": 26576, "swap_total": 99, "swap_free": 50}
    assert parse_memory("") == {}


def test_os_release_loses_its_quotes() -> None:
    found = parse_os_release(OS_RELEASE)
    assert (found["ID"], found["VERSION_ID"], found["PRETTY_NAME"]) == (
        "debian",
        "12",
        "Debian GNU/Linux 12 (bookworm)",
    )


def test_a_pmic_with_its_fixed_figure_is_no_temperature() -> None:
    # Source: thermal zones of a Jetson Nano and an AGX Orin in tegrastats, see test_jetson.py
    assert hottest_zone([("PMIC-Die", 100.0), ("GPU-therm", 40.0)]) == 40.0
    assert hottest_zone([("PMIC-Die", 100.0)]) is None
    assert hottest_zone([("GPU-therm", -256.0), ("AO-therm", 30.0)]) == 30.0
    assert hottest_zone([("acpitz", 90.0), ("x86_pkg_temp", 61.5)]) == 61.5
    assert hottest_zone([]) is None


def test_cpu_of_a_pi_is_its_core_and_its_board() -> None:
    cpuinfo = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU part\t: 0xd0b\n"
    assert cpu_name(cpuinfo, "Raspberry Pi 5 Model B Rev 1.0\0") == "Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)"
    assert cpu_name("CPU part\t: 0xd05\nCPU part\t: 0xd0b\n", "") == "Cortex-A55 + Cortex-A76"
    assert cpu_name("CPU part\t: 0xfff\n", "") == "ARM part 0xfff"
    assert cpu_name("CPU part\t: 0xd41\n", "") == "Cortex-A78"
    assert cpu_name("CPU part\t: 0x004\n", "") == "NVIDIA Carmel"
    assert cpu_name("model name\t: AMD EPYC 7763\n", "") == "AMD EPYC 7763"
    assert cpu_name("", "Some Board\0") == "Some Board"
    assert cpu_name("", "") == ""


def test_a_program_for_another_architecture_than_the_kernel_is_emulated() -> None:
    assert is_emulated("aarch64", "cpu:type:x86,ven0002fam0019mod0011:feature:,0000")
    assert is_emulated("x86_64", "cpu:type:aarch64:feature:,0000")
    assert not is_emulated("x86_64", "cpu:type:x86,ven0002")
    assert not is_emulated("aarch64", "cpu:type:aarch64:feature:,0000")
    assert not is_emulated("aarch64", "")


def test_architectures_are_spelled_as_in_profiles() -> None:
    assert [machine_arch(name) for name in ("armv7l", "arm64", "AMD64", "aarch64", "riscv64")] == [
        "armv7", "aarch64", "x86_64", "aarch64", "riscv64",
    ]  # fmt: skip


def test_energy_of_a_counter_that_begins_again_is_what_was_used() -> None:
    # The range of a Haswell's counter. Source: https://github.com/intel/thermal_daemon/issues/45
    full = 262_143_999_938
    assert energy_uj(2_469_474_853, 2_471_474_853, full) == 2_000_000
    assert energy_uj(full - 500_000, 1_500_000, full) == 2_000_000
    assert energy_uj(5.0, 1.0, 0.0) == 0.0


@given(st.text() | st.from_regex(r"(cpu[0-9]|some avg10=|MemTotal:|ID=)[ 0-9.a-z\"]{0,60}", fullmatch=True))
def test_any_text_is_read_without_an_error_or_nonsense(text: str) -> None:
    for value in (parse_load(text), parse_pressure(text)):
        assert value is None or (math.isfinite(value) and value >= 0)
    assert all(busy >= 0 and idle >= 0 for busy, idle in parse_cpu_times(text).values())
    assert all(mib >= 0 for mib in parse_memory(text).values())
    assert all("\n" not in value for value in parse_os_release(text).values())
    cpu_name(text, text)
    is_emulated(text, text)
    machine_arch(text)


ticks = st.dictionaries(st.integers(0, 3), st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))


@given(ticks, ticks, st.floats(0, 1e7), st.lists(st.integers(0, 4), unique=True))
def test_a_share_is_a_share(before: dict, after: dict, own: float, processors: list[int]) -> None:
    share = foreign_share(before, after, own, processors)
    assert share is None or 0 <= share <= 1


@given(st.lists(st.tuples(st.text(), st.floats(-300, 300))))
def test_the_hottest_zone_is_one_of_the_zones(zones: list[tuple[str, float]]) -> None:
    found = hottest_zone(zones)
    assert found is None or found in [degrees for _, degrees in zones]
