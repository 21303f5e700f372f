"""The nodes of one model, timed in this process within a second or two: to compare layers, not to report them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from edgevit.bench.worker import timed
from edgevit.profiling.trace import read_trace
from edgevit.profiling.worker import EXECUTED, PROFILED_WARMUP_RUNS, opened_model

RUNS = 20


def profile_nodes(
    path: Path, threads: int, config: dict[str, str], shape: Sequence[int]
) -> tuple[onnx.ModelProto, Mapping[str, float]]:
    """The graph that ONNX Runtime executes, and the median ms of each of its nodes over RUNS runs, by name.

    shape: (N, C, H, W). Raises BadFileError for what ONNX Runtime cannot load.
    """
    with tempfile.TemporaryDirectory(prefix="edgevit-profile-") as folder:
        model = opened_model(path, threads, config, shape, Path(folder))
        timed(model.run, PROFILED_WARMUP_RUNS + RUNS, time.perf_counter)
        events = json.loads(Path(model.session.end_profiling()).read_text(encoding="utf-8"))
        trace = read_trace(events, [False] * PROFILED_WARMUP_RUNS + [True] * RUNS)
        return onnx.load(Path(folder) / EXECUTED), {node.name: node.median_ms for node in trace.nodes}
