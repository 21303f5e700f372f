"""A measurement in words: the lines that `agent.py bench` prints, and those that the host prints as well.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.board.coldstart import PHASES
from edgevit.board.cores import core_list
from edgevit.board.stats import P99_SAMPLES, percent_text
from edgevit.board.sweep import describe_sweep, thread_words

if TYPE_CHECKING:
    from collections.abc import Mapping


def describe_document(document: dict[str, Any]) -> str:
    """A report's lines, or a sweep's table with what its reports share."""
    if document["kind"] != "bench-sweep":
        return describe_bench(document)
    report = document["reports"][0]
    heading = f"{report['model']}, {report['precision']}, {report['runtime']} {report['runtime_version']}"
    notes = dict.fromkeys(note for each in document["reports"] for note in each["notes"])
    lines = [f"{heading}, batch {report['batch']}", _on_machine(report), describe_sweep(document)]
    return "\n".join(lines + ["Note: " + note for note in notes])


def describe_bench(report: dict[str, Any]) -> str:
    """A report's figures in a few lines for people."""
    latency = report["latency_ms"]
    p99 = f"needs {P99_SAMPLES} runs" if latency["p99"] is None else f"{latency['p99']:.2f} ms"
    lines = [
        f"{report['model']}, {report['precision']}, {report['runtime']} {report['runtime_version']}, "
        f"{thread_words(report['threads'])}, batch {report['batch']}",
        _on_machine(report),
        *describe_headline(report),
        f"p50 {latency['p50']:.2f} ms, p90 {latency['p90']:.2f} ms, p99 {p99}, mean {latency['mean']:.2f} ms, "
        f"MAD {latency['mad']:.2f} ms, {latency['runs']} runs",
        *describe_extras(report),
        f"load {report['load_ms']:.0f} ms, first inference {report['first_inference_ms']:.1f} ms, "
        f"peak memory {report['peak_rss_mib']:.0f} MiB",
        describe_energy(report.get("energy")),
    ]
    return "\n".join(lines + ["Note: " + note for note in report["notes"]])


def describe_headline(report: Mapping[str, Any]) -> list[str]:
    """The line that comes before all figures: of a single stream, its p90 and MLPerf's estimate of it."""
    if report["mode"] != "single-stream":
        return []
    estimate = report["early_stopping_p90_ms"]
    early = "not to be had of so few" if estimate is None else f"{estimate:.2f} ms"
    p90 = f"p90 {report['latency_ms']['p90']:.2f} ms, early-stopping estimate {early}"
    return [f"{p90}: like MLPerf SingleStream, no MLPerf result"]


def describe_extras(report: Mapping[str, Any]) -> list[str]:
    """Lines on what was asked for beyond a plain measurement: streams, cores, percentiles, throughput, cold starts."""
    lines = []
    setting = []
    if report["streams"] > 1:
        setting.append(f"{report['streams']} streams at a time")
    if report["cores"] is not None:
        setting.append(f"held to core{'' if len(report['cores']) == 1 else 's'} {core_list(report['cores'])}")
    lines += [", ".join(setting)] if setting else []
    if report["percentiles"]:
        runs = report["latency_ms"]["runs"]
        lines.append(", ".join(_percentile(each, runs) for each in report["percentiles"]))
    if report["mode"] == "cold-start":
        lines += _cold_start(report["cold_start"])
    elif report["pictures_per_s"] is not None and (report["streams"] > 1 or report["batch"] > 1):
        each = "" if report["batch"] == 1 else f" (a latency is that of {report['batch']} pictures)"
        lines.append(f"{report['pictures_per_s']:.1f} pictures per second{each}")
    return lines


def describe_energy(energy: Mapping[str, Any] | None) -> str:
    """'energy 91 mJ per picture at 3.42 W (…)', or why it is not available."""
    energy = energy or {"mj_per_picture": None, "missing": ""}
    if energy["mj_per_picture"] is None:
        return "energy not available" + (f": {energy['missing']}" if energy["missing"] else "")
    return f"energy {energy['mj_per_picture']:.3g} mJ per picture at {energy['power_w']:.2f} W ({energy['sensor']})"


def _on_machine(report: Mapping[str, Any]) -> str:
    return f"on {report['device']}: {report['machine']['cpu']}, {report['machine']['arch']}"


def _percentile(stated: Mapping[str, Any], runs: int) -> str:
    name = f"p{percent_text(stated['percent'])}"
    return (
        f"{name} needs {stated['needed']:,} runs ({runs:,} here)"
        if stated["ms"] is None
        else (f"{name} {stated['ms']:.2f} ms")
    )


def _cold_start(found: Mapping[str, Any]) -> list[str]:
    phases = ", ".join(f"{name[:-3].replace('_', ' ')} {found[name]:.0f} ms" for name in PHASES)
    return [
        f"from the start of a process to its first logits, {found['starts']} starts: {phases} (medians)",
        f"first start {found['first_start_ms']:.0f} ms, slowest less fastest {found['spread_ms']:.0f} ms",
    ]
