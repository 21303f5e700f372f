"""edgevit run: the whole flow of a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.cli.verdict import print_test, print_verdict, require_budget_met

RUNS = Path("runs")


@click.command("run")
@click.argument("recipe")
@click.option("--device", help="The target board.  [default: the recipe's]")
@click.option("-o", "--output", "target", type=options.OUTPUT_PATH, help="Run directory.  [default: runs/NAME]")
@options.offline
@speaking
def run_command(output: Output, recipe: str, device: str | None, target: Path | None, offline: bool) -> None:
    """The whole flow of a RECIPE, by name or path: train, export, quantize, verify, measure, bundle, report.

    An interrupted run goes on where it stopped when the same command is given again. What loses more on the test
    pictures than the budget allows is bundled all the same, and ends with exit code 3.
    """
    from edgevit.catalog import load_device, load_recipe
    from edgevit.cli.progress import TerminalProgress
    from edgevit.extras import require_extras
    from edgevit.runs import PAGE
    from edgevit.store import free_name

    loaded = load_recipe(recipe)
    if device is not None:
        loaded = loaded.model_copy(update={"device": device})
    profile = load_device(loaded.device)
    require_extras("train", "export")
    from edgevit.pipeline import run_recipe

    directory = target or RUNS / free_name(RUNS, loaded.name)
    with TerminalProgress() as progress:
        metrics = run_recipe(loaded, profile, directory, offline, progress)
    if output.is_json:
        output.document(metrics)
    else:
        print_verdict(output, metrics.verdict, metrics.candidates)
        print_test(output, metrics.shipped_test.accuracy if metrics.shipped_test else None, metrics.drop)
        output.text(f"\nBundle: {metrics.bundle}\nPage:   {directory / PAGE}")
    require_budget_met(metrics.verdict, metrics.drop, metrics.bundle, "budget.max_drop in the recipe")
    output.next("edgevit", "bench", metrics.bundle)
