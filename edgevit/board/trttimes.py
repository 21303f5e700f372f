"""What trtexec writes: its summary, the JSON of --exportTimes and the JSON of --exportProfile.

Source: https://github.com/NVIDIA/TensorRT, samples/common/sampleReporting.cpp at 8.5.3, v8.6.1 and v10.3.0.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevit.errors import BadFileError, EdgevitError

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)"
METRICS = {
    "Latency": "latency_ms",
    "Enqueue Time": "enqueue_ms",
    "H2D Latency": "h2d_ms",
    "GPU Compute Time": "compute_ms",
    "D2H Latency": "d2h_ms",
}


@dataclass(frozen=True)
class TrtSummary:
    """What trtexec printed. figures: of METRICS, each with min, max, mean, median and percentiles by their names
    ('p90'), in ms; empty where it ran nothing. load_s: deserializing the engine; engine_mib, build_s: where it built.
    """

    throughput_qps: float | None
    figures: Mapping[str, Mapping[str, float]]
    warnings: tuple[str, ...]
    gpu: str | None
    load_s: float | None
    build_s: float | None
    engine_mib: float | None


@dataclass(frozen=True)
class TrtQuery:
    """One inference. start_ms: when it was enqueued. latency_ms: H2D copy, computing and D2H copy."""

    start_ms: float
    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    latency_ms: float


@dataclass(frozen=True)
class TrtLayer:
    """A layer of the engine, ms a run on average, and percent of all."""

    name: str
    average_ms: float
    percent: float


def parse_trtexec(output: str) -> TrtSummary:
    """Whatever of it is there. Raises EdgevitError when trtexec did not say that it passed."""
    if not re.search(r"^&&&& PASSED ", output, re.MULTILINE):
        raise EdgevitError("trtexec's output does not say that it passed: it was cut off, or it failed.")
    figures = {}
    for title, name in METRICS.items():
        line = re.search(rf"\] {title}: (min = .*)$", output, re.MULTILINE)
        if line is not None:
            figures[name] = _statistics(line.group(1))
    warnings = re.findall(r"\[W\] +\* (.+)$", output, re.MULTILINE)
    gpu = re.search(r"\] Selected Device: (.+)$", output, re.MULTILINE)
    return TrtSummary(
        throughput_qps=_found(rf"\] Throughput: {NUMBER} qps", output),
        figures=figures,
        warnings=tuple(text.strip() for text in warnings),
        gpu=gpu.group(1).strip() if gpu else None,
        load_s=_found(rf"\] Engine deserialized in {NUMBER} sec", output),
        build_s=_found(rf"\] Engine built in {NUMBER} sec", output),
        engine_mib=_found(rf"\] Created engine with size: {NUMBER} MiB", output),
    )


def parse_times(text: str, path: str) -> tuple[TrtQuery, ...]:
    """The queries of --exportTimes, in their order. Raises BadFileError for anything else, and for none at all."""
    queries = []
    for number, entry in enumerate(_entries(text, path)):
        latency_ms = _milliseconds(entry, "latencyMs", path, number)
        if latency_ms <= 0:
            raise BadFileError(path, f"is {latency_ms:g} ms.", where=f"{number}.latencyMs")
        parts = [_milliseconds(entry, name, path, number) for name in ("startEnqMs", "h2dMs", "computeMs", "d2hMs")]
        queries.append(TrtQuery(parts[0], parts[1], parts[2], parts[3], latency_ms))
    if not queries:
        raise BadFileError(path, "holds no query: trtexec measured nothing.")
    return tuple(queries)


def parse_profile(text: str, path: str) -> tuple[TrtLayer, ...]:
    """The layers of --exportProfile, in the order of execution; its first entry counts the runs and is no layer.

    Raises BadFileError for anything else. A run's figures are means: with a profiler layers do not overlap.
    """
    entries = _entries(_with_whole_names(text), path)
    if not entries or not isinstance(entries[0].get("count"), int):
        raise BadFileError(path, "does not begin with the number of its runs: it is no profile of trtexec.")
    layers = []
    for number, entry in enumerate(entries[1:], start=1):
        name = entry.get("name")
        if not isinstance(name, str):
            raise BadFileError(path, "has no name.", where=str(number))
        average_ms = _milliseconds(entry, "averageMs", path, number)
        layers.append(TrtLayer(name, average_ms, _milliseconds(entry, "percentage", path, number)))
    return tuple(layers)


def _statistics(line: str) -> dict[str, float]:
    """{'min': 1.0, 'p99': 2.0} of 'min = 1 ms, percentile(99%) = 2 ms'."""
    found = {}
    for name, value in re.findall(rf"([a-z]+|percentile\([0-9.]+%\)) = {NUMBER} ms", line):
        found[re.sub(r"percentile\((.+)%\)", r"p\1", name)] = float(value)
    return found


def _found(pattern: str, output: str) -> float | None:
    match = re.search(pattern, output)
    return float(match.group(1)) if match else None


def _entries(text: str, path: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise BadFileError(path, "is not JSON: trtexec was ended while it wrote it.") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadFileError(path, "is not a list of records, as trtexec writes it.")
    return entries


def _milliseconds(entry: Mapping[str, Any], name: str, path: str, number: int) -> float:
    value = entry.get(name)
    # an integer may be larger than any float
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
        shown = "missing" if value is None else repr(value)[:40]
        raise BadFileError(path, f"is {shown}, and no time.", where=f"{number}.{name}")
    return float(value)


def _with_whole_names(text: str) -> str:
    """trtexec writes layers' names as they are: a quote or a backslash in one leaves no JSON."""

    def escaped(match: re.Match[str]) -> str:
        return f'"name" : {json.dumps(match.group(1))}, "timeMs"'

    return re.sub(r'"name" : "(.*)", "timeMs"', escaped, text)
