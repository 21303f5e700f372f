"""What a measurement is written down as: which figures, whether they are valid, and what a reader must know about them.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevit.board.options import SINGLE_STREAM_RULE_SECONDS, SINGLE_STREAM_SECONDS
from edgevit.board.sensors import describe_machine
from edgevit.board.stats import early_stopping_estimate, extra_percentiles, summarize
from edgevit.board.timer import MAX_RUNS, MIN_SECONDS
from edgevit.board.validity import (
    JUDGED_FROM_S,
    drift,
    drift_reasons,
    governor_reasons,
    load_notes,
    load_reasons,
    throttle_reasons,
    too_few_reasons,
    warmup_notes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Setup:
    """How a measurement was set up. mode: of BenchOptions. cores: those that it was held to. percents: stated beside
    p50, p90 and p99. seconds: how long it was to measure. cool_down: of cooldown.cool_down.
    """

    mode: str = "latency"
    threads: int = 1
    streams: int = 1
    cores: Sequence[int] | None = None
    percents: Sequence[float] = ()
    seconds: float = MIN_SECONDS
    cool_down: dict[str, Any] | None = None


def bench_report(
    manifest: dict[str, Any],
    measured: dict[str, Any],
    readings: Sequence[dict[str, Any]],
    counted: tuple[int | None, int | None],
    *,
    setup: Setup,
    runtime_version: str,
    batch: int,
    device: str | None,
    load_ms: float,
    first_inference_ms: float,
    rss_mib: float | None = None,
    others_share: float | None = None,
    energy: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The document that benchreport.BenchReport reads.

    measured: of timer.measure or streams.measure_streams. readings: of sensors.read_sensors, in order. counted:
    throttle counts before and after.
    rss_mib: the most memory held until the last run; what the samples take afterwards is not the model's.
    device: what this machine is; when None it is taken for the bundle's target, unless it plainly is not.
    others_share: of the processors, what other programs had. energy: of power.PowerMeter.result.
    """
    machine = describe_machine()
    target = manifest["device"]
    foreign = machine["arch"] != target["arch"] or machine["is_emulated"]
    name = device or ("local" if foreign else target["name"])
    samples_ms = measured["samples_ms"]
    runs, wall_s = len(samples_ms), measured["wall_s"]
    others_share = others_share if wall_s >= JUDGED_FROM_S else None
    invalid = [*throttle_reasons(readings, counted), *governor_reasons(readings), *load_reasons(others_share)]
    # the first cold start reads from the disk what the others find in memory: that is no drift
    drifted = None if setup.mode == "cold-start" else drift(samples_ms)
    invalid += drift_reasons(samples_ms) if setup.mode != "cold-start" else []
    invalid += too_few_reasons(setup.mode, runs, wall_s)
    return {
        "kind": "bench",
        "edgevit": manifest["edgevit"],
        "model": manifest["model"]["name"],
        "device": name,
        "machine": machine,
        "runtime": manifest["runtime"]["name"],
        "runtime_version": runtime_version,
        "precision": manifest["precision"],
        "mode": setup.mode,
        "threads": setup.threads,
        "batch": batch,
        "streams": setup.streams,
        "cores": None if setup.cores is None else list(setup.cores),
        "artifact_sha256": manifest["files"][manifest["runtime"]["entry"]]["sha256"],
        "latency_ms": summarize(samples_ms),
        "percentiles": extra_percentiles(samples_ms, setup.percents),
        "early_stopping_p90_ms": early_stopping_estimate(samples_ms, 90.0) if setup.mode == "single-stream" else None,
        "pictures_per_s": runs * batch / wall_s if wall_s > 0 else None,
        "warmup_runs": measured["warmup_runs"],
        "load_ms": load_ms,
        "first_inference_ms": first_inference_ms,
        "peak_rss_mib": peak_rss_mib() if rss_mib is None else rss_mib,
        "sensors": list(readings),
        "foreign_share": others_share,
        "drift": drifted,
        "cool_down": setup.cool_down,
        "energy": energy,
        "is_valid": not invalid,
        "invalid_reasons": invalid,
        "notes": [
            *_notes_on_machine(machine, target["name"], name, setup),
            *_notes_on_run(measured, readings, counted, machine["cores"], setup),
        ],
        "samples_ms": samples_ms,
    }


def peak_rss_mib() -> float:
    """The most memory that this process has held, in MiB.

    Linux passes ru_maxrss on through fork and exec, so that a small child of a large parent reports the parent's;
    VmHWM begins anew with each program, and ru_maxrss stands in only where there is none.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            kib = parse_peak_kib(file.read())
    except OSError:
        kib = None
    if kib is None:
        import resource

        maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kib = maximum // 1024 if sys.platform == "darwin" else maximum
    return kib / 1024.0


def parse_peak_kib(status: str) -> int | None:
    """VmHWM of /proc/self/status, in KiB."""
    match = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(match.group(1)) if match else None


def _notes_on_machine(machine: dict[str, Any], target: str, name: str, setup: Setup) -> list[str]:
    notes = []
    if machine["is_emulated"]:
        notes.append(f"Measured under emulation: no figure of {target}'s speed.")
    elif name != target:
        notes.append(f"Measured on {machine['cpu']} ({machine['arch']}), not on {target}.")
    threads, cores = setup.threads * setup.streams, machine["cores"] if setup.cores is None else len(setup.cores)
    if threads > cores:
        each = "" if setup.streams == 1 else f" ({setup.streams} streams with {setup.threads} each)"
        held = "" if setup.cores is None else " that the process was held to"
        notes.append(f"{threads} threads{each} share {cores} core{'' if cores == 1 else 's'}{held}.")
    return notes


def _notes_on_run(
    measured: dict[str, Any],
    readings: Sequence[dict[str, Any]],
    counted: tuple[int | None, int | None],
    cores: int,
    setup: Setup,
) -> list[str]:
    notes = warmup_notes(measured["is_steady"], measured["warmup_runs"])
    seconds, runs = measured["wall_s"], len(measured["samples_ms"])
    if seconds < MIN_SECONDS and setup.mode != "cold-start":
        notes.append(f"Measured for {seconds:.1f} s; {MIN_SECONDS:.0f} s are the rule.")
    if runs >= MAX_RUNS and seconds < setup.seconds:
        notes.append(f"Measured for {seconds:.0f} of {setup.seconds:.0f} s: a report holds {MAX_RUNS:,} runs.")
    if setup.mode == "single-stream":
        notes.append("Like MLPerf SingleStream, and no MLPerf result: one picture, already prepared, again and again.")
        if SINGLE_STREAM_SECONDS <= seconds < SINGLE_STREAM_RULE_SECONDS:
            notes.append(
                f"Measured for {seconds:.0f} s, as MLPerf v0.5 did; since v1.0 it asks for "
                f"{SINGLE_STREAM_RULE_SECONDS:.0f} s: --duration {SINGLE_STREAM_RULE_SECONDS:.0f}."
            )
    if counted[0] is None and all(reading["throttled"] is None for reading in readings):
        notes.append("This machine has no sensor for throttling.")
    return notes + load_notes(readings, cores)
