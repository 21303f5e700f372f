"""edgevit predict: what a bundle takes pictures for."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking


@click.command("predict")
@click.argument("pictures", nargs=-1, required=True, type=options.OUTPUT_PATH)
@click.option("--bundle", required=True, type=options.OUTPUT_PATH)
@click.option("--top", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many classes to show.")
@options.threads
@speaking
def predict_command(output: Output, pictures: tuple[Path, ...], bundle: Path, top: int, threads: int | None) -> int:
    """The most likely classes of PICTURES. A broken picture is named, the others go on, and the exit code is 2."""
    from edgevit.board import agent
    from edgevit.bundle import load_bundle

    load_bundle(bundle)
    arguments = ["--bundle", str(bundle), "predict", "--top", str(top)]
    arguments += ["--threads", str(threads)] if threads else []
    arguments += ["--json"] if output.is_json else []
    return agent.main([*arguments, "--", *map(str, pictures)])  # the same code as on the board
