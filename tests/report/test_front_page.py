from __future__ import annotations

import html
import re

import pytest
from example_run import MACHINE

from edgevit.policy import Policy, TokenReduction
from edgevit.recipe import Budget
from edgevit.report.front import front_chart, front_rows, headline, render_front
from edgevit.results import Accuracy, AccuracyDrop, Verdict
from edgevit.search.trials import Prediction, Trial, TuneResult

HOSTILE = "<script>alert('x')</script>"


def _drop(points: float, n: int = 2000) -> AccuracyDrop:
    return AccuracyDrop(n=n, points=points, ci95=(points - 0.5, points + 0.5), p_value=0.1)


def _result(**changes) -> TuneResult:
    tokens = TokenReduction(method="prune", removed=(12,) * 11)
    trials = (
        Trial(number=0, outcome="complete", policy=Policy(), cost=20.0, drop=_drop(0.0)),
        Trial(number=1, outcome="complete", policy=Policy(linear="int8-dynamic"), cost=10.0, drop=_drop(0.3)),
        Trial(number=2, outcome="complete", policy=Policy(tokens=tokens), cost=8.0, drop=_drop(2.0)),
        Trial(number=3, outcome="partial", policy=Policy(image_size=96), cost=9.0, drop=_drop(30.0, 250),
              reason="Stopped after 250 pictures."),
        Trial(number=4, outcome="failed", policy=Policy(conv="int8-static"), reason=f"No kernel {HOSTILE}."),
        Trial(number=5, outcome="skipped", policy=Policy(threads=2), reason="It would take about 40.0 ms.",
              predicted=Prediction(cost=40.0, relative_error=0.1)),
        Trial(number=6, outcome="duplicate", policy=Policy(), reason="Trial 0 has the same policy."),
    )  # fmt: skip
    verdict = Verdict(shipped="x", budget=Budget(max_drop=1.0), within_budget=True, sentences=("Chosen: it.",))
    fields = {
        "edgevit": "0.1.0", "model": "deit_tiny", "device": "local", "machine": MACHINE, "unit": "ms",
        "written": "2026-01-15T09:30:00+00:00", "pictures": 2000, "trials": trials, "front": (2, 1, 0),
        "fp32": 0, "chosen": 1,
        "chosen_test": Accuracy(n=3000, top1=91.2, ci95=(90.1, 92.2)), "test_drop": _drop(0.4, 3000),
        "bundle": "out/bundle-1", "verdict": verdict, "versions": {"optuna": "5.0.0"},
    }  # fmt: skip
    return TuneResult(**{**fields, **changes})


def _words(page: str) -> str:
    body = re.sub(r"<(style|svg|head)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_headline_has_the_figures_of_the_untouched_pictures():
    words = "10.0 ms, 91.2 % right on the test pictures, -0.40 points against fp32: linear layers INT8 dynamic."
    assert headline(_result()) == words
    assert words in _words(render_front(_result()))


def test_rows_are_numbered_as_pick_takes_them():
    rows = front_rows(_result())
    assert [(row.pick, row.trial, row.is_chosen) for row in rows] == [(1, 2, False), (2, 1, True), (3, 0, False)]
    assert [row.speed.text for row in rows] == ["2.50×", "2.00×", "1.00×"]
    assert (rows[0].cost.text, rows[0].drop.text, rows[0].drop.detail) == ("8.00 ms", "+2.00", "[+1.50, +2.50]")
    assert rows[0].policy == "fp32, 12 tokens dropped in each of 11 blocks"


def test_the_page_shows_what_ended_early_and_why():
    words = _words(render_front(_result()))
    assert "3 partial 9.00 ms fp32, 96 px Stopped after 250 pictures." in words
    assert "5 skipped about 40.0 ms fp32, 2 threads It would take about 40.0 ms." in words
    assert "Trial 0 has the same policy." not in words
    assert "1 trial lost more than the chart shows." in words


def test_nothing_of_a_user_becomes_markup_and_nothing_is_loaded():
    page = render_front(_result(model=HOSTILE))
    assert HOSTILE not in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)


def test_the_same_result_gives_the_same_page():
    assert render_front(_result()) == render_front(_result())


def test_a_budget_that_was_not_met_is_said_and_no_command_is_given():
    verdict = Verdict(shipped="", budget=Budget(max_drop=0.1), within_budget=False, sentences=("Nothing fits.",))
    words = _words(render_front(_result(chosen=None, bundle=None, chosen_test=None, test_drop=None, verdict=verdict)))
    assert "No point of the front meets the budget. Budget not met: at most 0.1 points below fp32" in words
    assert "edgevit bench" not in words


def test_without_a_complete_trial_there_is_no_chart():
    assert front_chart(_result(trials=(), front=(), chosen=None)) is None
    assert "No trial was completed." in _words(render_front(_result(trials=(), front=(), chosen=None)))


@pytest.mark.parametrize("budget", [Budget(max_drop=None), Budget(max_drop=0.0), Budget(max_drop=1, max_latency_ms=9)])
def test_every_kind_of_budget_is_drawn(budget):
    verdict = Verdict(shipped="x", budget=budget, within_budget=True, sentences=())
    assert "latency, ms" in (front_chart(_result(verdict=verdict)) or "")


def test_what_is_no_latency_is_not_called_one():
    result = _result(unit="M instructions")
    assert "latency" not in (front_chart(result) or "").replace("Accuracy lost over latency", "")
    assert headline(result).startswith("10 M instructions")
