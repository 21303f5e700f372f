"""A sweep over thread counts: a report of each, what more threads bring, and which count is best.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Counts are measured one after the other, not in turns: a smaller gain than this may be what came in between.
GAIN_SHARE = 0.03


def sweep_document(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The document that benchreport.BenchSweep reads, of reports that differ in their threads only.

    It is as valid as all of its reports are.
    """
    rows = sweep_rows(reports)
    best = best_threads(reports)
    reasons = [f"{thread_words(report['threads'])}: {why}" for report in reports for why in report["invalid_reasons"]]
    return {
        "kind": "bench-sweep",
        "rows": rows,
        "best_threads": best,
        "sentence": _sentence(rows, best),
        "is_valid": not reasons,
        "invalid_reasons": reasons,
        "reports": [dict(report) for report in reports],
    }


def sweep_rows(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a report. speed_up: the median of one thread over this one's; efficiency: that by threads, 1.0 is all
    that they could bring. Both None where one thread was not measured.
    """
    one_ms = next((report["latency_ms"]["p50"] for report in reports if report["threads"] == 1), None)
    rows = []
    for report in reports:
        latency, energy = report["latency_ms"], report.get("energy") or {}
        speed_up = one_ms / latency["p50"] if one_ms is not None and latency["p50"] > 0 else None
        rows.append(
            {
                "threads": report["threads"],
                "p50_ms": latency["p50"],
                "p90_ms": latency["p90"],
                "pictures_per_s": report["pictures_per_s"],
                "mj_per_picture": energy.get("mj_per_picture", energy.get("mj_per_inference")),
                "speed_up": speed_up,
                "efficiency": None if speed_up is None else speed_up / report["threads"],
                "is_valid": report["is_valid"],
            }
        )
    return rows


def best_threads(reports: Sequence[dict[str, Any]]) -> int | None:
    """The fewest threads within 3 % of the lowest median, among valid reports; None when none is valid."""
    valid = [report for report in reports if report["is_valid"]]
    fastest_ms = min((report["latency_ms"]["p50"] for report in valid), default=None)
    if fastest_ms is None:
        return None
    return min(int(each["threads"]) for each in valid if each["latency_ms"]["p50"] <= fastest_ms * (1 + GAIN_SHARE))


def describe_sweep(document: dict[str, Any]) -> str:
    """A sweep's figures for people: a table of fixed columns and the sentence."""
    heads = f"{'threads':>7} {'p50':>11} {'p90':>11} {'pictures/s':>11} {'mJ/picture':>10}"
    lines = [f"{heads} {'speed-up':>9} {'efficiency':>11}"]
    for row in document["rows"]:
        energy = "–" if row["mj_per_picture"] is None else f"{row['mj_per_picture']:.3g}"
        speed_up = "–" if row["speed_up"] is None else f"{row['speed_up']:.2f}×"
        efficiency = "–" if row["efficiency"] is None else f"{100 * row['efficiency']:.0f} %"
        lines.append(
            f"{row['threads']:>7} {row['p50_ms']:>8.2f} ms {row['p90_ms']:>8.2f} ms {row['pictures_per_s']:>11.1f} "
            f"{energy:>10} {speed_up:>9} {efficiency:>11}" + ("" if row["is_valid"] else "  invalid")
        )
    return "\n".join([*lines, document["sentence"]])


def thread_words(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _sentence(rows: Sequence[dict[str, Any]], best: int | None) -> str:
    if best is None:
        return "No count of threads is best: none was measured validly."
    row = next(row for row in rows if row["threads"] == best)
    fastest = min((row for row in rows if row["is_valid"]), key=lambda row: float(row["p50_ms"]))
    words = f"{thread_words(best)} {'is' if best == 1 else 'are'} best: p50 {row['p50_ms']:.2f} ms"
    if best > 1 and row["speed_up"] is not None:
        words += f", {row['speed_up']:.2f} times as fast as one"
    if fastest["threads"] != best:
        share = 100 * (row["p50_ms"] / fastest["p50_ms"] - 1)
        words += f"; {thread_words(fastest['threads'])} gain {share:.1f} % more, too little to tell from chance"
    return words + "."
