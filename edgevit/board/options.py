"""What may be asked of a measurement: the options of `edgevit bench` and of `agent.py bench`, and which go together.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeVar

from edgevit.board.cooldown import COOL_DOWN_MAX_SECONDS
from edgevit.board.stats import percent_text, samples_for
from edgevit.board.timer import MAX_RUNS, MAX_SECONDS, MIN_RUNS, MIN_SECONDS, WARMUP_MAX_SECONDS
from edgevit.errors import InputError

Number = TypeVar("Number", int, float)

MAX_THREADS = 1024
MAX_CORE = 8191  # the most that Linux can be built for
MAX_SECONDS_ASKED = 86_400.0
MAX_RUNS_ASKED = 1_000_000
MAX_STREAMS = 256
MAX_BATCH = 4096
MAX_PERCENTILES = 32
LEAST_STARTS, DEFAULT_STARTS, MAX_STARTS = 3, 10, 1000
# A run that takes seconds itself still ends within this after the time asked for.
OVERRUN_SECONDS = 60.0
# Starting Python, importing a runtime and loading a large model from an SD card.
START_MAX_SECONDS = 120.0
# MLPerf Inference v0.5 asked for 1,024 queries and 60 s of SingleStream. Rules since v1.0 ask for 600 s and report an
# early-stopping estimate. Source: mlcommons/inference_policies, inference_rules.adoc, "Scenarios".
SINGLE_STREAM_RUNS = 1024
SINGLE_STREAM_SECONDS, SINGLE_STREAM_RULE_SECONDS = 60.0, 600.0
SINGLE_STREAM_MAX_SECONDS = 3600.0


@dataclass(frozen=True)
class BenchOptions:
    """None, () and False: not asked for. threads: more than one figure is a sweep. cores: of parse_cores."""

    threads: tuple[int, ...] = ()
    min_seconds: float | None = None
    min_runs: int | None = None
    duration: float | None = None
    percentiles: tuple[float, ...] = ()
    batch: int | None = None
    streams: int | None = None
    cold_start: int | None = None
    single_stream: bool = False
    cores: str | None = None
    cool_down: bool = False
    set_governor: bool = False

    @property
    def mode(self) -> str:
        if self.cold_start is not None:
            return "cold-start"
        return "single-stream" if self.single_stream else "streams" if (self.streams or 1) > 1 else "latency"

    @property
    def runs(self) -> int:
        """Inferences at least."""
        return self.min_runs if self.min_runs is not None else SINGLE_STREAM_RUNS if self.single_stream else MIN_RUNS

    @property
    def seconds(self) -> float:
        """Seconds of measuring at least."""
        if self.duration is not None:
            return self.duration
        if self.min_seconds is not None:
            return self.min_seconds
        return SINGLE_STREAM_SECONDS if self.single_stream else MIN_SECONDS

    @property
    def max_seconds(self) -> float:
        """After so many seconds measuring ends, whether there are enough runs or not."""
        longest_s = SINGLE_STREAM_MAX_SECONDS if self.single_stream else MAX_SECONDS
        return max(longest_s, self.seconds + OVERRUN_SECONDS)

    @property
    def longest_s(self) -> float:
        """Seconds after which a process with these options has ended, but for its own start."""
        starts = self.cold_start
        one_s = self.max_seconds + WARMUP_MAX_SECONDS if starts is None else starts * START_MAX_SECONDS
        one_s += COOL_DOWN_MAX_SECONDS if self.cool_down else 0.0
        sweeps = len(self.threads) if len(self.threads) > 1 else 0
        return one_s + (sweeps - 1) * (one_s + START_MAX_SECONDS) if sweeps else one_s

    def words(self) -> list[str]:
        """These options as `agent.py bench` takes them; what was not asked for is left out."""
        words: list[str] = []
        for name, value in (
            ("--min-seconds", self.min_seconds),
            ("--min-runs", self.min_runs),
            ("--duration", self.duration),
            ("--batch", self.batch),
            ("--streams", self.streams),
            ("--cold-start", self.cold_start),
        ):
            words += [] if value is None else [name, str(value)]
        words += ["--percentiles", ",".join(map(percent_text, self.percentiles))] if self.percentiles else []
        words += ["--cores", self.cores] if self.cores else []
        for name, is_asked in (
            ("--single-stream", self.single_stream),
            ("--cool-down", self.cool_down),
            ("--set-governor", self.set_governor),
        ):
            words += [name] if is_asked else []
        return words + (["--threads", ",".join(map(str, self.threads))] if self.threads else [])

    def check(self) -> None:
        """Raises InputError for options that say the opposite of each other, or nothing beside each other."""
        if self.duration is not None and self.min_seconds is not None:
            raise InputError("--duration and --min-seconds both say how long to measure. Give one of them.")
        if self.cold_start is not None:
            self._check_alone("--cold-start", "starts the program anew for each figure")
            if self.single_stream:
                raise InputError("--cold-start and --single-stream are two ways to measure. Give one of them.")
        if self.single_stream:
            self._check_single_stream()

    def _check_alone(self, option: str, why: str) -> None:
        for name, value in (
            ("--duration", self.duration),
            ("--min-seconds", self.min_seconds),
            ("--min-runs", self.min_runs),
            ("--streams", self.streams),
            ("--percentiles", self.percentiles or None),
        ):
            if value is not None:
                raise InputError(f"{name} does not go with {option}, which {why}.")

    def _check_single_stream(self) -> None:
        if self.streams is not None:
            raise InputError("--streams does not go with --single-stream, which runs one query at a time.")
        if self.batch not in (None, 1):
            raise InputError("--batch does not go with --single-stream: a query is one picture.")
        if self.runs < SINGLE_STREAM_RUNS:
            raise InputError(f"--single-stream asks for {SINGLE_STREAM_RUNS:,} queries at least, not {self.runs}.")
        if self.seconds < SINGLE_STREAM_SECONDS:
            asked = f"{self.seconds:g}"
            raise InputError(f"--single-stream asks for {SINGLE_STREAM_SECONDS:.0f} s at least, not {asked}.")


def parse_threads(text: str) -> tuple[int, ...]:
    """(1, 2, 4) of '1,2,4'. Raises InputError for what is no thread count, and for one that is named twice."""
    return tuple(_distinct([_whole(part, 1, MAX_THREADS) for part in text.split(",")]))


def parse_percentiles(text: str) -> tuple[float, ...]:
    """(50.0, 99.9) of '50,99.9', ascending. Raises InputError for what does not lie between 0 and 100, or needs
    more runs than a report holds.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,4})?)\s*", part)
        if match is None or not 0 < float(match.group(1)) < 100:
            raise InputError(f"'{part}' is not a percentile between 0 and 100, such as 99.9")
        needed = samples_for(float(match.group(1)))
        if needed > MAX_RUNS:
            raise InputError(f"'{part}' is a percentile of {needed:,} runs, and a report holds {MAX_RUNS:,}")
        found.append(float(match.group(1)))
    if len(found) > MAX_PERCENTILES:
        raise InputError(f"{len(found)} percentiles are more than {MAX_PERCENTILES}")
    return tuple(sorted(_distinct(found)))


def parse_cores(text: str) -> str:
    """'big', 'little', or the numbers of cores in Linux's list format: '0,2' or '4-7'. Raises InputError."""
    if text not in ("big", "little"):
        core_numbers(text)
    return text


def core_numbers(text: str) -> list[int]:
    """[4, 5, 6, 7] of '4-7', ascending. Raises InputError for what is no list of cores, or names one twice.

    Source: Linux, Documentation/admin-guide/cputopology.rst, the format of its lists of CPUs.
    """
    cores: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*", part)
        first, last = (int(match.group(1)), int(match.group(2) or match.group(1))) if match else (1, 0)
        if not first <= last <= MAX_CORE:
            raise InputError(f"'{text}' is not big, little or a list of cores such as 0,2 or 4-7")
        cores += range(first, last + 1)
    return sorted(_distinct(cores))


def parse_seconds(text: str) -> float:
    """Raises InputError for what is no number of seconds up to an hour."""
    return _seconds(text, 3600.0)


def parse_duration(text: str) -> float:
    """Raises InputError for what is no number of seconds up to a day, and for zero."""
    seconds = _seconds(text, MAX_SECONDS_ASKED)
    if seconds == 0:
        raise InputError("'0' is no time to measure in")
    return seconds


def parse_runs(text: str) -> int:
    return _whole(text, 1, MAX_RUNS_ASKED)


def parse_batch(text: str) -> int:
    return _whole(text, 1, MAX_BATCH)


def parse_streams(text: str) -> int:
    return _whole(text, 1, MAX_STREAMS)


def parse_starts(text: str) -> int:
    return _whole(text, LEAST_STARTS, MAX_STARTS)


def _whole(text: str, least: int, most: int) -> int:
    number = int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else -1
    if not least <= number <= most:
        raise InputError(f"'{text}' is not a whole number from {least} to {most}")
    return number


def _seconds(text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (math.isfinite(number) and 0 <= number <= most):
        raise InputError(f"'{text}' is not a number of seconds from 0 to {most:.0f}")
    return number


def _distinct(values: list[Number]) -> list[Number]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InputError(f"{percent_text(twice[0])} is named twice")
    return values
