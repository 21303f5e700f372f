"""edgevit doctor: what is missing, with the exact fix."""

from __future__ import annotations

import click

from edgevit.cli.output import Output, speaking

MARKS = {"ok": "✓", "note": "·", "warning": "!", "problem": "✗"}


@click.command("doctor")
@click.option("--device", help="Also: can this machine stand for that board, and what does the board need?")
@speaking
def doctor_command(output: Output, device: str | None) -> int:
    """What is missing on this machine, with the exact command that mends it. A problem ends with exit code 5."""
    from edgevit.catalog import load_device
    from edgevit.doctor import examine

    findings = examine(load_device(device) if device else None)
    if output.is_json:
        output.document({"kind": "doctor", "findings": [finding.model_dump(mode="json") for finding in findings]})
    for finding in findings:
        output.text(f"{MARKS[finding.severity]} {finding.what}")
        if finding.fix:
            output.text(f"    {finding.fix}")
    return 5 if any(finding.severity == "problem" for finding in findings) else 0
