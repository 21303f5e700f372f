"""Energy of a run: from a counter where the machine has one, else from power readings beside the run.

A Raspberry Pi 5's reading takes a program and 23 ms of its firmware, so it is asked for twice a second; a Jetson's are
small files. What a reading does to the run was measured where it hurts most, with the run and the thread on the same
single core of an AMD EPYC: the median latency changed by 0.0 % (files) and +0.3 % (program), both within the noise, the
99th percentile by +2 % and +4 % (tests/benchmarks/measure_power_sampling.py).
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.board.files import first_line, read_number, run_command
from edgevit.board.jetson import module_watts
from edgevit.board.linux import energy_uj
from edgevit.board.raspberrypi import PMIC_NAME, parse_pmic
from edgevit.board.tegrastats import tegrastats_watts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RAPL_NAME = "the CPU's RAPL counters, package only"
INA_NAME = "the module's INA3221, all of the module"
TEGRASTATS_NAME = "tegrastats, all of the module"
# Source: about 23 ms of firmware a reading on a Pi 5, https://github.com/ml-energy/zeus/issues/273
PMIC_INTERVAL_S, INA_INTERVAL_S, TEGRASTATS_INTERVAL_S = 0.5, 0.2, 0.5
LEAST_READINGS = 5


class PowerSource:
    """Where a machine's energy or power is read. `missing`: why it is not, in words with the fix; then nothing is read.

    counters: (read, range) of energy counters in microjoules; read_watts: power now, every interval_s.
    """

    def __init__(
        self,
        name: str,
        *,
        counters: Sequence[tuple[Callable[[], float | None], float]] = (),
        read_watts: Callable[[], float | None] | None = None,
        interval_s: float = 0.0,
        missing: str = "",
    ) -> None:
        self.name = name
        self.counters = counters
        self.read_watts = read_watts
        self.interval_s = interval_s
        self.missing = missing


def find_power_source(
    kind: str,
    root: Path = Path("/"),
    command: Callable[[Sequence[str]], str] | None = None,
    ask_tegrastats: Callable[[], float | None] = tegrastats_watts,
) -> PowerSource:
    """The machine's power sensor. kind: of sensors.detect_sensors."""
    ask = command or run_command
    if kind == "raspberry-pi":
        return _pmic(ask)
    if kind == "jetson":
        if jetson_watts(root) is not None:
            return PowerSource(INA_NAME, read_watts=lambda: jetson_watts(root), interval_s=INA_INTERVAL_S)
        if ask_tegrastats() is not None:
            return PowerSource(TEGRASTATS_NAME, read_watts=ask_tegrastats, interval_s=TEGRASTATS_INTERVAL_S)
        return PowerSource("", missing="this Jetson shows no power monitor (INA3221) for all of the module")
    if kind == "rapl":
        return _rapl(root)
    return PowerSource("", missing="this machine has no power sensor")


class PowerMeter:
    """Energy of the time between resume() and pause(), which may come more than once.

    While it runs, a thread reads the power; energy counters are read at the edges only, and need no thread.
    """

    def __init__(self, source: PowerSource, clock: Callable[[], float] = time.perf_counter) -> None:
        self.source = source
        self.seconds = 0.0
        self.reading_s = 0.0
        self._clock = clock
        self._watts: list[float] = []
        self._joules: float | None = 0.0
        self._edge: list[float | None] = []
        self._began = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def resume(self) -> None:
        self._edge = [read() for read, _ in self.source.counters]
        self._stop.clear()
        if self.source.read_watts is not None:
            self._thread = threading.Thread(target=self._sample, name="power", daemon=True)
            self._thread.start()
        self._began = self._clock()

    def pause(self) -> None:
        self.seconds += self._clock() - self._began
        for (read, range_uj), first in zip(self.source.counters, self._edge):
            last = read()
            if first is None or last is None or self._joules is None:
                self._joules = None
            else:
                self._joules += energy_uj(first, last, range_uj) / 1e6
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def result(self, busy_s: float, pictures: int) -> dict[str, Any]:
        """The report's `energy`: mj_per_picture, power_w, sensor, readings, and in `missing` why it is not available.

        busy_s: how long the inferences of so many pictures took, of the time that was measured. What the machine
        takes when it idles is in it.
        """
        watts = self._mean_watts()
        missing = self.source.missing
        if not missing and watts is None:
            missing = (
                f"its sensor gave {len(self._watts)} readings in {self.seconds:.1f} s, and {LEAST_READINGS} are the "
                "least: measure longer, with --min-seconds 10"
                if self.source.read_watts is not None
                else "its energy counter could not be read at the end"
            )
        return {
            "mj_per_picture": None if watts is None or not pictures else 1000.0 * watts * busy_s / pictures,
            "power_w": watts,
            "sensor": "" if watts is None else self.source.name,
            "readings": len(self._watts),
            "missing": missing,
        }

    def _mean_watts(self) -> float | None:
        if self.source.counters:
            return self._joules / self.seconds if self._joules and self.seconds > 0 else None
        return statistics.fmean(self._watts) if len(self._watts) >= LEAST_READINGS else None

    def _sample(self) -> None:
        read_watts = self.source.read_watts
        assert read_watts is not None
        while not self._stop.wait(self.source.interval_s):
            began = self._clock()
            watts = read_watts()
            self.reading_s += self._clock() - began
            if watts is not None and not self._stop.is_set():
                self._watts.append(watts)


def jetson_watts(root: Path) -> float | None:
    """Watts of the module, from its INA3221. Source: Jetson Linux Developer Guide, power monitoring."""
    rails = {}
    for label in root.glob("sys/class/hwmon/hwmon*/in*_label"):  # JetPack 5 and later
        channel = re.sub(r"[^0-9]", "", label.name)
        millivolts = read_number(label.with_name(f"in{channel}_input"))
        milliamps = read_number(label.with_name(f"curr{channel}_input"))
        if millivolts is not None and milliamps is not None:
            rails[first_line(label)] = millivolts * milliamps / 1e6
    for label in root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):  # JetPack 4
        milliwatts = read_number(label.with_name(f"in_power{label.name[-1]}_input"))
        if milliwatts is not None:
            rails[first_line(label)] = milliwatts / 1000.0
    return module_watts(rails)


def _pmic(ask: Callable[[Sequence[str]], str]) -> PowerSource:
    def read() -> float | None:
        return parse_pmic(ask(["vcgencmd", "pmic_read_adc"]))

    if read() is None:
        return PowerSource("", missing="this Raspberry Pi has no power sensor; the Pi 5 is the first that has one")
    return PowerSource(PMIC_NAME, read_watts=read, interval_s=PMIC_INTERVAL_S)


def _rapl(root: Path) -> PowerSource:
    """All packages. The counter of 'psys' would count them again, those below a package are a part of it."""
    domains = [
        domain
        for domain in sorted(root.glob("sys/class/powercap/intel-rapl:*"))
        if re.fullmatch(r"intel-rapl:[0-9]+", domain.name) and not first_line(domain / "name").startswith("psys")
    ]
    if any(read_number(domain / "energy_uj") is None for domain in domains) or not domains:
        files = "/sys/class/powercap/intel-rapl:*/energy_uj"
        return PowerSource("", missing=f"only root may read the CPU's energy counters: sudo chmod a+r {files}")
    counters = [
        (_reader(domain / "energy_uj"), read_number(domain / "max_energy_range_uj") or 0.0) for domain in domains
    ]
    return PowerSource(RAPL_NAME, counters=counters)


def _reader(path: Path) -> Callable[[], float | None]:
    return lambda: read_number(path)
