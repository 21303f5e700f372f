from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.benchreport import Machine
from edgevit.errors import InputError
from edgevit.recipe import Budget
from edgevit.results import Provenance, RunMetrics, Verdict
from edgevit.runs import read_metrics
from edgevit.store import write_json

METRICS = RunMetrics(
    name="a-run",
    recipe={"name": "a-run"},
    device="local",
    labels=("cat", "dog"),
    pictures={"train": 8, "val": 2, "test": 2},
    weights="random",
    fp32_test=None,
    shipped_test=None,
    drop=None,
    candidates=(),
    verdict=Verdict(shipped="fp32", budget=Budget(), within_budget=True, sentences=("fp32 was shipped.",)),
    bench=None,
    bundle="runs/a-run/bundle",
    provenance=Provenance(
        edgevit="0.1.0",
        started="2026-01-02T03:04:05+00:00",
        machine=Machine(cpu="a CPU", arch="x86_64", cores=2, os="Linux", python="3.11"),
        versions={},
        seconds={},
    ),
)


def test_the_metrics_of_a_run_are_read_from_its_directory_or_file(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", METRICS)
    assert read_metrics(tmp_path) == METRICS
    assert read_metrics(tmp_path / "metrics.json") == METRICS


def test_a_folder_without_metrics_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^{tmp_path}: is no run directory: metrics\.json cannot be read \(No such"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", r"metrics\.json: document: Invalid JSON"),
        (b"\xff\xfe\x00", r"metrics\.json: document: Invalid JSON"),
        (b"{}", r"metrics\.json: name: Field required\."),
        (METRICS.model_dump_json().replace('"device"', '"board"').encode(), r"metrics\.json: device: Field required\."),
    ],
)
def test_what_no_edgevit_like_this_one_wrote_is_refused_by_its_key(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"{words}.* It was written by another edgevit, or changed\."):
        read_metrics(tmp_path)
