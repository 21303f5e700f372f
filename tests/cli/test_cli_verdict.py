"""The table of candidates: measured ones with their latencies, estimated ones with their instructions."""

from __future__ import annotations

from typing import Any

import pytest

from edgevit.benchreport import Latency
from edgevit.cli.output import Output
from edgevit.cli.verdict import print_verdict
from edgevit.recipe import Budget
from edgevit.results import Candidate, CostEstimate, LatencyRatio, Verdict

VERDICT = Verdict(shipped="fp32", budget=Budget(), within_budget=True, sentences=("fp32 was shipped.",))
LATENCY = Latency(runs=9, p50=4.0, p90=5.0, p99=None, mean=4.0, mad=0.0, minimum=4.0, maximum=5.0)


def candidate(name: str, **fields: Any) -> Candidate:
    return Candidate(name=name, precision=name, runtime="onnxruntime", size_mib=2.0, **fields)


def estimate(million: float) -> CostEstimate:
    return CostEstimate(core="Cortex-A76", million_instructions=million, relative_error=0.1)


def rows(capsys: pytest.CaptureFixture[str], *candidates: Candidate) -> list[list[str]]:
    """Words of each line of the table."""
    print_verdict(Output(), VERDICT, candidates)
    *table, last = capsys.readouterr().out.splitlines()
    assert last == "• fp32 was shipped."
    return [line.split() for line in table]


def test_estimates_stand_in_place_of_latencies(capsys: pytest.CaptureFixture[str]) -> None:
    upper, lower, *lines = rows(
        capsys,
        candidate("fp32", estimate=estimate(441.17)),
        candidate("mixed", estimate=estimate(96.04), shipped=True),
        candidate("int8-static", failed="No."),
    )
    assert upper == ["Estimated,", "Validation", "Drop,"]
    assert lower == ["Candidate", "M", "instr.", "top-1", "points", "Size"]
    assert lines == [
        ["fp32", "441.2", "–", "–", "2.00", "MiB"],
        ["✓", "mixed", "96.0", "–", "–", "2.00", "MiB"],
        ["int8-static", "–", "–", "–", "2.00", "MiB"],
    ]


def test_without_an_estimate_there_are_latencies(capsys: pytest.CaptureFixture[str]) -> None:
    ratio = LatencyRatio(ratio=1.5, ci95=(1.4, 1.6))
    upper, lower, *lines = rows(capsys, candidate("fp32", latency_ms=LATENCY), candidate("mixed", vs_fp32=ratio))
    assert upper == ["Validation", "Drop,"]
    assert lower == ["Candidate", "p50", "p90", "vs", "fp32", "top-1", "points", "Size"]
    assert lines[0] == ["fp32", "4.00", "ms", "5.00", "ms", "–", "–", "–", "2.00", "MiB"]
    assert lines[1] == ["mixed", "–", "–", "1.50×", "–", "–", "2.00", "MiB"]
    assert lines[2] == ["[1.40,", "1.60]"]
