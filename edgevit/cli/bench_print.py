"""What `edgevit bench` prints for people: a report, a sweep over threads, a fleet of boards."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from edgevit.benchreport import BenchDocument, BenchReport, BenchSweep
from edgevit.board.describe import describe_energy, describe_extras, describe_headline
from edgevit.board.stats import P99_SAMPLES
from edgevit.board.sweep import thread_words
from edgevit.cli.output import Output
from edgevit.remote.fleet import BoardResult, FleetReport
from edgevit.units import format_mib, format_ms, format_percent


def print_document(output: Output, document: BenchDocument | FleetReport) -> None:
    if isinstance(document, BenchReport):
        _print_report(output, document)
    elif isinstance(document, BenchSweep):
        _print_sweep(output, document)
    else:
        _print_fleet(output, document)


def _print_report(output: Output, report: BenchReport) -> None:
    latency = report.latency_ms
    few = f"not stated below {P99_SAMPLES} runs ({latency.runs} here)"
    p99 = format_ms(latency.p99) if latency.p99 is not None else few
    figures = report.model_dump(exclude={"samples_ms"})
    _print_heading(output, report)
    output.text(f"{report.runtime} {report.runtime_version}, {thread_words(report.threads)}, on {_where(report)}")
    for line in describe_headline(figures):
        output.text(line)
    output.text(f"p50 {format_ms(latency.p50)}   p90 {format_ms(latency.p90)}   p99 {p99}")
    output.text(f"mean {format_ms(latency.mean)}   MAD {format_ms(latency.mad)}   {latency.runs} runs")
    for line in describe_extras(figures):
        output.text(line)
    output.text(
        f"load {format_ms(report.load_ms)}   first inference {format_ms(report.first_inference_ms)}   "
        f"peak RSS {format_mib(report.peak_rss_mib)}"
    )
    output.text(describe_energy(figures["energy"]))
    for note in report.notes:
        output.text(f"• {note}")


def _print_sweep(output: Output, sweep: BenchSweep) -> None:
    report = sweep.reports[0]
    _print_heading(output, report)
    output.text(f"{report.runtime} {report.runtime_version}, on {_where(report)}")
    table = Table("Threads", "p50", "p90", "Pictures/s", "mJ/picture", "Speed-up", "Efficiency", "")
    for row in sweep.rows:
        table.add_row(
            str(row.threads), format_ms(row.p50_ms), format_ms(row.p90_ms),
            "–" if row.pictures_per_s is None else f"{row.pictures_per_s:.1f}",
            "–" if row.mj_per_picture is None else f"{row.mj_per_picture:.3g}",
            "–" if row.speed_up is None else f"{row.speed_up:.2f}×",
            "–" if row.efficiency is None else format_percent(100 * row.efficiency),
            Text("" if row.is_valid else "invalid", style="yellow"),
        )  # fmt: skip
    output.table(table)
    output.text(f"• {sweep.sentence}")
    if all(row.mj_per_picture is None for row in sweep.rows):
        output.text(f"• {describe_energy(report.energy.model_dump() if report.energy else None)}")
    for note in dict.fromkeys(note for each in sweep.reports for note in each.notes):
        output.text(f"• {note}")


def _print_fleet(output: Output, fleet: FleetReport) -> None:
    table = Table("Host", "Board", "Runtime", "Threads", "p50", "p90", "mJ/picture", "Peak RSS", "")
    for board in fleet.boards:
        for report in board.reports:
            energy = report.energy.mj_per_picture if report.energy else None
            table.add_row(
                board.host, report.machine.cpu, f"{report.runtime} {report.runtime_version}", str(report.threads),
                format_ms(report.latency_ms.p50), format_ms(report.latency_ms.p90),
                "–" if energy is None else f"{energy:.3g}", format_mib(report.peak_rss_mib),
                Text(_fault(board, report), style="yellow"),
            )  # fmt: skip
        if not board.reports:
            table.add_row(board.host, "", "", "", "–", "–", "–", "–", Text(board.error or "", style="red"))
    output.table(table)
    for board in fleet.boards:
        if board.sweep is not None:
            output.text(f"• {board.host}: {board.sweep.sentence}")
    for spread in fleet.spreads:
        output.text(f"• {spread.sentence}")


def _print_heading(output: Output, report: BenchReport) -> None:
    output.text(f"{report.model}, {report.precision}, batch {report.batch}")


def _where(report: BenchReport) -> str:
    return f"{report.machine.cpu} ({report.host})" if report.host else report.machine.cpu


def _fault(board: BoardResult, report: BenchReport) -> str:
    """Why this report may not be used; a board's error is that of its one report."""
    return "" if report.is_valid else f"invalid: {' '.join(report.invalid_reasons) or board.error}"
