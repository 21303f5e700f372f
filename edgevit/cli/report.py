"""edgevit report: the page of a run."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking


@click.command("report")
@click.argument("run", type=options.OUTPUT_PATH)
@click.option("-o", "--output", "target", type=options.OUTPUT_PATH, help="[default: report.html in the run]")
@speaking
def report_command(output: Output, run: Path, target: Path | None) -> None:
    """Writes the self-contained page of a RUN directory again, from its metrics.json."""
    from edgevit.extras import require_extras
    from edgevit.runs import BUNDLE, PAGE, read_metrics

    metrics = read_metrics(run)
    require_extras("train")
    from edgevit.report.page import render
    from edgevit.store import write_text

    page = target or run / PAGE
    write_text(page, render(metrics))
    if output.is_json:
        output.document({"kind": "report", "page": str(page)})
        return
    output.text(f"Page: {page}")
    output.next("edgevit", "bench", run / BUNDLE)
