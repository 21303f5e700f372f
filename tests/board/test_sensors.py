from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgevit.board import sensors
from edgevit.board.sensors import (
    cpu_name,
    describe_machine,
    detect_sensors,
    hottest_zone,
    is_emulated,
    machine_arch,
    parse_load,
    parse_pmic,
    parse_temperature,
    parse_throttled,
    rapl_watts,
    read_sensors,
    read_throttle_count,
    run_command,
    throttle_reasons,
)
from edgevit.results import Machine, SensorReading

Machinery = Callable[[dict[str, str]], Path]


@pytest.fixture
def machine(tmp_path: Path) -> Machinery:
    """machine({path: text}) is a root directory with these files."""

    def build(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return build


def no_program(words: Sequence[str]) -> str:
    return ""


def reading(at: str, *flags: str, throttled: bool | None = None) -> dict[str, Any]:
    return {"at": at, "throttle_flags": list(flags), "throttled": throttled}


def test_a_machine_without_sensors_reads_as_none_everywhere(tmp_path: Path) -> None:
    found = read_sensors("before", "raspberry-pi", root=tmp_path, command=no_program)
    assert SensorReading.model_validate(found) == SensorReading(at="before")


def test_generic_linux_gives_governor_fastest_clock_cpu_temperature_and_load(machine: Machinery) -> None:
    cpufreq = "sys/devices/system/cpu/cpufreq"
    root = machine(
        {
            f"{cpufreq}/policy0/scaling_governor": "schedutil\n",
            f"{cpufreq}/policy0/scaling_cur_freq": "1800000\n",
            f"{cpufreq}/policy4/scaling_governor": "performance\n",
            f"{cpufreq}/policy4/scaling_cur_freq": "2400000\n",
            "sys/class/thermal/thermal_zone0/type": "acpitz\n",
            "sys/class/thermal/thermal_zone0/temp": "90000\n",
            "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone1/temp": "61500\n",
            "proc/loadavg": "0.42 0.30 0.20 1/123 4567\n",
        }
    )
    found = SensorReading.model_validate(read_sensors("during", "none", root=root, command=no_program))
    assert found == SensorReading(
        at="during", governor="performance,schedutil", clock_mhz=2400.0, temperature_c=61.5, load_1min=0.42
    )


def test_clock_comes_from_cpuinfo_where_there_is_no_cpufreq(machine: Machinery) -> None:
    root = machine({"proc/cpuinfo": "cpu MHz\t\t: 2445.406\n\ncpu MHz\t\t: 2500.000\n"})
    assert read_sensors("before", "none", root=root)["clock_mhz"] == 2500.0


def test_raspberry_pi_reads_flags_temperature_and_rails(tmp_path: Path) -> None:
    answers = {
        "get_throttled": "throttled=0x50005\n",
        "measure_temp": "temp=81.2'C\n",
        "pmic_read_adc": "   VDD_CORE_A current(7)=2.00000000A\n   VDD_CORE_V volt(15)=0.75000000V\n",
    }
    found = read_sensors("after", "raspberry-pi", root=tmp_path, command=lambda words: answers[words[1]])
    assert SensorReading.model_validate(found) == SensorReading(
        at="after",
        temperature_c=81.2,
        throttled=True,
        throttle_flags=("under-voltage", "throttled", "under-voltage-occurred", "throttled-occurred"),
        power_w=1.5,
    )


def test_a_pi_that_throttled_only_in_the_past_is_not_throttled_now(tmp_path: Path) -> None:
    found = read_sensors("before", "raspberry-pi", root=tmp_path, command=lambda words: "throttled=0x20000")
    assert (found["throttled"], found["throttle_flags"]) == (False, ["frequency-capped-occurred"])


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("throttled=0x0\n", []),
        ("throttled=0x2", ["frequency-capped"]),
        ("throttled=0x80008", ["soft-temperature-limit", "soft-temperature-limit-occurred"]),
        ("", None),
        ("VCHI initialization failed", None),
    ],
)
def test_throttle_bits_are_named(text: str, flags: list[str] | None) -> None:
    assert parse_throttled(text) == flags


def test_temperature_load_and_rails_are_none_in_other_words() -> None:
    assert (parse_temperature("error"), parse_load(""), parse_pmic("not supported")) == (None, None, None)
    assert (parse_temperature("temp=-3.5'C"), parse_load("1.25 0 0")) == (-3.5, 1.25)


def test_a_rail_without_its_voltage_does_not_count() -> None:
    text = "A_A current(0)=1.0A\nA_V volt(1)=5.0V\nB_A current(2)=2.0A\nEXT5V_V volt(24)=5.1V"
    assert parse_pmic(text) == pytest.approx(5.0)


@pytest.mark.parametrize("kind", ["jetson", "rapl", "none"])
def test_a_zone_that_is_switched_off_is_left_out(machine: Machinery, kind: str) -> None:
    root = machine(
        {
            "sys/class/thermal/thermal_zone0/type": "cv0-thermal",  # its temp cannot be read
            "sys/class/thermal/thermal_zone1/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone1/temp": "44100",
        }
    )
    (root / "sys/class/thermal/thermal_zone0/temp").mkdir()
    assert read_sensors("before", kind, root=root)["temperature_c"] == 44.1


def test_a_pmic_with_its_fixed_figure_is_no_temperature() -> None:
    assert hottest_zone([("PMIC-Die", 100.0), ("GPU-therm", 40.0)]) == 40.0
    assert hottest_zone([("PMIC-Die", 100.0)]) is None
    assert hottest_zone([]) is None


def test_jetson_power_is_volts_times_amperes_at_the_input(machine: Machinery) -> None:
    hwmon = "sys/class/hwmon/hwmon1"
    root = machine(
        {
            f"{hwmon}/in1_label": "VDD_CPU_GPU_CV\n", f"{hwmon}/in1_input": "4984\n", f"{hwmon}/curr1_input": "500\n",
            f"{hwmon}/in2_label": "VDD_IN\n", f"{hwmon}/in2_input": "5000\n", f"{hwmon}/curr2_input": "1200\n",
        }
    )  # fmt: skip
    assert read_sensors("before", "jetson", root=root)["power_w"] == pytest.approx(6.0)


def test_an_older_jetson_says_its_power_in_milliwatts(machine: Machinery) -> None:
    device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    root = machine({f"{device}/rail_name_0": "POM_5V_IN\n", f"{device}/in_power0_input": "2345\n"})
    assert read_sensors("before", "jetson", root=root)["power_w"] == pytest.approx(2.345)


def test_a_jetson_without_a_power_monitor_has_no_power(tmp_path: Path) -> None:
    assert read_sensors("before", "jetson", root=tmp_path)["power_w"] is None


def test_rapl_power_is_energy_over_time_also_when_the_counter_begins_again() -> None:
    assert rapl_watts(1_000_000, 3_000_000, 9_000_000, 0.5) == 4.0
    assert rapl_watts(8_000_000, 1_000_000, 9_000_000, 0.5) == 4.0


def test_rapl_is_read_twice(machine: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "RAPL_INTERVAL_S", 0.0)
    root = machine({"sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n"})
    assert read_sensors("before", "rapl", root=root)["power_w"] == 0.0


def test_rapl_that_only_root_may_read_is_none(tmp_path: Path) -> None:
    assert read_sensors("before", "rapl", root=tmp_path)["power_w"] is None


def test_throttle_counters_of_all_cores_and_overcurrent_events_add_up(machine: Machinery, tmp_path: Path) -> None:
    assert read_throttle_count(tmp_path) is None
    root = machine(
        {
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
            "sys/class/hwmon/hwmon3/oc3_event_cnt": "10\n",
        }
    )
    assert read_throttle_count(root) == 17


def test_a_calm_run_has_no_reason_to_be_invalid() -> None:
    calm = [reading("before", throttled=False), reading("after", throttled=False)]
    assert throttle_reasons(calm, (5, 5)) == []
    assert throttle_reasons([], (None, None)) == []


def test_a_flag_during_the_run_is_a_reason() -> None:
    readings = [reading("before", throttled=False), reading("during", "throttled", throttled=True)]
    assert throttle_reasons(readings, (None, None)) == ["The CPU was throttled during the run (throttled)."]


def test_a_past_flag_counts_only_when_it_is_new() -> None:
    old = "under-voltage-occurred"
    new = "throttled-occurred"
    readings = [reading("before", old, throttled=False), reading("after", old, new, throttled=False)]
    assert throttle_reasons(readings, (None, None)) == [
        "The CPU throttled between two looks at it (throttled-occurred)."
    ]


def test_a_counter_that_grew_is_a_reason() -> None:
    assert throttle_reasons([reading("before")], (2, 5)) == [
        "The CPU throttled 3 times during the run (the machine's counter)."
    ]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}, "raspberry-pi"),
        ({"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"}, "jetson"),
        ({"etc/nv_tegra_release": "# R32"}, "jetson"),
        ({"sys/class/powercap/intel-rapl:0/energy_uj": "1"}, "rapl"),
        ({}, "none"),
    ],
)
def test_sensors_are_known_by_the_board_they_sit_on(machine: Machinery, files: dict[str, str], kind: str) -> None:
    assert detect_sensors(machine(files) if files else Path("/nowhere")) == kind


def test_cpu_of_a_pi_is_its_core_and_its_board() -> None:
    cpuinfo = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU part\t: 0xd0b\n"
    assert cpu_name(cpuinfo, "Raspberry Pi 5 Model B Rev 1.0\0") == "Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)"
    assert cpu_name("CPU part\t: 0xd05\nCPU part\t: 0xd0b\n", "") == "Cortex-A55 + Cortex-A76"
    assert cpu_name("CPU part\t: 0xfff\n", "") == "ARM part 0xfff"
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


def test_this_machine_is_described_as_the_report_wants_it(machine: Machinery) -> None:
    found = Machine.model_validate(describe_machine(machine({"etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian 12"\n'})))
    assert (found.os, found.cores, found.python) == ("Debian 12", os.cpu_count(), platform.python_version())
    assert found.cpu


def test_a_program_that_is_missing_or_fails_says_nothing() -> None:
    assert run_command(["edgevit-no-such-program"]) == ""
    assert run_command(["false"]) == ""
    assert run_command(["echo", "temp=1'C"]) == "temp=1'C\n"
