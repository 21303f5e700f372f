"""What the documents say of predictions is what they are, and good enough to be shown."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest
from latency_docs import CHECKOUT, Judged, is_same, judge, line, of_tests, summary

from edgevit.latency.predict import load_predictor


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    return judge(load_predictor(()))


def test_the_tables_are_in_step_with_the_predictions() -> None:
    words = [sys.executable, "tests/latency_docs.py", "--check"]
    ended = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_published_rows_that_test_are_predicted_within_25_percent_by_half_and_within_twice_by_all(
    judged: list[Judged],
) -> None:
    published = [item for item in of_tests(judged) if item.is_published]
    for rows in (published, [item for item in published if item.table.device]):
        assert len(rows) >= 200
        assert statistics.median(abs(item.error) for item in rows) <= 0.25
        assert max(item.factor for item in rows) <= 2.0


def test_what_edgevit_measured_itself_is_counted_by_itself(judged: list[Judged]) -> None:
    published, own = summary(judged).splitlines()[-2:]
    assert published.startswith("| **all published** | 107 | 219 | ")
    assert own.startswith("| measured by edgevit, x86 | 5 | 10 | ")
    rows = [item for item in of_tests(judged) if not item.is_published]
    assert sum(item.factor > 2 for item in rows) <= 1
    assert {line(item).split("|")[6].strip() for item in rows} == {"edgevit"}


def test_intervals_hold_what_they_promise(judged: list[Judged]) -> None:
    rows = of_tests(judged)
    assert sum(item.is_inside for item in rows) >= 0.9 * len(rows)


TABLE = "| Tested | Median error | Largest factor | Above 2× |\n|---|---|---|---|\n| 191 | 19 % | 1.96× | 0 |\nwords 12"


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("1.96×", "1.97×", True),
        ("1.96×", "2.90×", False),
        ("1.96×", "2.01×", False),
        ("19 %", "20 %", True),
        ("19 %", "21 %", False),
        ("19 %", "-19 %", False),
        ("19 %", "1.96×", False),
        ("191", "192", False),
        ("| 0 |", "| 1 |", False),
        ("| 0 |", "| 0 | 0 |", False),
        ("Tested", "Calibrated", False),
        ("Largest factor", "Factor", False),
        ("words 12", "words 13", False),
        ("words 12", "words 12\nand more", False),
        ("\nwords 12", "", False),
    ],
)
def test_figures_may_differ_by_a_rounding_and_words_and_counts_not(ours: str, theirs: str, same: bool) -> None:
    assert is_same(TABLE, TABLE)
    assert is_same(TABLE, TABLE.replace(ours, theirs)) is same
    assert is_same(TABLE.replace(ours, theirs), TABLE) is same


def test_predicted_milliseconds_and_intervals_may_differ_by_two_percent() -> None:
    head = "| Threads | Measured | Predicted | 90 % interval |\n|---|---|---|---|\n"
    assert is_same(head + "| 4 | 119.93 | 114 | 78.4–165 |", head + "| 4 | 119.93 | 115 | 78.9–166 |")
    assert not is_same(head + "| 4 | 119.93 | 114 | 78.4–165 |", head + "| 4 | 119.93 | 114 | 78.4–169 |")
    assert not is_same(head + "| 4 | 2.1 | 0.51 | 0.4–1 |", head + "| 4 | 2.1 | 0.63 | 0.4–1 |")
    assert not is_same(head + "| 4 | 119.93 | 114 | 78.4–165 |", head + "| 4 | 119.94 | 114 | 78.4–165 |")


def test_figures_outside_of_tables_are_words() -> None:
    assert not is_same("| 1.96× | 0 |", "| 2.90× | 1 |")
    assert not is_same("12.3", "12.4")
