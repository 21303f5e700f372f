from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from edgevit.benchreport import ColdStart
from edgevit.board.coldstart import STARTED_VARIABLE, measure_starts, start_document, summarize_starts

MOMENTS = (100.25, 100.5, 100.75, 101.75, 102.0)  # main, checked, imported, loaded, first logits


def test_a_start_counts_from_the_moment_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STARTED_VARIABLE, "100.0")
    found = start_document(MOMENTS, 2, "1.31.1", 4, 60.0)
    assert found == {
        "kind": "start", "python_ms": 250.0, "check_ms": 250.0, "import_ms": 250.0, "load_ms": 1000.0,
        "first_inference_ms": 250.0, "total_ms": 2000.0, "batch": 2, "threads": 4, "runtime_version": "1.31.1",
        "peak_rss_mib": 60.0,
    }  # fmt: skip


def test_a_start_by_hand_counts_from_its_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STARTED_VARIABLE, raising=False)
    found = start_document(MOMENTS, 1, "1", 1, 60.0)
    assert (found["python_ms"], found["total_ms"]) == (0.0, 1750.0)


def test_each_start_is_a_process_that_is_told_when_it_began() -> None:
    now, told = [50.0], []

    def start(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
        assert arguments == ["start"]
        began = float(environment[STARTED_VARIABLE])
        now[0] += 2.0
        return {"total_ms": 1000 * (now[0] - began)}

    found = measure_starts(3, ["start"], lambda: now[0], lambda done, s: told.append((done, s)), start=start)
    assert [each["total_ms"] for each in found] == [2000.0, 2000.0, 2000.0]
    assert told == [(1, 2.0), (2, 4.0), (3, 6.0)]


def test_starts_are_summed_up_by_medians_the_first_one_and_their_spread() -> None:
    def start(load_ms: float, total_ms: float) -> dict[str, float]:
        return {"python_ms": 10.0, "check_ms": 1.0, "import_ms": 5.0, "load_ms": load_ms, "first_inference_ms": 2.0,
                "total_ms": total_ms}  # fmt: skip

    found = summarize_starts([start(90.0, 900.0), start(20.0, 300.0), start(30.0, 310.0)])
    assert (found["starts"], found["load_ms"], found["python_ms"]) == (3, 30.0, 10.0)
    assert (found["first_start_ms"], found["spread_ms"]) == (900.0, 600.0)
    ColdStart.model_validate(found)
