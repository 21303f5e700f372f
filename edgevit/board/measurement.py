"""What a measurement is written down as: which figures, whether they are valid, and what a reader must know about them.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from edgevit.board.sensors import describe_machine
from edgevit.board.stats import P99_SAMPLES, summarize
from edgevit.board.timer import MIN_RUNS, MIN_SECONDS
from edgevit.board.validity import JUDGED_FROM_S, drift, drift_reasons, governor_reasons, load_reasons, throttle_reasons

if TYPE_CHECKING:
    from collections.abc import Sequence


def bench_report(
    manifest: dict[str, Any],
    measured: dict[str, Any],
    readings: Sequence[dict[str, Any]],
    counted: tuple[int | None, int | None],
    *,
    runtime_version: str,
    threads: int,
    batch: int,
    device: str | None,
    load_ms: float,
    first_inference_ms: float,
    others_share: float | None = None,
    energy: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The document that results.BenchReport reads.

    measured: of timer.measure. readings: of sensors.read_sensors, in order. counted: throttle counts before and after.
    device: what this machine is; when None it is taken for the bundle's target, unless it plainly is not.
    others_share: of the processors, what other programs had. energy: of power.PowerMeter.result.
    """
    machine = describe_machine()
    target = manifest["device"]
    foreign = machine["arch"] != target["arch"] or machine["is_emulated"]
    name = device or ("local" if foreign else target["name"])
    samples_ms = measured["samples_ms"]
    is_long = sum(samples_ms) >= 1000.0 * JUDGED_FROM_S
    others_share = others_share if is_long else None
    invalid = [*throttle_reasons(readings, counted), *governor_reasons(readings), *load_reasons(others_share)]
    invalid += drift_reasons(samples_ms)
    runs = len(samples_ms)
    if runs < MIN_RUNS:
        invalid.append(f"Too few samples: {runs} runs, and {MIN_RUNS} are the least.")
    return {
        "kind": "bench",
        "edgevit": manifest["edgevit"],
        "model": manifest["model"]["name"],
        "device": name,
        "machine": machine,
        "runtime": manifest["runtime"]["name"],
        "runtime_version": runtime_version,
        "precision": manifest["precision"],
        "threads": threads,
        "batch": batch,
        "artifact_sha256": manifest["files"][manifest["runtime"]["entry"]]["sha256"],
        "latency_ms": summarize(samples_ms),
        "warmup_runs": measured["warmup_runs"],
        "load_ms": load_ms,
        "first_inference_ms": first_inference_ms,
        "peak_rss_mib": peak_rss_mib(),
        "sensors": list(readings),
        "foreign_share": others_share,
        "drift": drift(samples_ms),
        "energy": energy,
        "is_valid": not invalid,
        "invalid_reasons": invalid,
        "notes": [
            *_notes_on_machine(machine, target["name"], name, threads),
            *_notes_on_run(measured, readings, counted, machine["cores"]),
        ],
        "samples_ms": samples_ms,
    }


def describe_bench(report: dict[str, Any]) -> str:
    """A report's figures in a few lines for people."""
    latency = report["latency_ms"]
    p99 = f"needs {P99_SAMPLES} runs" if latency["p99"] is None else f"{latency['p99']:.2f} ms"
    threads = "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"
    lines = [
        f"{report['model']}, {report['precision']}, {report['runtime']} {report['runtime_version']}, "
        f"{threads}, batch {report['batch']}",
        f"on {report['device']}: {report['machine']['cpu']}, {report['machine']['arch']}",
        f"p50 {latency['p50']:.2f} ms, p90 {latency['p90']:.2f} ms, p99 {p99}, mean {latency['mean']:.2f} ms, "
        f"MAD {latency['mad']:.2f} ms, {latency['runs']} runs",
        f"load {report['load_ms']:.0f} ms, first inference {report['first_inference_ms']:.1f} ms, "
        f"peak memory {report['peak_rss_mib']:.0f} MiB",
        describe_energy(report.get("energy")),
    ]
    return "\n".join(lines + ["Note: " + note for note in report["notes"]])


def describe_energy(energy: dict[str, Any] | None) -> str:
    """'energy 91 mJ per inference at 3.42 W (…)', or why it is not available."""
    energy = energy or {"mj_per_inference": None, "missing": ""}
    if energy["mj_per_inference"] is None:
        return "energy not available" + (f": {energy['missing']}" if energy["missing"] else "")
    return f"energy {energy['mj_per_inference']:.3g} mJ per inference at {energy['power_w']:.2f} W ({energy['sensor']})"


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


def _notes_on_machine(machine: dict[str, Any], target: str, name: str, threads: int) -> list[str]:
    notes = []
    if machine["is_emulated"]:
        notes.append(f"Measured under emulation: no figure of {target}'s speed.")
    elif name != target:
        notes.append(f"Measured on {machine['cpu']} ({machine['arch']}), not on {target}.")
    if threads > machine["cores"]:
        notes.append(f"{threads} threads share {machine['cores']} cores.")
    return notes


def _notes_on_run(
    measured: dict[str, Any], readings: Sequence[dict[str, Any]], counted: tuple[int | None, int | None], cores: int
) -> list[str]:
    notes = []
    if not measured["is_steady"]:
        notes.append(f"The latency had not come to rest after {measured['warmup_runs']} warm-up runs.")
    seconds = sum(measured["samples_ms"]) / 1000.0
    if seconds < MIN_SECONDS:
        notes.append(f"Measured for {seconds:.1f} s; {MIN_SECONDS:.0f} s are the rule.")
    if counted[0] is None and all(reading["throttled"] is None for reading in readings):
        notes.append("This machine has no sensor for throttling.")
    load = readings[0]["load_1min"] if readings else None
    if load is not None and load > cores / 2:
        notes.append(f"The load was {load:.1f} on {cores} cores before the run: other work may have slowed it.")
    return notes
