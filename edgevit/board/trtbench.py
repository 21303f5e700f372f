"""trtexec as the clock: the report of `bench`, of an engine that trtexec ran and timed.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
import resource
import tempfile
from typing import TYPE_CHECKING, Any

from edgevit.board.measurement import Setup, bench_report
from edgevit.board.sensors import (
    detect_sensors,
    measure_foreign_share,
    read_sensors,
    read_throttle_count,
    read_usage,
)
from edgevit.board.session import thread_count
from edgevit.board.timer import MAX_RUNS, MIN_RUNS
from edgevit.board.trtexec import INSTALL_TENSORRT, find_trtexec, run_trtexec
from edgevit.board.trttimes import parse_profile, parse_times, parse_trtexec
from edgevit.errors import DeviceError, MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.board.contents import Bundle
    from edgevit.board.engines import Engine
    from edgevit.board.trttimes import TrtLayer, TrtQuery, TrtSummary

WARMUP_MS = 500.0
LOADING_SECONDS = 300.0
SLOWEST_LAYERS = 5
TIMED_BY = (
    "Timed by trtexec on random input: copy to the GPU, computing and copy back, without this agent's Python. Layers "
    "were timed in a run of their own."
)


def time_engine(bundle: Bundle, engine: Engine | None, seconds: float, device: str | None) -> dict[str, Any]:
    """A report of `bench`, whose samples are trtexec's latencies; the slowest layers and its warnings are notes.

    Raises DeviceError without trtexec, EdgevitError with its words when it fails, MeasurementError for too few runs.
    """
    trtexec = find_trtexec()
    if trtexec is None or engine is None:
        raise DeviceError(f"There is no trtexec in PATH or /usr/src/tensorrt/bin: {INSTALL_TENSORRT}")
    kind = detect_sensors()
    readings, usage, counted = [read_sensors("before", kind)], read_usage(), read_throttle_count()
    with tempfile.TemporaryDirectory() as folder:
        times, profile = (os.path.join(folder, name) for name in ("times.json", "profile.json"))
        words = [
            # no warm-up of its own: the first inference is wanted, too
            trtexec, f"--loadEngine={engine.path}", "--warmUp=0", f"--duration={max(1, round(seconds))}",
            f"--iterations={MIN_RUNS}", "--useSpinWait", f"--exportTimes={times}", f"--exportProfile={profile}",
            "--dumpProfile", "--separateProfileRun",
        ]  # fmt: skip
        summary = parse_trtexec(run_trtexec(words, 2 * seconds + LOADING_SECONDS))
        queries = parse_times(_read_text(times), times)
        layers = parse_profile(_read_text(profile), profile)
    if summary.load_s is None:
        raise MeasurementError("trtexec does not say how long it took to load the engine.")
    others_share = measure_foreign_share(usage, read_usage())
    readings.append(read_sensors("after", kind))
    report = bench_report(
        bundle.manifest,
        measured_by_trtexec(queries),
        readings,
        (counted, read_throttle_count()),
        setup=Setup(threads=thread_count(bundle, None), seconds=seconds),
        runtime_version=engine.key.tensorrt,
        batch=bundle.manifest["model"]["input_shape"][0],
        device=device,
        load_ms=1000.0 * summary.load_s,
        first_inference_ms=queries[0].latency_ms,
        rss_mib=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024.0,
        others_share=others_share,
    )
    report["notes"] += [TIMED_BY, *trtexec_notes(summary, layers)]
    return report


def measured_by_trtexec(queries: Sequence[TrtQuery]) -> dict[str, Any]:
    """As timer.measure gives it: what came within WARMUP_MS of the first query was the warm-up.

    Raises MeasurementError when nothing is left.
    """
    first = queries[0].start_ms
    kept = [query for query in queries if query.start_ms - first >= WARMUP_MS][:MAX_RUNS]
    if not kept:
        raise MeasurementError(
            f"trtexec ran for less than {WARMUP_MS / 1000.0:g} s, which is the warm-up. Give it longer."
        )
    wall_ms = kept[-1].start_ms + kept[-1].latency_ms - kept[0].start_ms
    return {
        "samples_ms": [query.latency_ms for query in kept],
        "warmup_runs": len(queries) - len(kept),
        "is_steady": True,
        "wall_s": max(wall_ms, 0.0) / 1000.0,
    }


def trtexec_notes(summary: TrtSummary, layers: Sequence[TrtLayer]) -> list[str]:
    """What a reader should know of trtexec's own words: its warnings, and where the time goes."""
    slowest = sorted(layers, key=lambda layer: -layer.average_ms)[:SLOWEST_LAYERS]
    notes = [f"trtexec: {text}" for text in summary.warnings]
    if slowest:
        named = "; ".join(f"{layer.name[:80]} {layer.average_ms:.3f} ms ({layer.percent:.0f} %)" for layer in slowest)
        notes.append(f"Slowest of {len(layers)} layers: {named}.")
    return notes


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise MeasurementError(f"trtexec wrote no {os.path.basename(path)} ({error.strerror}).") from None
