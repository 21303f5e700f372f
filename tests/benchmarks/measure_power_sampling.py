"""How much a power reading beside a run disturbs it: latency with the sampling thread over latency without, in turns.

    python tests/benchmarks/measure_power_sampling.py [--rounds 40]

The work is a matrix product of some 5 ms on one thread. 'files' reads three small files, as a Jetson's INA3221;
'program' starts a program that prints a Raspberry Pi 5's rails after 23 ms of sleep, as vcgencmd waits for the
firmware. On a board both cost more than here; the same script tells how much.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgevit.board.files import run_command
from edgevit.board.power import INA_INTERVAL_S, PMIC_INTERVAL_S, PowerMeter, PowerSource, jetson_watts
from edgevit.board.raspberrypi import parse_pmic

RAILS = "VDD_CORE_A current(7)=2.00000000A\\nVDD_CORE_V volt(15)=0.75000000V\\n"
RUNS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for name, read, interval_s in (
            ("files", read_files(Path(folder)), INA_INTERVAL_S),
            ("program", read_program, PMIC_INTERVAL_S),
        ):
            disturbance(name, PowerSource(name, read_watts=read, interval_s=interval_s), rounds)


def disturbance(name: str, source: PowerSource, rounds: int) -> None:
    """Prints the median ratio of medians and of 99th percentiles over `rounds` turns, and its middle half."""
    medians, tails, reading_s, seconds = [], [], 0.0, 0.0
    timed_runs()
    for turn in range(rounds):
        figures = {}
        for with_meter in (turn % 2 == 0, turn % 2 == 1):
            meter = PowerMeter(source if with_meter else PowerSource("", missing="none"))
            meter.resume()
            samples = timed_runs()
            meter.pause()
            figures[with_meter] = samples
            reading_s, seconds = reading_s + meter.reading_s, seconds + meter.seconds * with_meter
        medians.append(statistics.median(figures[True]) / statistics.median(figures[False]))
        tails.append(float(np.percentile(figures[True], 99) / np.percentile(figures[False], 99)))
    low, middle, high = statistics.quantiles(medians, n=4)
    print(
        f"{name}: p50 {100 * (middle - 1):+.2f} % (middle half {100 * (low - 1):+.2f} to {100 * (high - 1):+.2f} %), "
        f"p99 {100 * (statistics.median(tails) - 1):+.2f} %, a reading was under way {100 * reading_s / seconds:.2f} % "
        "of the time"
    )


def timed_runs() -> list[float]:
    rng = np.random.default_rng(0)
    left, right = rng.random((2, 640, 640)).astype(np.float32)
    samples = []
    for _ in range(RUNS):
        start = time.perf_counter()
        left @ right
        samples.append(time.perf_counter() - start)
    return samples


def read_files(root: Path) -> Callable[[], float | None]:
    hwmon = root / "sys/class/hwmon/hwmon1"
    hwmon.mkdir(parents=True)
    for name, text in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "1200")):
        (hwmon / name).write_text(text)
    return lambda: jetson_watts(root)


def read_program() -> float | None:
    return parse_pmic(run_command(["sh", "-c", f"sleep 0.023; printf '{RAILS}'"]))


if __name__ == "__main__":
    main()
