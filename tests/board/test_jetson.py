"""Real outputs of a Jetson's tools, the source of each beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.board.jetson import module_watts, parse_jetson_clocks, parse_l4t, parse_power_mode, parse_tegrastats

# JetPack 4, Nano. Source: https://github.com/dusty-nv/jetson-inference/issues/1206
NANO_JP4 = (
    "RAM 1504/3956MB (lfb 331x4MB) IRAM 0/252kB(lfb 252kB) CPU [44%@1479,22%@1479,26%@1479,14%@1479] EMC_FREQ 7%@1600 "
    "GR3D_FREQ 86%@921 NVDEC 716 VIC_FREQ 0%@140 APE 25 PLL@39C CPU@44C PMIC@100C GPU@42.5C AO@47.5C thermal@42.5C "
    "POM_5V_IN 4531/3285 POM_5V_GPU 1113/213 POM_5V_CPU 539/722"
)
# JetPack 4.6, TX2 NX with two cores off and no rails. Source: https://github.com/rbonghi/jetson_stats/issues/187
TX2_JP4 = (
    "RAM 1689/3825MB (lfb 339x4MB) SWAP 0/1913MB (cached 0MB) CPU [3%@345,off,off,0%@345,1%@345,1%@345] EMC_FREQ 0% "
    "GR3D_FREQ 0% PLL@50.5C MCPU@50.5C PMIC@50C GPU@50C BCPU@50.5C thermal@50.3C"
)
# JetPack 5, AGX Orin. Source: https://github.com/catid/blog2022, content/posts/orin_opt.md
AGX_JP5 = (
    "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729,0%@729,0%@729,"
    "0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 "
    "VIC_FREQ 729 APE 174 CV0@-256C CPU@42.593C Tboard@32C SOC2@39.343C Tdiode@33.25C SOC0@39.375C CV1@-256C GPU@-256C "
    "tj@42.593C SOC1@40.468C CV2@-256C VDD_GPU_SOC 2399mW/2399mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4032mW/4032mW "
    "NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
# JetPack 6, Orin Nano. Source: https://github.com/henrygd/beszel, agent/gpu_test.go, reported in its issue 286
ORIN_JP6 = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729,14%@729,13%@729,"
    "11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 "
    "cpu@53.968C soc2@52.437C soc0@50.75C gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW "
    "VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW"
)
# The same board's line in the form of newer releases: now, average and peak of a rail, now and peak of a temperature
THREE_FIGURES = ORIN_JP6.replace("12479mW/12479mW", "12479mW/12479mW/12479mW").replace("tj@53.968C", "tj@53.968C/54C")
# JetPack 4.2, AGX Xavier. Source: https://github.com/martinkersner/gtop/pull/7
XAVIER_JP4 = (
    "RAM 14700/15692MB (lfb 3x2MB) SWAP 898/8192MB (cached 23MB) CPU [0%@1190,0%@1190,0%@1190,0%@1190,0%@1190,0%@1190,"
    "0%@1190,0%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@30C GPU@30.5C Tboard@31C Tdiode@32C AUX@30.5C CPU@31.5C "
    "thermal@30.8C PMIC@100C GPU 463/463 CPU 618/618 SOC 2936/2936 CV 0/0 VDDRQ 309/309 SYS5V 3306/3306"
)
# JetPack 5, AGX Orin, as it boots. Source: https://github.com/rbonghi/jetson_stats/issues/381 (the first cores)
CLOCKS_ORIN = """\
SOC family:tegra234  Machine:NVIDIA Orin Jetson-Small Developer Kit
Online CPUs: 0-11
cpu0: Online=1 Governor=schedutil MinFreq=115200 MaxFreq=2201600 CurrentFreq=2112000 IdleStates: WFI=1 c7=1 \n\
cpu1: Online=1 Governor=schedutil MinFreq=115200 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: WFI=1 c7=1 \n\
"""
# JetPack 5, AGX Orin, as it boots. Source: https://github.com/catid/blog2022, content/posts/orin_opt.md (2 cores)
CLOCKS_AGX = """\
SOC family:tegra234  Machine:Jetson AGX Orin
Online CPUs: 0-11
cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: WFI=1 c7=1 \n\
cpu10: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=1113600 IdleStates: WFI=1 c7=1 \n\
GPU MinFreq=306000000 MaxFreq=1300500000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=2133000000 FreqOverride=0
DLA0_CORE:   Online=1 MinFreq=0 MaxFreq=1600000000 CurrentFreq=1600000000
FAN Dynamic Speed control=active hwmon2_pwm1=55
NV Power Mode: MAXN
"""
REAL = (NANO_JP4, TX2_JP4, AGX_JP5, ORIN_JP6, THREE_FIGURES, XAVIER_JP4)


def test_tegrastats_of_jetpack_4_on_a_nano() -> None:
    found = parse_tegrastats(NANO_JP4)
    assert found == {
        "ram_mib": (1504, 3956),
        "swap_mib": None,
        "cpus": [(44, 1479), (22, 1479), (26, 1479), (14, 1479)],
        "gpu_percent": 86,
        "temperatures_c": {"PLL": 39.0, "CPU": 44.0, "PMIC": 100.0, "GPU": 42.5, "AO": 47.5, "thermal": 42.5},
        "rails_w": {"POM_5V_IN": 4.531, "POM_5V_GPU": 1.113, "POM_5V_CPU": 0.539},
    }


def test_cores_that_are_off_are_none() -> None:
    found = parse_tegrastats(TX2_JP4) or {}
    assert found["cpus"] == [(3, 345), None, None, (0, 345), (1, 345), (1, 345)]
    assert (found["swap_mib"], found["rails_w"]) == ((0, 1913), {})


def test_sensors_without_power_and_channels_without_a_wire_are_left_out() -> None:
    found = parse_tegrastats(AGX_JP5) or {}
    assert "GPU" not in found["temperatures_c"]
    assert found["temperatures_c"]["tj"] == 42.593
    assert set(found["rails_w"]) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}


def test_tegrastats_of_jetpack_6() -> None:
    found = parse_tegrastats(ORIN_JP6) or {}
    assert (found["ram_mib"], found["swap_mib"], found["gpu_percent"]) == ((6185, 7620), (851, 3810), 63)
    assert found["temperatures_c"]["cpu"] == 53.968
    assert parse_tegrastats(THREE_FIGURES) == found


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        (NANO_JP4, 4.531),
        (TX2_JP4, None),
        (AGX_JP5, 2.399 + 0.4 + 4.032),  # VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0
        (ORIN_JP6, 12.479),
        (THREE_FIGURES, 12.479),
        (XAVIER_JP4, 0.463 + 0.618 + 2.936 + 0 + 0.309 + 3.306),
    ],
)
def test_power_of_the_module_is_its_input_or_the_rails_that_feed_it(line: str, watts: float | None) -> None:
    found = module_watts((parse_tegrastats(line) or {})["rails_w"])
    assert found == (None if watts is None else pytest.approx(watts))


def test_rails_that_say_nothing_or_a_part_are_no_power() -> None:
    assert module_watts({}) is None
    assert module_watts({"VDD_IN": 0.0}) is None
    assert module_watts({"VDD_SOC": 1.4}) is None
    assert module_watts(dict.fromkeys(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 0.0)) is None


def test_another_line_is_no_tegrastats() -> None:
    assert parse_tegrastats("") is None
    assert parse_tegrastats("tegrastats: command not found") is None
    # JetPack 3 said one clock for all cores
    old = parse_tegrastats("RAM 3607/3983MB (lfb 47x4MB) SWAP 873/8192MB (cached 281MB) cpu [17%,11%,65%,0%]@1734")
    assert old is None
    assert (parse_tegrastats("CPU [17%,11%]@1734") or {})["cpus"] == [None, None]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        # Source: https://github.com/anduril/jetpack-nixos/pull/460
        ("NV Power Mode: MAXN\n0\n", ("MAXN", 0)),
        # Source: https://github.com/lkk688/edgeAI, docs/curriculum, an Orin Nano with JetPack 6.2
        ("NV Power Mode: MAXN_SUPER\n2\n", ("MAXN_SUPER", 2)),
        # with warnings before it, as nvpmodel prints them on boards without a fan's profile
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n", ("MAXN", 0)),
        ("NV Power Mode: 15W", ("15W", None)),
        ("bash: nvpmodel: command not found", None),
        ("", None),
    ],
)
def test_the_power_mode_has_a_name_and_a_number(text: str, mode: tuple[str, int | None] | None) -> None:
    assert parse_power_mode(text) == mode


def test_jetson_clocks_are_locked_when_lowest_is_highest() -> None:
    assert parse_jetson_clocks(CLOCKS_ORIN) == {"governors": ["schedutil"], "is_locked": False}
    assert parse_jetson_clocks(CLOCKS_AGX) == {"governors": ["schedutil"], "is_locked": False}
    # what `sudo jetson_clocks` does to it
    cores = CLOCKS_AGX.replace("MinFreq=729600", "MinFreq=2201600")
    assert not (parse_jetson_clocks(cores) or {})["is_locked"]
    locked = cores.replace("GPU MinFreq=306000000", "GPU MinFreq=1300500000")
    assert parse_jetson_clocks(locked) == {"governors": ["schedutil"], "is_locked": True}
    off = locked + "cpu4: Online=0 Governor=schedutil MinFreq=1 MaxFreq=2 CurrentFreq=1\n"
    assert (parse_jetson_clocks(off) or {})["is_locked"]


def test_jetson_clocks_without_sudo_says_nothing() -> None:
    assert parse_jetson_clocks("Error: Please run as root user.") is None


@pytest.mark.parametrize(
    ("text", "release"),
    [
        # The form is NVIDIA's; a mock in an application's tests says it is the real file of JetPack 6.1
        (
            "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64, "
            "DATE: Fri Sep 13 04:36:44 UTC 2024\n# KERNEL_VARIANT: oot\n",
            "36.4.0",
        ),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
        ("# R32 (release), REVISION: 7.1", "32.7.1"),
        ("", None),
        ("# R36, REVISION: 4.3", None),
    ],
)
def test_the_release_of_jetson_linux(text: str, release: str | None) -> None:
    assert parse_l4t(text) == release


PIECES = (
    "CPU [",
    "]",
    "off,",
    "3%@345,",
    "GR3D_FREQ 9",
    "%",
    "RAM 1/2MB",
    " VDD_IN 1",
    "/2mW",
    "tj@",
    "-256C",
    "cpu0: ",
)


@given(st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=5)).map("".join))
def test_any_text_is_read_without_an_error_or_nonsense(text: str) -> None:
    found = parse_tegrastats(text)
    parse_power_mode(text)
    parse_jetson_clocks(text)
    parse_l4t(text)
    if found is not None:
        assert all(core is None or (core[0] <= 999 and core[1] <= 99999) for core in found["cpus"])
        assert all(degrees > -100 for degrees in found["temperatures_c"].values())
        watts = module_watts(found["rails_w"])
        assert watts is None or (math.isfinite(watts) and watts > 0)


@given(st.sampled_from(REAL), st.integers(0, 900))
def test_a_line_that_was_cut_is_read_as_far_as_it_goes(line: str, end: int) -> None:
    whole, part = parse_tegrastats(line) or {}, parse_tegrastats(line[:end])
    if part is not None:
        assert part["cpus"] == whole["cpus"]
        assert set(part["rails_w"]) <= set(whole["rails_w"])
