"""edgevit doctor: what is missing, with the exact fix."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.cli.overssh import facts_over_ssh
from edgevit.errors import InputError
from edgevit.recipe import RuntimeName

MARKS = {"ok": "✓", "note": "·", "warning": "!", "problem": "✗"}


@click.command("doctor")
@click.option("--device", help="Also: can this machine stand for that board, and what does the board need?")
@click.option("--host", metavar="USER@BOARD", help="Judge that board, over SSH, not this machine.")
@options.ssh_config
@click.option(
    "--from-facts",
    type=options.OUTPUT_PATH,
    metavar="FILE",
    help="Judge a board by what it said of itself (JSON of facts.py), not this machine.",
)
@click.option(
    "--runtime",
    type=click.Choice(get_args(RuntimeName)),
    help="With --host or --from-facts: what the bundle needs.  [default: the device's first]",
)
@speaking
def doctor_command(
    output: Output,
    device: str | None,
    host: str | None,
    ssh_config: Path | None,
    from_facts: Path | None,
    runtime: str | None,
) -> int:
    """What is missing here or on a board, with the exact command that mends it. A problem ends with exit code 5."""
    from edgevit.catalog import load_device
    from edgevit.doctor import doctor, examine
    from edgevit.machine.facts import read_facts

    profile = load_device(device) if device else None
    if ssh_config and not host:
        raise InputError("--ssh-config is for boards. Name one with --host user@board.")
    if runtime and not (host or from_facts):
        raise InputError("--runtime is for boards. Name one with --host user@board, or with --from-facts FILE.")
    if host and from_facts:
        raise InputError("--host and --from-facts name two boards. Give one of them.")
    facts = facts_over_ssh(host, ssh_config) if host else read_facts(from_facts) if from_facts else None
    findings = doctor(facts, profile, runtime) if facts else examine(profile)
    if output.is_json:
        output.document({"kind": "doctor", "findings": [finding.model_dump(mode="json") for finding in findings]})
    for finding in findings:
        output.text(f"{MARKS[finding.severity]} {finding.what}")
        if finding.fix:
            output.text(f"    {finding.fix}")
    return 5 if any(finding.severity == "problem" for finding in findings) else 0
