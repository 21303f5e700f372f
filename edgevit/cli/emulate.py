"""edgevit bench --emulate: what a bundle does on an emulated board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from edgevit.cli.output import Output
from edgevit.errors import InputError, ParityError
from edgevit.units import format_mib, format_percent

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.cli.progress import TerminalProgress
    from edgevit.emulation.bench import Pictures
    from edgevit.emulation.report import EmulationReport, InstructionCounts

CLASSES = {
    "dot_products": "integer dot products (SDOT, UDOT)",
    "matrix_products": "integer matrix products (SMMLA)",
    "integer_products": "other integer products of vectors",
    "float_products": "float multiply-adds (FMLA)",
    "simd_other": "other SIMD and floating point",
    "simd_loads_stores": "loads and stores of vectors",
    "loads_stores": "other loads and stores",
    "branches": "branches and system",
    "integer": "integer arithmetic",
    "other": "others",
}


def emulate_bundle(
    output: Output,
    path: Path,
    device: str | None,
    data: str | None,
    limit: int,
    wheels: Path | None,
    offline: bool,
    target: Path | None,
) -> int:
    """Emulates, prints, writes to `target`. Raises ParityError after it when the self-check fails."""
    from edgevit.bundle import load_bundle
    from edgevit.catalog import load_device
    from edgevit.cli.progress import TerminalProgress
    from edgevit.emulation.bench import EmulationOptions, bench_emulated
    from edgevit.remote.environment import WheelSource
    from edgevit.store import require_writable, write_json

    bundle = load_bundle(path)
    profile = load_device(device or bundle.manifest.device.name)
    if target is not None:
        require_writable(target)
    with TerminalProgress() as progress:
        pictures = None if data is None else _pictures(bundle, data, limit, offline, progress)
        report = bench_emulated(bundle, profile, EmulationOptions(WheelSource(wheels, offline), pictures), progress)
    if output.is_json:
        output.document(report)
    else:
        _print_report(output, report)
    if target is not None:
        write_json(target, report)
    if not report.passed:
        raise ParityError(f"On an emulated {report.cpu} this bundle does not say what it says here. Do not deploy it.")
    output.next("edgevit", "bench", path, "--host", "user@board")
    return 0


def _pictures(bundle: Bundle, data: str, limit: int, offline: bool, progress: TerminalProgress) -> Pictures:
    """Of the validation split that the training had. Raises InputError when the bundle has other classes."""
    from edgevit.data.datasets import open_dataset
    from edgevit.data.splits import stratified_subset
    from edgevit.emulation.bench import Pictures
    from edgevit.recipe import split_as_trained
    from edgevit.subject import require_same_classes

    progress.stage("Opening the data")
    spec = split_as_trained(data, bundle.manifest.model.trained_on)
    dataset = open_dataset(spec, offline=offline, notify=progress.note, progress=progress.update)
    require_same_classes(bundle.path, bundle.labels, dataset.classes)
    chosen = dataset.val if limit >= len(dataset.val) else stratified_subset(dataset.val, limit, spec.seed)
    if not len(chosen):
        raise InputError(f"{data}: has no validation pictures.")
    return Pictures(data, chosen)


def _print_report(output: Output, report: EmulationReport) -> None:
    from edgevit.board.sweep import thread_words
    from edgevit.wording import predicted

    output.text(f"{report.model}, {report.precision}, batch {report.batch}: {report.what}")
    output.text(f"{report.device} as {report.emulator}'s {report.cpu}, {report.system}, Python {report.python}")
    output.text(f"{report.runtime} {report.runtime_version}, {thread_words(report.threads)}")
    golden = report.golden
    output.text(
        f"runs there; golden pictures: {'passed' if report.passed else 'FAILED'}, cosine {golden.cosine:.6f} "
        f"(at least {report.thresholds.cosine}), top-1 agreement {format_percent(100 * golden.top1_agreement)}, "
        f"largest difference {golden.max_abs:.3g}, n = {golden.n}"
    )
    if report.pictures is not None:
        seen = report.pictures
        output.text(
            f"{seen.data}, validation: top-1 agreement with this machine "
            f"{format_percent(100 * seen.agreement.top1_agreement)}, cosine {seen.agreement.cosine:.6f}, "
            f"n = {seen.agreement.n:,}; top-1 {format_percent(seen.emulated.top1, seen.emulated.ci95)} there, "
            f"{format_percent(seen.host.top1, seen.host.ci95)} here"
        )
    output.text(f"peak memory {format_mib(report.peak_rss_mib)}, the emulator's included")
    if report.instructions is not None:
        output.table(_table(report.instructions))
    output.text(f"kernels: {report.kernels}")
    if report.prediction is not None:
        output.text(predicted(report.prediction))
    for note in report.notes:
        output.text(f"• {note}")


def _table(counts: InstructionCounts) -> Table:
    table = Table("Instructions of one inference (emulated, not a latency)", "Million", "Share")
    for name, title in CLASSES.items():
        number = getattr(counts, name)
        if number:
            table.add_row(title, f"{number / 1e6:.3f}", format_percent(100 * counts.share(name)))
    table.add_section()
    table.add_row("in all", f"{counts.total / 1e6:.3f}", format_percent(100.0))
    return table
