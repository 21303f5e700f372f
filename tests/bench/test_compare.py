from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.artifact import Manifest
from edgevit.bench.compare import NOT_INTERLEAVED, compare, newcombe_interval
from edgevit.benchreport import BenchReport
from edgevit.board.stats import summarize
from edgevit.errors import InputError
from edgevit.results import Accuracy

STARTS = {"starts": 3} | dict.fromkeys(
    ("python_ms", "check_ms", "import_ms", "load_ms", "first_inference_ms", "first_start_ms", "spread_ms"), 1.0
)
MACHINE = {"cpu": "AMD EPYC", "arch": "x86_64", "cores": 2, "os": "Debian 12", "python": "3.11.7"}


def report(p50: float, **changes: Any) -> BenchReport:
    samples = [p50 * (1 + 0.01 * ((i * 7) % 11 - 5)) for i in range(110)]  # within 5 % of p50, median p50
    document = {
        "edgevit": "0.1.0", "model": "tiny", "device": "local", "machine": MACHINE, "runtime": "onnxruntime",
        "runtime_version": "1.31.1", "precision": "fp32", "threads": 1, "batch": 1, "artifact_sha256": "0" * 64,
        "latency_ms": summarize(samples), "warmup_runs": 16, "load_ms": 1.0, "first_inference_ms": 1.0,
        "peak_rss_mib": 50.0, "sensors": [], "is_valid": True, "samples_ms": samples,
    }  # fmt: skip
    return BenchReport.model_validate({**document, **changes})


def manifest(root: Path, correct: int | None, n: int = 1000) -> Manifest:
    document = json.loads((root / "manifest.json").read_text())
    if correct is not None:
        document["accuracy"] = {"artifact": wilson(correct, n).model_dump()}
    return Manifest.model_validate(document)


def wilson(correct: int, n: int) -> Accuracy:
    p, z = correct / n, 1.959963984540054
    center, half = (p + z * z / (2 * n)), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((center + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return Accuracy(n=n, top1=100 * p, ci95=(100 * low, 100 * high))


def test_a_faster_report_is_said_to_be_faster_by_how_much() -> None:
    found = compare({"A": report(20.0), "B": report(10.0)})
    (difference,) = found.differences
    assert difference.is_real
    assert difference.ratio == pytest.approx(2.0)
    assert difference.sentence.startswith("B is 2.00× as fast as A (95 % interval ")
    assert found.notes == (NOT_INTERLEAVED,)


def test_a_slower_report_is_told_from_the_faster_ones_side() -> None:
    (difference,) = compare({"A": report(10.0), "B": report(20.0)}).differences
    assert difference.ratio == pytest.approx(0.5)
    assert difference.sentence.startswith("A is 2.00× as fast as B (95 % interval ")


def test_a_small_difference_that_is_real_does_not_read_as_none() -> None:
    sides = {"A": report(10.0, samples_ms=[10.0] * 110), "B": report(10.0, samples_ms=[9.97] * 110)}
    (difference,) = compare(sides).differences
    assert difference.sentence.startswith("B is 1.003× as fast as A (95 % interval ")


def test_equal_reports_do_not_differ_beyond_chance() -> None:
    (difference,) = compare({"A": report(10.0), "B": report(10.0)}).differences
    assert difference.is_real is False
    assert difference.sentence.startswith("A and B do not differ in latency beyond chance (B is 1.000× as fast, 95 %")


def test_each_other_report_is_compared_with_the_first() -> None:
    found = compare({"A": report(10.0), "B": report(20.0), "C": report(30.0)})
    assert [(each.first, each.other) for each in found.differences] == [("A", "B"), ("A", "C")]
    assert [row.p50_ms for row in found.rows] == [pytest.approx(10.0), pytest.approx(20.0), pytest.approx(30.0)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"machine": {**MACHINE, "cpu": "N100"}}, "measured on different machines (AMD EPYC, x86_64, 2 cores and N100"),
        ({"machine": {**MACHINE, "is_emulated": True}}, "2 cores, emulated)"),
        ({"threads": 2}, "measured with 1 and 2 threads"),
        ({"batch": 8}, "measured with batches of 1 and 8"),
        ({"is_valid": False, "invalid_reasons": ["Hot."]}, "the measurement of B is invalid (Hot)"),
        ({"samples_ms": [1.0]}, "B has fewer than two samples"),
    ],
)
def test_what_is_not_comparable_says_why(changes: dict[str, Any], reason: str) -> None:
    found = compare({"A": report(10.0), "B": report(10.0, **changes)})
    (difference,) = found.differences
    assert difference.is_real is None
    assert difference.sentence.startswith("A and B are not comparable: ")
    assert reason in difference.sentence
    assert found.notes == ()


def test_a_report_and_a_bundle_are_rows_and_not_comparable(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle()
    found = compare({"A": report(10.0), "B": manifest(root, None)})
    assert found.differences[0].sentence == "A and B are not comparable: one is a report and the other a bundle."
    size = (root / "model.onnx").stat().st_size
    assert [row.kind for row in found.rows] == ["report", "bundle"]
    assert found.rows[1].size_mib == pytest.approx(size / 1024 / 1024)
    assert found.rows[0].runtime == found.rows[1].runtime == "onnxruntime 1.31.1"


def test_bundles_are_compared_by_accuracy(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle()
    found = compare({"A": manifest(root, 900), "B": manifest(root, 800), "C": manifest(root, 901)})
    worse, alike = found.differences
    assert worse.is_real
    assert worse.points == pytest.approx(-10.0)
    assert worse.sentence.startswith("B is less accurate than A: -10.00 points [")
    assert alike.is_real is False
    assert alike.sentence.startswith("A and C do not differ in accuracy beyond chance (+0.10 points [")
    assert "as if measured on different pictures" in found.notes[0]
    better = compare({"A": manifest(root, 800), "B": manifest(root, 900)}).differences[0]
    assert better.sentence.startswith("B is more accurate than A: +10.00 points [")


def test_bundles_without_accuracy_say_which(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle()
    found = compare({"A": manifest(root, 900), "B": manifest(root, None)})
    assert found.differences[0].sentence == "A and B are not comparable: no accuracy is stated in B."


def test_one_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"There is nothing to compare. Name two or more reports or bundles"):
        compare({"A": report(10.0)})


def test_newcombes_interval_is_that_of_his_published_example() -> None:
    # Newcombe 1998, table II, (a) 56/70 - 48/80, method 10: 0.0524 to 0.3339
    low, high = newcombe_interval(wilson(48, 80), wilson(56, 70))
    assert (low, high) == (pytest.approx(5.24, abs=0.005), pytest.approx(33.39, abs=0.005))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "cold-start", "cold_start": STARTS}, "measured in two ways, 'latency' and 'cold-start'"),
        ({"streams": 2}, "measured with 1 and 2 streams"),
        ({"cores": [0, 1]}, "held to different cores"),
    ],
)
def test_what_was_measured_in_another_way_is_not_compared(changes: dict[str, Any], reason: str) -> None:
    (difference,) = compare({"A": report(20.0), "B": report(10.0, **changes)}).differences
    assert (difference.is_real, difference.sentence) == (None, f"A and B are not comparable: {reason}.")
