"""edgevit profile: where a bundle's time goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.errors import InputError
from edgevit.units import format_ms

if TYPE_CHECKING:
    from edgevit.profiling.document import Change, ModuleRow, OperatorRow, Profile, ProfileComparison


@click.command("profile")
@click.argument("bundle", type=options.OUTPUT_PATH)
@click.option("--against", type=options.OUTPUT_PATH, help="Another bundle, measured in turns with BUNDLE: 'before'.")
@options.threads
@click.option("--top", type=click.IntRange(1), default=12, show_default=True, help="Rows of each table.")
@speaking
def profile_command(output: Output, bundle: Path, against: Path | None, threads: int | None, top: int) -> None:
    """Time of a BUNDLE by operator and by layer of the model, on this machine, with ONNX Runtime's profiler."""
    from edgevit.bundle import load_bundle
    from edgevit.cli.progress import TerminalProgress
    from edgevit.extras import require_extras

    if against == bundle:
        raise InputError(f"{bundle}: is named twice.")
    bundles = [load_bundle(path) for path in (bundle, against) if path is not None]
    require_extras("export")
    from edgevit.profiling.measure import profile_bundles
    from edgevit.profiling.summary import compare_profiles

    with TerminalProgress() as progress:
        progress.stage("Profiling")
        after, *before = profile_bundles(bundles, threads, on_round=lambda rounds: progress.update(rounds, 0))
    comparison = compare_profiles(before[0], after) if before else None
    if output.is_json:
        output.document(comparison or after)
        return
    if comparison is None:
        _print_profile(output, after, top)
    else:
        _print_comparison(output, comparison, top)
    output.next("edgevit", "bench", bundle)


def _print_profile(output: Output, profile: Profile, top: int) -> None:
    _print_head(output, profile)
    peak = profile.peak
    output.text(f"peak here (GEMM): fp32 {peak.fp32_gmac_per_s:.1f} GMAC/s, INT8 {peak.int8_gmac_per_s:.1f} GMAC/s")
    _print_operators(output, profile.operators, top)
    _print_modules(output, "Layers", profile.kinds, top)
    if len(profile.kinds) < len(profile.modules):
        _print_modules(output, "Layer", profile.modules, top)
    floats = [node for name in profile.float_weights for node in profile.nodes if node.name == name]
    if floats:
        ms = sum(node.median_ms for node in floats)
        output.text(f"Weights that are multiplied in float, {format_ms(ms)} in all:")
        for node in floats[:top]:
            output.text(f"  {node.module or node.name}: {node.op_type}, {format_ms(node.median_ms)}")
        _print_more(output, [node.median_ms for node in floats[top:]])
    for note in profile.notes:
        output.text(f"• {note}")


def _print_comparison(output: Output, comparison: ProfileComparison, top: int) -> None:
    sides = {"before": comparison.before, "after": comparison.after}
    for side, profile in sides.items():
        _print_head(output, profile, f"{side}: ")
    _print_changes(output, "Part", comparison.parts, top)
    _print_changes(output, "Layers", comparison.kinds, top)
    if len(comparison.kinds) < len(comparison.modules):
        _print_changes(output, "Layer", comparison.modules, top)
    for side, profile in sides.items():
        for note in profile.notes:
            output.text(f"• {side}: {note}")


def _print_head(output: Output, profile: Profile, side: str = "") -> None:
    from edgevit.board.sweep import thread_words

    output.text(f"{side}{profile.bundle}: {profile.model}, {profile.precision}, batch {profile.batch}")
    threads = thread_words(profile.threads)
    output.text(f"{profile.runtime} {profile.runtime_version}, {threads}, on {profile.machine.cpu}")
    output.text(
        f"p50 {format_ms(profile.wall_ms)} without profiling; operators add up to {format_ms(profile.kernels_ms)} "
        f"(medians of {profile.runs} runs)"
    )


def _print_operators(output: Output, rows: Sequence[OperatorRow], top: int) -> None:
    table = Table("Operator", "Part", "Arithmetic", "Nodes", "Time", "Share", "MACs M", "GMAC/s", "Of peak")
    for row in rows[:top]:
        macs = "–" if row.macs is None else f"{row.macs / 1e6:.1f}"
        rate = "–" if row.gmac_per_s is None else f"{row.gmac_per_s:.1f}"
        reached = "–" if row.share_of_peak is None else f"{row.share_of_peak:.0f} %"
        part, arithmetic = ("–", "–") if row.arithmetic is None else (row.part, row.arithmetic)
        table.add_row(
            row.operator, part, arithmetic, str(row.nodes), format_ms(row.ms), f"{row.share:.1f} %", macs, rate, reached
        )
    output.table(table)
    _print_more(output, [row.ms for row in rows[top:]])


def _print_modules(output: Output, title: str, modules: Sequence[ModuleRow], top: int) -> None:
    table = Table(title, "Nodes", "Time", "Share", "MACs M")
    rows = sorted(modules, key=lambda row: -row.ms)
    for row in rows[:top]:
        macs = f"{row.macs / 1e6:.1f}" if row.macs else "–"
        table.add_row(row.module, str(row.nodes), format_ms(row.ms), f"{row.share:.1f} %", macs)
    output.table(table)
    _print_more(output, [row.ms for row in rows[top:]])


def _print_changes(output: Output, kind: str, changes: Sequence[Change], top: int) -> None:
    table = Table(kind, "Before", "After", "Difference")
    for change in changes[:top]:
        table.add_row(
            change.name, format_ms(change.before_ms), format_ms(change.after_ms), _signed(change.difference_ms)
        )
    output.table(table)
    if len(changes) > top:
        rest = sum(change.difference_ms for change in changes[top:])
        output.text(f"  and {len(changes) - top} more, {_signed(rest)} together")


def _signed(difference_ms: float) -> str:
    return f"{'+' if difference_ms > 0 else '−'}{format_ms(abs(difference_ms))}"


def _print_more(output: Output, rest_ms: Sequence[float]) -> None:
    if rest_ms:
        output.text(f"  and {len(rest_ms)} more, {format_ms(sum(rest_ms))} together")
