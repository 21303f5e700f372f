from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgevit.benchreport import Energy
from edgevit.board.power import INA_NAME, PMIC_NAME, RAPL_NAME, PowerMeter, PowerSource, find_power_source, jetson_watts

HWMON = "sys/class/hwmon/hwmon1"
CAP = "sys/class/powercap"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def counters(*values: float | None, range_uj: float = 0.0) -> PowerSource:
    readings = iter(values)
    return PowerSource("counter", counters=[(lambda: next(readings), range_uj)])


def test_energy_is_what_the_counter_gained_while_the_meter_ran() -> None:
    clock = Clock()
    meter = PowerMeter(counters(0.0, 4e6, 9e6, 15e6), clock)  # the 5 J between the parts do not count
    for _ in range(2):
        meter.resume()
        clock.now += 2.0
        meter.pause()
        clock.now += 50.0
    found = Energy.model_validate_json(json.dumps(meter.result(3.8, 100)))
    assert found.power_w == pytest.approx((4 + 6) / 4.0)
    assert found.mj_per_picture == pytest.approx(1000 * 2.5 * 3.8 / 100)
    assert (found.sensor, found.missing, found.readings) == ("counter", "", 0)


def test_a_counter_that_begins_again_loses_nothing() -> None:
    clock = Clock()
    meter = PowerMeter(counters(262e9, 3e6, range_uj=262.001e9), clock)
    meter.resume()
    clock.now += 1.0
    meter.pause()
    assert meter.result(1.0, 1)["power_w"] == pytest.approx(4.0)


@pytest.mark.parametrize("values", [(None, 1.0), (1.0, None), (7.0, 7.0)])
def test_a_counter_that_cannot_be_read_or_stands_still_gives_no_energy(values: tuple[float | None, ...]) -> None:
    clock = Clock()
    meter = PowerMeter(counters(*values), clock)
    meter.resume()
    clock.now += 1.0
    meter.pause()
    found = Energy.model_validate(meter.result(1.0, 10))
    assert (found.mj_per_picture, found.sensor) == (None, "")
    assert found.missing == "its energy counter could not be read at the end"


def sampled(watts: Sequence[float | None]) -> PowerMeter:
    """A meter whose thread has read each of `watts` once, by events and not by time."""
    remaining, done = list(watts), threading.Event()

    def read() -> float | None:
        if not remaining:
            done.set()
            return None
        return remaining.pop(0)

    meter = PowerMeter(PowerSource("sensor", read_watts=read, interval_s=0.0001))
    meter.resume()
    assert done.wait(10)
    meter.pause()
    return meter


def test_power_is_the_mean_of_readings_beside_the_run() -> None:
    found = sampled([3.0, 5.0, None, 4.0, 4.0, 4.0]).result(2.0, 50)
    assert (found["power_w"], found["readings"], found["sensor"]) == (4.0, 5, "sensor")
    assert found["mj_per_picture"] == pytest.approx(1000 * 4.0 * 2.0 / 50)


def test_too_few_readings_are_no_energy_and_the_fix_is_named() -> None:
    found = sampled([3.0, 5.0]).result(2.0, 50)
    assert found["mj_per_picture"] is None
    assert "gave 2 readings in 0.0 s, and 5 are the least: measure longer, with --min-seconds 10" in found["missing"]


def test_a_thread_reads_only_while_the_meter_runs() -> None:
    before = threading.active_count()
    meter = sampled([1.0])
    assert threading.active_count() == before
    meter.resume()
    assert threading.active_count() == before + 1
    meter.pause()
    assert threading.active_count() == before


def test_a_machine_without_a_sensor_says_so(tmp_path: Path) -> None:
    meter = PowerMeter(find_power_source("none", tmp_path))
    meter.resume()
    meter.pause()
    assert meter.result(1.0, 1)["missing"] == "this machine has no power sensor"


def test_a_pi_5_is_read_by_its_power_chip_and_others_have_none() -> None:
    text = "VDD_CORE_A current(7)=2.00000000A\nVDD_CORE_V volt(15)=0.75000000V\n"
    source = find_power_source("raspberry-pi", command=lambda words: text)
    assert source.read_watts is not None
    assert (source.name, source.read_watts()) == (PMIC_NAME, 1.5)
    other = find_power_source("raspberry-pi", command=lambda words: 'error=1 error_msg="Command not registered"')
    assert other.missing == "this Raspberry Pi has no power sensor; the Pi 5 is the first that has one"


def test_power_of_a_jetson_is_volts_times_amperes_at_its_input(machine: Callable[..., Path]) -> None:
    root = machine(
        {
            f"{HWMON}/in1_label": "VDD_CPU_GPU_CV\n", f"{HWMON}/in1_input": "4984\n", f"{HWMON}/curr1_input": "500\n",
            f"{HWMON}/in2_label": "VDD_IN\n", f"{HWMON}/in2_input": "5000\n", f"{HWMON}/curr2_input": "1200\n",
            f"{HWMON}/in7_label": "sum of shunt voltages\n",
        }
    )  # fmt: skip
    source = find_power_source("jetson", root)
    assert source.read_watts is not None
    assert (source.name, source.read_watts()) == (INA_NAME, pytest.approx(6.0))


def test_an_older_jetson_says_its_power_in_milliwatts(machine: Callable[..., Path]) -> None:
    device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {
        f"{device}/rail_name_0": "POM_5V_IN\n",
        f"{device}/in_power0_input": "2345\n",
        f"{device}/rail_name_1": "x",
    }
    assert jetson_watts(machine(files)) == pytest.approx(2.345)


def test_a_jetson_without_a_power_monitor_has_none(tmp_path: Path) -> None:
    assert "no power monitor" in find_power_source("jetson", tmp_path).missing


def test_rapl_counts_every_package_once(machine: Callable[..., Path]) -> None:
    root = machine(
        {
            f"{CAP}/intel-rapl:0/name": "package-0\n", f"{CAP}/intel-rapl:0/energy_uj": "5000000\n",
            f"{CAP}/intel-rapl:0/max_energy_range_uj": "262143328850\n",
            f"{CAP}/intel-rapl:0:0/name": "core\n", f"{CAP}/intel-rapl:0:0/energy_uj": "1\n",
            f"{CAP}/intel-rapl:1/name": "package-1\n", f"{CAP}/intel-rapl:1/energy_uj": "7000000\n",
            f"{CAP}/intel-rapl:2/name": "psys\n", f"{CAP}/intel-rapl:2/energy_uj": "9000000\n",
        }
    )  # fmt: skip
    source = find_power_source("rapl", root)
    assert (source.name, [read() for read, _ in source.counters]) == (RAPL_NAME, [5e6, 7e6])
    assert [range_uj for _, range_uj in source.counters] == [262143328850.0, 0.0]


def test_rapl_that_only_root_may_read_names_the_command(machine: Callable[..., Path]) -> None:
    root = machine({f"{CAP}/intel-rapl:0/name": "package-0\n"})
    assert find_power_source("rapl", root).missing == (
        "only root may read the CPU's energy counters: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    )
