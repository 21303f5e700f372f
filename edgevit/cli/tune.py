"""edgevit tune: a measured search for the best trade-off of latency and accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking

SEARCHED = ("onnxruntime", "openvino")

# Their ranges are found anew for each form of the graph that the search builds.
CALIBRATION_IMAGES = 32


@click.command("tune")
@click.argument("target")
@options.device
@click.option("--data", required=True, help="A folder of class folders, or a named dataset such as fashion-mnist.")
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=options.OUTPUT_PATH,
    help="Folder of the search; an earlier search in it is continued.",
)
@click.option("--trials", type=click.IntRange(1, 100_000), default=60, show_default=True, help="In the whole study.")
@click.option("--minutes", type=options.FiniteRange(0, min_open=True), help="End after that time, whatever is left.")
@click.option("--max-drop", type=options.FiniteRange(0, 100), default=1.0, show_default=True, help="Points below fp32.")
@click.option("--max-latency-ms", type=options.FiniteRange(0, min_open=True), help="Median on the device.")
@click.option(
    "--image-size",
    "image_sizes",
    type=click.IntRange(1, 4096),
    multiple=True,
    help="A side in pixels to try besides the model's own; give it again for more.",
)
@click.option(
    "--eval-limit",
    type=click.IntRange(1),
    default=2500,
    show_default=True,
    help="Pictures that the search never sees, for the final figure; a stratified subset.",
)
@click.option(
    "--search-pictures",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="To judge each trial by, at most.",
)
@click.option("--runtime", type=click.Choice(SEARCHED), help="That one only.  [default: all that device and host have]")
@click.option("--pick", type=click.IntRange(1), help="Bundle that point of the front instead of the chosen one.")
@click.option("--storage", help="URL of a database that several machines share.  [default: a file in the folder]")
@click.option("--weights", default="pretrained", show_default=True, help="pretrained, or a checkpoint's path.")
@options.threads
@options.seed
@options.offline
@speaking
def tune_command(output: Output, target: str, device: str, data: str, out: Path, **chosen: Any) -> None:
    """Search the fastest form of TARGET (a model, a checkpoint or an .onnx) for a device within an accuracy budget.

    An interrupted search goes on where it stopped when the same command is given again; with --pick and no more
    --trials, another point of its front is bundled.
    """  # fmt: skip
    from edgevit.catalog import load_device
    from edgevit.cli.progress import TerminalProgress
    from edgevit.errors import InputError
    from edgevit.extras import require_extras
    from edgevit.recipe import RANDOM, Budget, ExportSpec, ModelSpec, split_as_trained

    if chosen["weights"] == RANDOM:
        raise InputError("--weights random: their accuracy means nothing, and there is nothing to trade latency for.")
    profile = load_device(device)
    require_extras("train", "export", "tune")
    from edgevit.assemble import gather_evidence
    from edgevit.board.sensors import describe_machine
    from edgevit.data.datasets import open_dataset
    from edgevit.rewrite.token_schedule import few_steps
    from edgevit.search.workbench import MILLION_INSTRUCTIONS, MS
    from edgevit.search.worker import Limits
    from edgevit.subject import open_subject
    from edgevit.tune import PAGE, Job, require_sound, require_usable, tune
    from edgevit.workbench import opened_workbench

    budget = Budget(max_drop=chosen["max_drop"], max_latency_ms=chosen["max_latency_ms"])
    is_here = profile.arch == describe_machine()["arch"]
    require_sound(budget, MS if is_here else MILLION_INSTRUCTIONS)
    require_usable(out, chosen["storage"])
    with TerminalProgress() as progress:
        progress.stage("Loading the model")
        spec = ModelSpec(name=target, weights=chosen["weights"])
        subject = open_subject(target, spec, offline=chosen["offline"], seed=chosen["seed"])
        progress.stage("Opening the data")
        split = split_as_trained(data, subject.trained_on).model_copy(update={"eval_limit": chosen["eval_limit"]})
        dataset = open_dataset(split, offline=chosen["offline"], notify=progress.note, progress=progress.update)
        evidence = gather_evidence(subject, dataset, ExportSpec(calibration_images=CALIBRATION_IMAGES))
        evidence = evidence.judging_by(chosen["search_pictures"], chosen["eval_limit"])
        threads = chosen["threads"] or profile.threads
        with opened_workbench(
            subject, profile, evidence, threads, chosen["image_sizes"], progress, chosen["runtime"]
        ) as (bench, space):
            identity = {
                "model": subject.fingerprint(), "cpu": describe_machine()["cpu"] if is_here else "",
                "seed": chosen["seed"], "data": split.model_dump(mode="json"), "threads": threads,
                "search_pictures": chosen["search_pictures"],
            }  # fmt: skip
            limits = Limits(chosen["trials"], chosen["minutes"])
            job = Job(subject.name, profile.name, identity, space, budget, limits, chosen["seed"])
            result = tune(bench, job, few_steps, out, chosen["storage"], chosen["pick"], progress)
    if output.is_json:
        output.document(result)
        return
    _print_front(output, result)
    output.text(f"\nBundle: {result.bundle}\nPage:   {out / PAGE}")
    if is_here:
        output.next("edgevit", "bench", result.bundle or out)


def _print_front(output: Output, result: Any) -> None:
    from edgevit.report.front import front_rows
    from edgevit.search.front import cost_title

    table = Table("", "Pick", cost_title(result.unit), "vs fp32", "Drop,\npoints", "Policy", box=None)
    for row in front_rows(result):
        drop = f"{row.drop.text}\n{row.drop.detail}"
        mark = "✓" if row.is_chosen else ""
        table.add_row(mark, str(row.pick), row.cost.text, row.speed.text, drop, row.policy)
    output.table(table)
    for sentence in result.verdict.sentences:
        output.text(f"• {sentence}")
