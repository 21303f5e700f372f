"""edgevit tune: a measured search for the best trade-off of latency and accuracy."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.cli.verdict import require_budget_met
from edgevit.recipe import SEARCHED_RUNTIMES

if TYPE_CHECKING:
    from edgevit.recipe import DataSpec
    from edgevit.search.trials import TuneResult
    from edgevit.subject import Subject


# Their ranges are found anew for each form of the graph that the search builds.
CALIBRATION_IMAGES = 32


@click.command("tune")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@options.device
@options.required_data
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
@options.max_drop
@options.max_latency_ms
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
@click.option(
    "--runtime", type=click.Choice(SEARCHED_RUNTIMES), help="That one only.  [default: all that device and host have]"
)
@click.option("--pick", type=click.IntRange(1), help="Bundle that point of the front instead of the chosen one.")
@click.option("--storage", help="URL of a database that several machines share.  [default: a file in the folder]")
@click.option("--weights", default="pretrained", show_default=True, help="pretrained, or a checkpoint's path.")
@options.threads
@options.seed
@options.offline
@speaking
def tune_command(output: Output, targets: tuple[str, ...], device: str, data: str, out: Path, **chosen: Any) -> None:
    """Search the fastest form of TARGET (a model, a checkpoint or an .onnx) for a device within an accuracy budget.

    Of several TARGETs, trained for the same classes, one search finds the front of them all: each begins with the
    policies that usually win, and drops are counted from fp32 of the most accurate one.

    An interrupted search goes on where it stopped when the same command is given again; with --pick and no more
    --trials, another point of its front is bundled.
    """  # fmt: skip
    from edgevit.catalog import load_device
    from edgevit.cli.progress import TerminalProgress
    from edgevit.errors import BudgetError, InputError
    from edgevit.extras import require_extras
    from edgevit.recipe import RANDOM, Budget, ExportSpec

    if chosen["weights"] == RANDOM:
        raise InputError("--weights random: their accuracy means nothing, and there is nothing to trade latency for.")
    profile = load_device(device)
    require_extras("train", "export", "tune")
    from edgevit.assemble import gather_evidence
    from edgevit.board.sensors import describe_machine
    from edgevit.data.datasets import open_dataset
    from edgevit.rewrite.token_schedule import schedule
    from edgevit.search.examiner import MILLION_INSTRUCTIONS, MS
    from edgevit.search.worker import Limits
    from edgevit.tuning.outcome import PAGE, Job, earlier_result
    from edgevit.tuning.search_space import searched_runtimes, thread_counts
    from edgevit.tuning.stopwatch import Stopwatch
    from edgevit.tuning.tune import known_spaces, require_sound, require_usable, tune
    from edgevit.tuning.workbench import opened_workbench

    budget = Budget(max_drop=chosen["max_drop"], max_latency_ms=chosen["max_latency_ms"])
    machine = describe_machine()
    is_here = profile.arch == machine["arch"]
    require_sound(budget, MS if is_here else MILLION_INSTRUCTIONS)
    with contextlib.ExitStack() as after, TerminalProgress() as progress, contextlib.ExitStack() as stack:
        progress.stage("Loading the model" if len(targets) == 1 else "Loading the models")
        subjects = _subjects(targets, chosen)
        database = require_usable(out, chosen["storage"])
        progress.stage("Opening the data")
        split = _split(data, subjects).model_copy(update={"eval_limit": chosen["eval_limit"]})
        dataset = open_dataset(split, offline=chosen["offline"], notify=progress.note, progress=progress.update)
        threads, sizes = chosen["threads"] or profile.threads, sorted(set(chosen["image_sizes"]))
        counts = thread_counts(profile, machine["cores"]) if is_here and not chosen["threads"] else ()
        fingerprints = [subject.fingerprint() for subject in subjects.values()]
        identity = {
            "model": fingerprints[0] if len(subjects) == 1 else fingerprints,
            "cpu": machine["cpu"] if is_here else "", "seed": chosen["seed"], "data": split.model_dump(mode="json"),
            "pictures": dataset.fingerprint(),
            "search_pictures": chosen["search_pictures"], "threads": [threads, *counts], "image sizes": sizes,
            "runtimes": searched_runtimes(profile, not is_here, chosen["runtime"]),
        }  # fmt: skip
        is_bounded = any(options.is_given(click.get_current_context(), name) for name in ("trials", "minutes"))
        limits = Limits(chosen["trials"] if is_bounded or chosen["pick"] is None else 0, chosen["minutes"])
        names = ", ".join(name or subject.name for name, subject in subjects.items())
        job = Job(names, profile.name, identity, budget, limits, chosen["seed"])
        known, stopwatch = known_spaces(database, job) or {}, Stopwatch(threads)
        benches, spaces = {}, {}
        for name, subject in subjects.items():
            evidence = gather_evidence(subject, dataset, ExportSpec(calibration_images=CALIBRATION_IMAGES))
            evidence = evidence.judging_by(chosen["search_pictures"], chosen["eval_limit"])
            opened = opened_workbench(
                subject, profile, evidence, threads, sizes, progress,
                chosen["runtime"], counts, known.get(name), stopwatch,
            )  # fmt: skip
            benches[name], spaces[name] = stack.enter_context(opened)
        try:
            result = tune(benches, spaces, job, schedule, out, database, chosen["pick"], progress)
        except BudgetError:
            after.callback(_print_nearest, output, earlier_result(out))  # when the progress is off the screen
            raise
    if output.is_json:
        output.document(result)
    else:
        _print_front(output, result)
        output.text(f"\nBundle: {result.bundle}\nPage:   {out / PAGE}")
    if chosen["pick"] is None:  # a pick is the user's own choice
        require_budget_met(result.verdict, result.test_drop, result.bundle or out, "--max-drop")
    if is_here and not output.is_json:
        output.next("edgevit", "bench", result.bundle or out)


def _subjects(targets: Sequence[str], chosen: dict[str, Any]) -> dict[str, Subject]:
    """By name: '' where there is only one; what has the same name as another is told apart by its TARGET."""
    from edgevit.errors import InputError
    from edgevit.recipe import PRETRAINED, ModelSpec
    from edgevit.subject import open_subject

    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise InputError(f"{twice}: is named twice. Name each model once.")
    if len(targets) > 1 and chosen["weights"] != PRETRAINED:
        raise InputError("--weights belongs to one model. Of several, name each checkpoint as a TARGET of its own.")
    opened = {
        target: open_subject(
            target, ModelSpec(name=target, weights=chosen["weights"]), offline=chosen["offline"], seed=chosen["seed"]
        )
        for target in targets
    }
    if len(opened) == 1:
        return {"": opened[targets[0]]}
    names = [subject.name for subject in opened.values()]
    return {
        subject.name if names.count(subject.name) == 1 else f"{subject.name} ({target})": subject
        for target, subject in opened.items()
    }


def _split(data: str, subjects: dict[str, Subject]) -> DataSpec:
    """How to split the data so that no model was trained on a picture that judges it. Raises InputError."""
    from edgevit.errors import InputError
    from edgevit.recipe import split_as_trained

    recorded = {name: subject for name, subject in subjects.items() if _was_trained_on(data, subject)}
    splits = {name: split_as_trained(data, subject.trained_on) for name, subject in (recorded or subjects).items()}
    first, *others = splits
    for other in others:
        if splits[other] != splits[first]:
            raise InputError(
                f"{other} was trained on another split of {data} than {first}: the pictures that judge the one have "
                "trained the other. Train both on the same split, or tune them one by one."
            )
    return splits[first]


def _was_trained_on(data: str, subject: Subject) -> bool:
    return subject.trained_on is not None and subject.trained_on.source == data


def _print_nearest(output: Output, result: TuneResult | None) -> None:
    """The front of a search of which no point meets the budget."""
    if result is not None and not output.is_json:
        _print_front(output, result)


def _print_front(output: Output, result: TuneResult) -> None:
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
