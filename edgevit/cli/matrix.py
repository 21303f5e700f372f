"""edgevit matrix: what every runtime makes of every model, in each precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.recipe import PRETRAINED, RuntimeName

if TYPE_CHECKING:
    from edgevit.results import Matrix


@click.command("matrix")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@options.device
@click.option("-o", "--output", "out", type=options.OUTPUT_PATH, help="A folder for the page and matrix.json.")
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice(get_args(RuntimeName)),
    multiple=True,
    help="Only this one; may be given several times.  [default: all that the device has]",
)
@options.data
@click.option("--eval-limit", type=click.IntRange(1), help="Accuracy on a stratified subset of that many pictures.")
@options.threads
@options.model
@options.seed
@options.offline
@speaking
def matrix_command(
    output: Output,
    targets: tuple[str, ...],
    device: str,
    out: Path | None,
    runtimes: tuple[RuntimeName, ...],
    **chosen: Any,
) -> None:
    """What every runtime that the device has makes of each TARGET (a model, a checkpoint or an .onnx), by precision.

    Each cell is the fastest artifact that says the same as its source: its median latency, or, for a board that is not
    here, estimated instructions where they are known; its size, and with --data its accuracy. A cell without a figure
    says why. What one runtime cannot make never stops the others, no bundle is written, and -o has every finished
    model's row while the next is at work.
    """
    from edgevit.catalog import load_device
    from edgevit.cli.progress import TerminalProgress
    from edgevit.extras import require_extras
    from edgevit.recipe import ExportSpec
    from edgevit.store import require_creatable

    profile = load_device(device)
    if out is not None:
        require_creatable(out)
    require_extras("train", "export")
    from edgevit.cli.targets import opened_target
    from edgevit.makers import require_runtime, usable_runtimes
    from edgevit.matrix import growing_matrix, write_matrix

    for runtime in runtimes:
        require_runtime(profile, runtime)
    spec = ExportSpec()
    with TerminalProgress() as progress:
        subjects = [
            opened_target(target, spec, {**chosen, "classes": None, "calibration_data": None}, progress)
            for target in targets
        ]
        threads = chosen["threads"] or profile.threads
        tried = runtimes or usable_runtimes(profile)
        for matrix in growing_matrix(subjects, profile, tried, spec, threads, progress):
            if out is not None:
                write_matrix(matrix, out, over=len(matrix.models) > 1)
    if output.is_json:
        output.document(matrix)
        return
    _print(output, matrix)
    if out is not None:
        output.text(f"\nPage: {out / 'report.html'}")
    missing = [name for name in profile.runtimes if name not in tried]
    if missing and not runtimes:
        output.text(f"Not tried, for it is not installed here: {', '.join(missing)}.")
    output.next("edgevit", "export", targets[0], *_as_chosen(chosen), "--device", device, "-o", "bundle")


def _as_chosen(chosen: dict[str, Any]) -> list[str]:
    """The options of the model and the data that were given, for a command that is to speak of the same."""
    given = {key: chosen[key] for key in ("weights", "image_size", "channels", "data")}
    if given["weights"] == PRETRAINED:
        del given["weights"]
    return [word for key, value in given.items() if value for word in (f"--{key.replace('_', '-')}", str(value))]


def _print(output: Output, matrix: Matrix) -> None:
    """A table of figures, and below it the reasons of the cells that have none, each once."""
    from edgevit.report.matrix import matrix_rows, precisions, reasons, title

    output.text(title(matrix))
    table = Table("Model", "Runtime", *precisions(matrix), box=None)
    for row in matrix_rows(matrix):
        table.add_row(row.model, row.runtime, *(f"{cell.text}\n{cell.detail}".rstrip() for cell in row.cells))
    output.table(table)
    for number, reason, link in reasons(matrix):
        output.text(f"[{number}] {reason}. {link}".rstrip())
    output.text(f"{100 * matrix.share_of_numbers:.0f} % of the cells are figures.")
