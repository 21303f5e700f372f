from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgevit.benchreport import Machine, SensorReading
from edgevit.board import sensors
from edgevit.board.sensors import (
    board_model,
    describe_machine,
    detect_sensors,
    measure_foreign_share,
    read_sensors,
    read_throttle_count,
    read_usage,
    usable_processors,
)

Machinery = Callable[[dict[str, str]], Path]


def no_program(words: Sequence[str]) -> str:
    return ""


def test_a_machine_without_sensors_reads_as_none_everywhere(tmp_path: Path) -> None:
    found = read_sensors("before", "raspberry-pi", root=tmp_path, command=no_program)
    assert SensorReading.model_validate(found) == SensorReading(at="before")


def test_generic_linux_gives_governor_fastest_clock_cpu_temperature_and_load(machine: Machinery) -> None:
    cpufreq = "sys/devices/system/cpu/cpufreq"
    root = machine(
        {
            f"{cpufreq}/policy0/scaling_governor": "schedutil\n",
            f"{cpufreq}/policy0/scaling_cur_freq": "1800000\n",
            f"{cpufreq}/policy0/scaling_min_freq": "600000\n",
            f"{cpufreq}/policy0/scaling_max_freq": "1800000\n",
            f"{cpufreq}/policy4/scaling_min_freq": "2400000\n",
            f"{cpufreq}/policy4/scaling_max_freq": "2400000\n",
            f"{cpufreq}/policy4/scaling_governor": "performance\n",
            f"{cpufreq}/policy4/scaling_cur_freq": "2400000\n",
            "sys/class/thermal/thermal_zone0/type": "acpitz\n",
            "sys/class/thermal/thermal_zone0/temp": "90000\n",
            "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone1/temp": "61500\n",
            "proc/loadavg": "0.42 0.30 0.20 1/123 4567\n",
            "proc/pressure/cpu": "some avg10=0.13 avg60=0.68 avg300=0.28 total=1195993\n",
        }
    )
    found = SensorReading.model_validate(read_sensors("during", "none", root=root, command=no_program))
    assert found == SensorReading(
        at="during", governor="performance,schedutil", clock_mhz=2400.0, clock_range_mhz=(600.0, 1800.0),
        temperature_c=61.5, load_1min=0.42, pressure_percent=0.13,
    )  # fmt: skip


def test_clock_comes_from_cpuinfo_where_there_is_no_cpufreq(machine: Machinery) -> None:
    root = machine({"proc/cpuinfo": "cpu MHz\t\t: 2445.406\n\ncpu MHz\t\t: 2500.000\n"})
    assert read_sensors("before", "none", root=root)["clock_mhz"] == 2500.0


def test_raspberry_pi_reads_flags_temperature_and_rails(tmp_path: Path) -> None:
    answers = {
        "get_throttled": "throttled=0x50005\n",
        "measure_temp": "temp=81.2'C\n",
        "measure_clock": "frequency(0)=1000000000\n",
        "pmic_read_adc": "   VDD_CORE_A current(7)=2.00000000A\n   VDD_CORE_V volt(15)=0.75000000V\n",
    }
    found = read_sensors("after", "raspberry-pi", root=tmp_path, command=lambda words: answers[words[1]])
    assert SensorReading.model_validate(found) == SensorReading(
        at="after",
        clock_mhz=1000.0,
        temperature_c=81.2,
        throttled=True,
        throttle_flags=("under-voltage", "throttled", "under-voltage-occurred", "throttled-occurred"),
        power_w=1.5,
    )


def test_a_pi_that_throttled_only_in_the_past_is_not_throttled_now(tmp_path: Path) -> None:
    found = read_sensors("before", "raspberry-pi", root=tmp_path, command=lambda words: "throttled=0x20000")
    assert (found["throttled"], found["throttle_flags"]) == (False, ["frequency-capped-occurred"])


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


def test_rapl_is_read_twice(machine: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "RAPL_INTERVAL_S", 0.0)
    root = machine({"sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n"})
    assert read_sensors("before", "rapl", root=root)["power_w"] == 0.0


def test_rapl_that_goes_away_between_two_looks_is_none(machine: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine({"sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n"})
    monkeypatch.setattr(
        sensors.time, "sleep", lambda seconds: machine({"sys/class/powercap/intel-rapl:0/energy_uj": ""})
    )
    assert read_sensors("before", "rapl", root=root)["power_w"] is None


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


def test_this_machine_is_described_as_the_report_wants_it(machine: Machinery) -> None:
    found = Machine.model_validate(describe_machine(machine({"etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian 12"\n'})))
    assert (found.os, found.cores, found.python) == ("Debian 12", os.cpu_count(), platform.python_version())
    assert found.cpu


def test_a_clock_that_linux_holds_down_against_heat_is_throttled(machine: Machinery) -> None:
    device = "sys/class/thermal/cooling_device"
    root = machine(
        {
            f"{device}0/type": "pwm-fan\n", f"{device}0/cur_state": "4\n",
            f"{device}1/type": "thermal-cpufreq-0\n", f"{device}1/cur_state": "0\n",
        }
    )  # fmt: skip
    assert read_sensors("before", "none", root=root)["throttled"] is False
    machine({f"{device}1/cur_state": "2\n"})
    hot = read_sensors("before", "none", root=root)
    assert (hot["throttled"], hot["throttle_flags"]) == (True, ["cooling-device"])


def test_a_board_is_named_by_its_device_tree(machine: Machinery, tmp_path: Path) -> None:
    assert board_model(tmp_path) == ""
    root = machine({"sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.5\0"})
    assert board_model(root) == "Raspberry Pi 4 Model B Rev 1.5"
    assert detect_sensors(root) == "raspberry-pi"


def test_others_share_is_what_the_counters_have_beside_us(machine: Machinery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "usable_processors", lambda: [1])
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    root = machine({"proc/stat": "cpu0 0 0 0 0 0 0 0 0\ncpu1 1000 0 0 500 0 0 0 0\n"})
    before = {**read_usage(root), "own_s": 5.0}
    machine({"proc/stat": "cpu0 900 0 0 0 0 0 0 0\ncpu1 1250 0 0 550 0 0 0 0\n"})
    after = {**read_usage(root), "own_s": 7.2}
    assert measure_foreign_share(before, after) == pytest.approx((250 - 220) / 300)


def test_the_time_of_this_process_is_seen() -> None:
    assert read_usage()["own_s"] > 0
    assert usable_processors() == sorted(os.sched_getaffinity(0))


def test_without_affinity_all_processors_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_processors() == list(range(os.cpu_count() or 1))
