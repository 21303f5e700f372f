"""edgevit bench and compare: latency, and which differences are real."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.errors import MeasurementError
from edgevit.results import BenchReport
from edgevit.units import format_mib, format_ms, format_percent


@click.command("bench")
@click.argument("bundle", type=options.OUTPUT_PATH)
@options.threads
@click.option("--min-seconds", type=options.FiniteRange(0, 3600), default=3.0, show_default=True)
@click.option("--min-runs", type=click.IntRange(1, 1_000_000), default=64, show_default=True)
@click.option("-o", "--output", "target", type=options.OUTPUT_PATH, help="Also write the report to this file.")
@speaking
def bench_command(
    output: Output, bundle: Path, threads: int | None, min_seconds: float, min_runs: int, target: Path | None
) -> None:
    """Latency of a BUNDLE on this machine, in a fresh process. An invalid measurement ends with exit code 6."""
    from edgevit.bench.local import bench_bundle
    from edgevit.bundle import load_bundle
    from edgevit.store import write_json

    load_bundle(bundle)
    report = bench_bundle(bundle, threads, min_seconds=min_seconds, min_runs=min_runs)
    if target is not None:
        write_json(target, report)
    if output.is_json:
        output.document(report)
    else:
        _print_report(output, report)
    if not report.is_valid:
        raise MeasurementError(f"This measurement may not be used: {'; '.join(report.invalid_reasons)}")
    output.next("edgevit", "predict", "picture.jpg", "--bundle", bundle)


@click.command("compare")
@click.argument("items", nargs=-1, required=True, type=options.OUTPUT_PATH)
@options.threads
@speaking
def compare_command(output: Output, items: tuple[Path, ...], threads: int | None) -> None:
    """Reports (JSON of 'edgevit bench') or bundles side by side. Bundles for this machine are measured in turns."""
    from edgevit.bench.compare import compare
    from edgevit.bench.sides import measured_differences, read_sides

    sides = read_sides(items)
    comparison = compare(sides.documents)
    differences = (*comparison.differences, *measured_differences(sides, threads))
    if output.is_json:
        plain = comparison.model_copy(update={"differences": differences}).model_dump(mode="json")
        output.document({"kind": "comparison", **plain})
        return
    table = Table("", "Model", "Precision", "Runtime", "Device", "Threads", "p50", "p90", "Top-1", "Size")
    for row in comparison.rows:
        accuracy = format_percent(row.accuracy.top1, row.accuracy.ci95) if row.accuracy else "–"
        table.add_row(
            row.name, row.model, row.precision, row.runtime, row.device, str(row.threads or "–"),
            format_ms(row.p50_ms), format_ms(row.p90_ms), accuracy, format_mib(row.size_mib),
        )  # fmt: skip
    output.table(table)
    for difference in differences:
        output.text(f"• {difference.sentence}")
    for note in comparison.notes:
        output.text(f"  {note}")


def _print_report(output: Output, report: BenchReport) -> None:
    latency = report.latency_ms
    p99 = format_ms(latency.p99) if latency.p99 is not None else f"not stated below 662 runs ({latency.runs} here)"
    plural = f"{report.threads} thread{'' if report.threads == 1 else 's'}"
    output.text(f"{report.model}, {report.precision}, batch {report.batch}")
    output.text(f"{report.runtime} {report.runtime_version}, {plural}, on {report.machine.cpu}")
    output.text(f"p50 {format_ms(latency.p50)}   p90 {format_ms(latency.p90)}   p99 {p99}")
    output.text(f"mean {format_ms(latency.mean)}   MAD {format_ms(latency.mad)}   {latency.runs} runs")
    output.text(
        f"load {format_ms(report.load_ms)}   first inference {format_ms(report.first_inference_ms)}   "
        f"peak RSS {format_mib(report.peak_rss_mib)}"
    )
    for note in report.notes:
        output.text(f"• {note}")
