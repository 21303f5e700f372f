"""The candidates, the verdict and the final figure, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from edgevit.cli.output import Output
from edgevit.errors import BudgetError
from edgevit.results import Accuracy, AccuracyDrop, Candidate, Interval, Verdict
from edgevit.units import format_mib, format_ms, format_percent, format_points

NONE = "–"


def print_verdict(output: Output, verdict: Verdict, candidates: Sequence[Candidate]) -> None:
    """Fits into 80 columns: intervals stand below their figures."""
    is_estimated = any(candidate.estimate for candidate in candidates)
    cost = ("Estimated,\nM instr.",) if is_estimated else ("p50", "p90", "vs fp32")
    table = Table("", "Candidate", *cost, "Validation\ntop-1", "Drop,\npoints", "Size", box=None)
    for candidate in candidates:
        accuracy, drop = candidate.accuracy, candidate.drop
        table.add_row(
            "✓" if candidate.shipped else "",
            candidate.name,
            *(_estimate(candidate) if is_estimated else _latency(candidate)),
            f"{accuracy.top1:.1f} %\n{_interval(accuracy.ci95, '.1f')}" if accuracy else NONE,
            f"{drop.points:+.2f}\n{_interval(drop.ci95, '+.2f')}" if drop else NONE,
            format_mib(candidate.size_mib),
        )
    output.table(table)
    for sentence in verdict.sentences:
        output.text(f"• {sentence}")


def _latency(candidate: Candidate) -> tuple[str, str, str]:
    latency, ratio = candidate.latency_ms, candidate.vs_fp32
    return (
        format_ms(latency.p50) if latency else NONE,
        format_ms(latency.p90) if latency else NONE,
        f"{ratio.ratio:.2f}×\n{_interval(ratio.ci95, '.2f')}" if ratio else NONE,
    )


def _estimate(candidate: Candidate) -> tuple[str]:
    estimate = candidate.estimate
    return (f"{estimate.million_instructions:.1f}" if estimate else NONE,)


def print_test(output: Output, shipped: Accuracy | None, drop: AccuracyDrop | None) -> None:
    """The shipped artifact on pictures that had no part in any choice."""
    if shipped is None:
        return
    below = f"; {format_points(-drop.points, (-drop.ci95[1], -drop.ci95[0]))} against fp32" if drop else ""
    output.text(f"\nTest: top-1 {format_percent(shipped.top1, shipped.ci95)} on {shipped.n:,} pictures{below}")


def require_budget_met(verdict: Verdict, drop: AccuracyDrop | None, bundle: str | Path, limit: str) -> None:
    """Raises BudgetError when the shipped artifact loses more than it may on pictures that had no part in the choice.

    drop: on those pictures, None where there are none. limit: what the user sets to allow more.
    """
    allowed = verdict.budget.max_drop
    if drop is None or allowed is None or drop.points <= allowed:
        return
    raise BudgetError(
        f"The budget is not met: on {drop.n:,} test pictures that had no part in the choice, {verdict.shipped} loses "
        f"{drop.points:.2f} points and may lose {allowed:.2f}. {bundle} is written all the same. "
        f"Raise {limit}, or ship fp32."
    )


def _interval(ends: Interval, form: str) -> str:
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]"
