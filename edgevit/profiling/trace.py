"""Trace: what ONNX Runtime's profiler wrote down, as one median time for each node."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevit.errors import MeasurementError
from edgevit.profiling.document import TensorType

RUN_EVENT = "model_run"
KERNEL_SUFFIX = "_kernel_time"
# Their kernels' time contains that of the nodes inside, which have events of their own.
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class NodeTiming:
    """`median_ms`: over the counted runs; executions within one run are added up."""

    name: str
    op_type: str
    provider: str
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    median_ms: float


@dataclass(frozen=True)
class Trace:
    """`nodes`: in the order in which they run. `outside_ms`: what a run spends outside of kernels, median."""

    nodes: tuple[NodeTiming, ...]
    outside_ms: float


def read_trace(events: Sequence[Mapping[str, Any]], is_counted: Sequence[bool]) -> Trace:
    """What the counted runs took.

    events: the profiler's JSON, microseconds. is_counted[i]: whether the i-th run counts, False for a warm-up.
    A node that a counted run did not execute took 0 in it.
    Raises MeasurementError when the profile has other runs than were made, or none that counts.
    """
    runs = sorted((event for event in events if event["name"] == RUN_EVENT), key=_start)
    if len(runs) != len(is_counted):
        raise MeasurementError(f"The profile has {len(runs)} runs, and {len(is_counted)} were made. Profile again.")
    if not any(is_counted):
        raise MeasurementError("No run of the profile counts. Profile again.")
    starts = [_start(run) for run in runs]
    ends = [_start(run) + run["dur"] for run in runs]
    spent_us: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in sorted(filter(_is_kernel, events), key=_start):
        run = bisect_right(starts, _start(event)) - 1
        if run < 0 or _start(event) > ends[run] or not is_counted[run]:
            continue
        key = (event["args"]["node_index"], event["name"])
        first.setdefault(key, event)
        spent_us[key][run] += event["dur"]
    counted = [run for run, counts in enumerate(is_counted) if counts]
    nodes = tuple(
        _timing(first[key], statistics.median(us.get(run, 0) for run in counted)) for key, us in spent_us.items()
    )
    outside_us = statistics.median(
        runs[run]["dur"] - sum(us.get(run, 0) for us in spent_us.values()) for run in counted
    )
    return Trace(nodes, outside_us / 1000)


def _start(event: Mapping[str, Any]) -> int:
    return int(event["ts"])


def _is_kernel(event: Mapping[str, Any]) -> bool:
    is_kernel = event["cat"] == "Node" and event["name"].endswith(KERNEL_SUFFIX)
    return is_kernel and event["args"]["op_name"] not in CONTROL_FLOW


def _timing(event: Mapping[str, Any], median_us: float) -> NodeTiming:
    args = event["args"]
    return NodeTiming(
        name=event["name"].removesuffix(KERNEL_SUFFIX),
        op_type=args["op_name"],
        provider=args.get("provider", ""),
        inputs=_types(args.get("input_type_shape", ())),
        outputs=_types(args.get("output_type_shape", ())),
        median_ms=median_us / 1000,
    )


def _types(entries: Sequence[Mapping[str, Sequence[int]]]) -> tuple[TensorType, ...]:
    """[{'float': [1, 197, 192]}, …] as the profiler has them."""
    return tuple(TensorType(dtype=dtype, shape=tuple(shape)) for entry in entries for dtype, shape in entry.items())
