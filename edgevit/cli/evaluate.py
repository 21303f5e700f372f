"""edgevit evaluate: accuracy on labelled pictures."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.units import format_percent


@click.command("evaluate")
@click.argument("target", type=options.OUTPUT_PATH)
@options.required_data
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="A stratified subset of that many pictures.")
@options.offline
@speaking
def evaluate_command(output: Output, target: Path, data: str, split: str, limit: int | None, offline: bool) -> None:
    """Accuracy of TARGET (a checkpoint, an .onnx or a bundle), with its number of pictures and 95 % interval.

    Data that TARGET was trained on are split as they were then: test pictures are pictures that it never saw.
    """
    from edgevit.bundle import is_bundle
    from edgevit.cli.progress import TerminalProgress
    from edgevit.data.datasets import open_dataset
    from edgevit.data.splits import stratified_subset
    from edgevit.evaluate import evaluate_target, trained_on
    from edgevit.recipe import split_as_trained

    with TerminalProgress() as progress:
        progress.stage("Opening the data")
        spec = split_as_trained(data, trained_on(target))
        dataset = open_dataset(spec, offline=offline, notify=progress.note, progress=progress.update)
        pictures = {"train": dataset.train, "val": dataset.val, "test": dataset.test}[split]
        if limit is not None and limit < len(pictures):
            pictures = stratified_subset(pictures, limit, spec.seed)
        result = evaluate_target(target, pictures, dataset.classes, progress)
    if output.is_json:
        output.document({"kind": "evaluation", "data": data, "split": split, **result.model_dump(mode="json")})
        return
    table = Table("Class", "Pictures", "Top-1")
    for name, accuracy in result.per_class.items():
        table.add_row(name, str(accuracy.n), format_percent(accuracy.top1, accuracy.ci95))
    output.table(table)
    total = result.accuracy
    output.text(f"{target} ({result.precision}): top-1 {format_percent(total.top1, total.ci95)}, n = {total.n:,}")
    export = ("edgevit", "export", target, "--device", "rpi5", "--data", data, "-o", "bundle-rpi5")
    output.next(*(("edgevit", "bench", target) if is_bundle(target) else export))
