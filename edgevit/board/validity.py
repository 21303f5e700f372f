"""Whether a measurement is the machine's own: why it is not, in words, each with what to do about it.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from edgevit.board.options import SINGLE_STREAM_RUNS, SINGLE_STREAM_SECONDS
from edgevit.board.raspberrypi import HAS_OCCURRED
from edgevit.board.timer import MIN_RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

FOREIGN_LIMIT = 0.05
DRIFT_LIMIT = 0.05
# Below this a third of the run is too short to speak of drift, and the kernel's ticks of 10 ms are too coarse.
JUDGED_FROM_S = 1.0
# How many standard errors the two thirds must lie apart: with noise alone that happens in one run of 15,000.
DRIFT_ERRORS = 4.0
STEADY_GOVERNORS = ("performance", "userspace")
SET_GOVERNOR = "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
COOL = "let it cool down, add a heat sink or a fan, and measure again"
SUPPLY = "use the board's own power supply and a short cable (Pi 5: 27 W, Pi 4: 15 W)"


def throttle_reasons(readings: Sequence[dict[str, Any]], counted: tuple[int | None, int | None]) -> list[str]:
    """Why readings make a run invalid, in words: flags that stood during it, and counters that grew.

    readings: in order, the first one before the run. counted: sensors.read_throttle_count before and after.
    A flag that says 'has occurred' counts only when the first reading does not have it: it may be days old.
    """
    old = set(readings[0]["throttle_flags"]) if readings else set()
    reasons = []
    for reading in readings:
        now = [flag for flag in reading["throttle_flags"] if not flag.endswith(HAS_OCCURRED)]
        if reading["throttled"]:
            what = f"The CPU was throttled {reading['at']} the run ({', '.join(now) or 'no reason given'})"
            reasons.append(f"{what}: {throttle_fix(now)}.")
        new = [flag for flag in reading["throttle_flags"] if flag.endswith(HAS_OCCURRED) and flag not in old]
        if new and not reading["throttled"]:
            reasons.append(f"The CPU throttled between two looks at it ({', '.join(new)}): {throttle_fix(new)}.")
        old |= set(new)
    if counted[0] is not None and counted[1] is not None and counted[1] > counted[0]:
        times = counted[1] - counted[0]
        reasons.append(f"The CPU throttled {times} times during the run (the machine's counter): {COOL}.")
    return reasons


def throttle_fix(flags: Sequence[str]) -> str:
    """What mends these flags: the power supply, where it is the cause, else the heat."""
    return SUPPLY if any(flag.startswith("under-voltage") for flag in flags) else COOL


def governor_reasons(readings: Sequence[dict[str, Any]]) -> list[str]:
    """That the clock may move: one sentence at most. A governor that may choose between one clock only is steady."""
    for reading in readings:
        moving = moving_governors(reading)
        if moving:
            low, high = reading["clock_range_mhz"] or (None, None)
            span = f" between {low:.0f} and {high:.0f} MHz" if low is not None else ""
            return [f"The governor {' and '.join(moving)} moves the CPU's clock{span}: {SET_GOVERNOR}"]
    return []


def moving_governors(reading: dict[str, Any]) -> list[str]:
    """Governors of a reading that move the clock, which is not so where its lowest is its highest."""
    low, high = reading.get("clock_range_mhz") or (0.0, 1.0)
    names = (reading.get("governor") or "").split(",")
    return [name for name in names if name and name not in STEADY_GOVERNORS] if low < high else []


def load_reasons(foreign: float | None) -> list[str]:
    """That others had more than 5 % of the processors. foreign: of linux.foreign_share; None says nothing."""
    if foreign is None or foreign <= FOREIGN_LIMIT:
        return []
    return [
        f"Other programs had {100 * foreign:.0f} % of the processors during the run, and "
        f"{100 * FOREIGN_LIMIT:.0f} % are allowed: stop them (ps aux --sort=-pcpu | head), or keep to free processors "
        "with taskset."
    ]


def drift_reasons(samples_ms: Sequence[float]) -> list[str]:
    """That the run got slower or faster on its way, by more than 5 % and by more than its noise explains."""
    change = drift(samples_ms)
    if change is None or abs(change) <= DRIFT_LIMIT:
        return []
    if change > 0:
        words = f"slower: the machine throttles or something began beside it; {COOL}"
    else:
        words = "faster: it was not warm, or something ended beside it; measure again"
    return [f"The last third of the run was {100 * abs(change):.0f} % {words}."]


def too_few_reasons(mode: str, runs: int, wall_s: float) -> list[str]:
    """That there are too few runs for what the mode promises. Cold starts are as many as were asked for."""
    if mode == "single-stream" and (runs < SINGLE_STREAM_RUNS or wall_s < SINGLE_STREAM_SECONDS):
        asked = f"{SINGLE_STREAM_RUNS:,} and {SINGLE_STREAM_SECONDS:.0f} s are the least"
        return [f"Too few queries: {runs:,} in {wall_s:.1f} s, and {asked}."]
    if mode != "cold-start" and runs < MIN_RUNS:
        return [f"Too few samples: {runs} runs, and {MIN_RUNS} are the least."]
    return []


def warmup_notes(is_steady: bool, warmup_runs: int) -> list[str]:
    """That a run began before its latency had come to rest."""
    return [] if is_steady else [f"The latency had not come to rest after {warmup_runs} warm-up runs."]


def load_notes(readings: Sequence[dict[str, Any]], cores: int) -> list[str]:
    """That the machine was busy before the run, by the first of its readings."""
    load = readings[0]["load_1min"] if readings else None
    if load is None or load <= cores / 2:
        return []
    return [f"The load was {load:.1f} on {cores} cores before the run: other work may have slowed it."]


def drift(samples_ms: Sequence[float]) -> float | None:
    """Median of the last third over that of the first, less one; 0.0 where noise alone may explain it.

    None for runs of less than a second or less than nine samples. A third's error is that of its median,
    1.2533 sigma / sqrt(n), with sigma = 1.4826 times the median absolute deviation. Source: standard error of the
    median of a normal distribution, sqrt(pi / 2).
    """
    third = len(samples_ms) // 3
    if third < 3 or sum(samples_ms) < 1000.0 * JUDGED_FROM_S:
        return None
    (first, first_error), (last, last_error) = (
        _median_error(part) for part in (samples_ms[:third], samples_ms[-third:])
    )
    if first <= 0 or abs(last - first) <= DRIFT_ERRORS * (first_error**2 + last_error**2) ** 0.5:
        return 0.0
    return last / first - 1.0


def _median_error(samples_ms: Sequence[float]) -> tuple[float, float]:
    middle = statistics.median(samples_ms)
    spread = statistics.median(abs(sample - middle) for sample in samples_ms)
    return middle, 1.2533 * 1.4826 * spread / len(samples_ms) ** 0.5
