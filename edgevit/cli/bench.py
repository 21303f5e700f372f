"""edgevit bench and compare: latency, and which differences are real."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from edgevit.benchreport import BenchReport, BenchSweep
from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.errors import InputError, MeasurementError
from edgevit.units import format_mib, format_ms, format_percent, format_seconds

if TYPE_CHECKING:
    from edgevit.benchreport import BenchDocument
    from edgevit.board.options import BenchOptions
    from edgevit.bundle import Bundle
    from edgevit.remote.bench import RemoteOptions
    from edgevit.remote.fleet import FleetReport
    from edgevit.remote.host import Host


# What says how to time, or where: senseless beside --emulate.
ALONE = (*options.TIMING, "named", "inventory", "ssh_config", "jobs")
ANNOUNCED_SECONDS = 6.0
OVER_SSH = ("ssh_config", "wheels", "offline", "jobs")


@click.command("bench")
@click.argument("bundle", type=options.OUTPUT_PATH)
@options.timing
@options.boards
@options.emulation
@click.option("-o", "--output", "target", type=options.OUTPUT_PATH, help="Also write the report to this file.")
@speaking
@click.pass_context
def bench_command(
    context: click.Context,
    /,
    output: Output,
    bundle: Path,
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
    **timing: Any,
) -> int:
    """Latency of a BUNDLE on this machine, or on boards over SSH. An invalid measurement ends with exit code 6.

    With --emulate it runs on an emulated board and is not timed: does it load and say the same there, how much memory
    does it take, and of which instructions is it made?
    """
    from edgevit.bench.local import bench_document
    from edgevit.board.options import BenchOptions
    from edgevit.bundle import load_bundle
    from edgevit.cli import bench_print
    from edgevit.remote.inventory import all_hosts
    from edgevit.store import require_writable, write_json

    hosts = all_hosts(named, inventory)
    if emulate:
        from edgevit.cli.emulate import emulate_bundle

        _refuse_given(context, ALONE, "does not go with --emulate, which times nothing and runs one thread")
        return emulate_bundle(output, bundle, device, data, limit, wheels, offline, target)
    _refuse_given(context, ("device", "data", "limit"), "is for --emulate")
    if not hosts:
        _refuse_given(context, OVER_SSH, "is for boards. Name one with --host user@board")
    asked = BenchOptions(**timing)
    asked.check()
    loaded = load_bundle(bundle)
    if target is not None:
        require_writable(target)
    document: BenchDocument | FleetReport
    if hosts:
        from edgevit.remote.bench import RemoteOptions
        from edgevit.remote.connection import SshOptions
        from edgevit.remote.environment import WheelSource

        remote = RemoteOptions(SshOptions(ssh_config), WheelSource(wheels, offline), asked)
        document = _on_boards(hosts, loaded, remote, jobs)
    else:
        _announce(asked)
        document = bench_document(bundle, asked)
    if output.is_json:
        output.document(document)
    else:
        bench_print.print_document(output, document)
    if target is not None:
        write_json(target, document)
    if not isinstance(document, (BenchReport, BenchSweep)):
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


def _announce(asked: BenchOptions) -> None:
    """How long it will take, where that is long: a bar that moves meanwhile would be measured, too."""
    seconds = asked.seconds * max(1, len(asked.threads))
    if seconds >= ANNOUNCED_SECONDS and asked.cold_start is None and sys.stderr.isatty():
        click.echo(f"Measuring for {format_seconds(seconds)} at least", err=True)


def _refuse_given(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """Raises InputError for the first of these options that was given, even with its default's value."""
    for parameter in context.command.params:
        if parameter.name in names and options.is_given(context, parameter.name):
            raise InputError(f"{parameter.opts[0]} {why}.")


def _on_boards(
    hosts: tuple[Host, ...], bundle: Bundle, remote: RemoteOptions, jobs: int
) -> BenchDocument | FleetReport:
    """What one board measured, or a fleet."""
    from edgevit.cli.progress import TerminalProgress
    from edgevit.remote.bench import bench_on_board
    from edgevit.remote.fleet import bench_fleet

    with TerminalProgress() as progress:
        if len(hosts) == 1:
            return bench_on_board(hosts[0], bundle, remote, progress)
        return bench_fleet(
            hosts, lambda host, own, cancel: bench_on_board(host, bundle, remote, own, cancel), jobs, progress
        )
