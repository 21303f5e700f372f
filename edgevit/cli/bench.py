"""edgevit bench and compare: latency, and which differences are real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.errors import InputError, MeasurementError
from edgevit.results import BenchReport
from edgevit.units import format_mib, format_ms, format_percent

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.remote.bench import RemoteOptions
    from edgevit.remote.fleet import FleetReport
    from edgevit.remote.host import Host


# What says how to time, or where: senseless beside --emulate.
ALONE = ("threads", "min_seconds", "min_runs", "named", "inventory", "ssh_config", "jobs")


@click.command("bench")
@click.argument("bundle", type=options.OUTPUT_PATH)
@options.threads
@click.option("--min-seconds", type=options.FiniteRange(0, 3600), default=3.0, show_default=True)
@click.option("--min-runs", type=click.IntRange(1, 1_000_000), default=64, show_default=True)
@options.boards
@options.emulation
@click.option("-o", "--output", "target", type=options.OUTPUT_PATH, help="Also write the report to this file.")
@speaking
@click.pass_context
def bench_command(
    context: click.Context,
    output: Output,
    bundle: Path,
    threads: int | None,
    min_seconds: float,
    min_runs: int,
    named: tuple[str, ...],
    inventory: Path | None,
    ssh_config: Path | None,
    wheels: Path | None,
    offline: bool,
    jobs: int,
    emulate: bool,
    device: str | None,
    data: str | None,
    limit: int,
    target: Path | None,
) -> int:
    """Latency of a BUNDLE on this machine, or on boards over SSH. An invalid measurement ends with exit code 6.

    With --emulate it runs on an emulated board and is not timed: does it load and say the same there, how much memory
    does it take, and of which instructions is it made?
    """
    from edgevit.bench.local import bench_bundle
    from edgevit.bundle import load_bundle
    from edgevit.remote.inventory import all_hosts
    from edgevit.store import write_json

    hosts = all_hosts(named, inventory)
    if emulate:
        from edgevit.cli.emulate import emulate_bundle

        _refuse_given(context, ALONE, "does not go with --emulate, which times nothing and runs one thread")
        return emulate_bundle(output, bundle, device, data, limit, wheels, offline, target)
    _refuse_given(context, ("device", "data", "limit"), "is for --emulate")
    if not hosts and (ssh_config or wheels):
        raise InputError("--ssh-config and --wheels are for boards. Name one with --host user@board.")
    loaded = load_bundle(bundle)
    document: BenchReport | FleetReport
    if hosts:
        from edgevit.remote.bench import RemoteOptions
        from edgevit.remote.connection import SshOptions
        from edgevit.remote.environment import WheelSource

        remote = RemoteOptions(SshOptions(ssh_config), WheelSource(wheels, offline), threads, min_seconds, min_runs)
        document = _on_boards(hosts, loaded, remote, jobs)
    else:
        document = bench_bundle(bundle, threads, min_seconds=min_seconds, min_runs=min_runs)
    if target is not None:
        write_json(target, document)
    if output.is_json:
        output.document(document)
    elif isinstance(document, BenchReport):
        _print_report(output, document)
    else:
        _print_fleet(output, document)
    if not isinstance(document, BenchReport):
        return document.exit_code
    if not document.is_valid:
        raise MeasurementError(f"This measurement may not be used: {'; '.join(document.invalid_reasons)}")
    output.next("edgevit", "predict", "picture.jpg", "--bundle", bundle)
    return 0


@click.command("compare")
@click.argument("items", nargs=-1, required=True, type=options.OUTPUT_PATH)
@options.threads
@speaking
def compare_command(output: Output, items: tuple[Path, ...], threads: int | None) -> None:
    """Reports (JSON of 'edgevit bench') or bundles side by side. Bundles for this machine are measured in turns."""
    from edgevit.bench.sides import compare_sides, read_sides

    comparison = compare_sides(read_sides(items), threads)
    if output.is_json:
        output.document({"kind": "comparison", **comparison.model_dump(mode="json")})
        return
    table = Table("", "Model", "Precision", "Runtime", "Device", "Threads", "p50", "p90", "Top-1", "Size")
    for row in comparison.rows:
        accuracy = format_percent(row.accuracy.top1, row.accuracy.ci95) if row.accuracy else "–"
        table.add_row(
            row.name, row.model, row.precision, row.runtime, row.device, str(row.threads or "–"),
            format_ms(row.p50_ms), format_ms(row.p90_ms), accuracy, format_mib(row.size_mib),
        )  # fmt: skip
    output.table(table)
    for difference in comparison.differences:
        output.text(f"• {difference.sentence}")
    for note in comparison.notes:
        output.text(f"  {note}")


def _refuse_given(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """Raises InputError for the first of these options that was given, even with its default's value."""
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if parameter.name in names and is_given:
            raise InputError(f"{parameter.opts[0]} {why}.")


def _on_boards(hosts: tuple[Host, ...], bundle: Bundle, remote: RemoteOptions, jobs: int) -> BenchReport | FleetReport:
    """One board's report, or that of a fleet."""
    from edgevit.cli.progress import TerminalProgress
    from edgevit.remote.bench import bench_on_board
    from edgevit.remote.fleet import bench_fleet

    with TerminalProgress() as progress:
        if len(hosts) == 1:
            return bench_on_board(hosts[0], bundle, remote, progress)
        return bench_fleet(
            hosts, lambda host, own, cancel: bench_on_board(host, bundle, remote, own, cancel), jobs, progress
        )


def _print_fleet(output: Output, fleet: FleetReport) -> None:
    table = Table("Host", "Board", "Runtime", "Threads", "p50", "p90", "Peak RSS", "")
    for board in fleet.boards:
        report = board.report
        if report is None:
            table.add_row(board.host, "", "", "", "–", "–", "–", Text(board.error or "", style="red"))
            continue
        table.add_row(
            board.host, report.machine.cpu, f"{report.runtime} {report.runtime_version}", str(report.threads),
            format_ms(report.latency_ms.p50), format_ms(report.latency_ms.p90), format_mib(report.peak_rss_mib),
            Text(f"invalid: {board.error}" if board.error else "", style="yellow"),
        )  # fmt: skip
    output.table(table)
    for spread in fleet.spreads:
        output.text(f"• {spread.sentence}")


def _print_report(output: Output, report: BenchReport) -> None:
    latency = report.latency_ms
    p99 = format_ms(latency.p99) if latency.p99 is not None else f"not stated below 662 runs ({latency.runs} here)"
    plural = f"{report.threads} thread{'' if report.threads == 1 else 's'}"
    output.text(f"{report.model}, {report.precision}, batch {report.batch}")
    where = f"{report.machine.cpu} ({report.host})" if report.host else report.machine.cpu
    output.text(f"{report.runtime} {report.runtime_version}, {plural}, on {where}")
    output.text(f"p50 {format_ms(latency.p50)}   p90 {format_ms(latency.p90)}   p99 {p99}")
    output.text(f"mean {format_ms(latency.mean)}   MAD {format_ms(latency.mad)}   {latency.runs} runs")
    output.text(
        f"load {format_ms(report.load_ms)}   first inference {format_ms(report.first_inference_ms)}   "
        f"peak RSS {format_mib(report.peak_rss_mib)}"
    )
    for note in report.notes:
        output.text(f"• {note}")
