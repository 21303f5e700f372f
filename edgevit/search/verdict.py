"""Verdict: what a search found, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgevit.recipe import Budget
from edgevit.results import Accuracy, AccuracyDrop, LatencyRatio, Verdict
from edgevit.search.describe import in_words
from edgevit.search.examiner import MS
from edgevit.search.front import cost_words
from edgevit.search.trials import Outcome, Trial, TuneResult, Variant
from edgevit.units import format_percent, format_points

OUTCOMES: dict[Outcome, str] = {
    "complete": "measured on all pictures",
    "partial": "stopped early",
    "failed": "failed",
    "skipped": "skipped because their predicted cost was hopeless",
    "duplicate": "recognized as a repetition",
}


def search_sentences(trials: Sequence[Trial]) -> tuple[str, ...]:
    """How many trials there were and what became of them; the most common failure; how good the prediction was."""
    counts = Counter(trial.outcome for trial in trials)
    parts = ", ".join(f"{counts[outcome]} {words}" for outcome, words in OUTCOMES.items() if counts[outcome])
    found = [f"{len(trials)} trial{'' if len(trials) == 1 else 's'}: {parts}."] if trials else []
    failures = Counter(trial.reason for trial in trials if trial.outcome == "failed")
    if failures:
        reason, count = failures.most_common(1)[0]
        found.append(f"Why trials failed, {count} of {failures.total()} times: {reason}")
    predicted = [trial for trial in trials if trial.predicted and trial.cost]
    if predicted:
        last = predicted[-1].predicted
        assert last
        found.append(f"Cost was predicted with an error of {100 * last.relative_error:.0f} % (leave-one-out).")
    return tuple(found)


def reference_sentences(reference: Variant) -> tuple[str, ...]:
    """Which model's fp32 drops are counted from, where there are several."""
    words = f"Speed and drops are counted from fp32 of {reference.model}, the most accurate of the models."
    return (words,) if reference.model else ()


def verdict_of(
    result: TuneResult, point: Trial, test: Accuracy, drop: AccuracyDrop, speedup: LatencyRatio | None
) -> Verdict:
    """Of the chosen point, by its figures of the search, by those of the pictures that no trial saw, and by its speedup
    over fp32, measured once more.
    """
    fp32 = None if result.fp32 is None else result.trial(result.fp32)
    budget = result.verdict.budget
    latency, searched_drop = point.figures
    is_accurate = budget.max_drop is None or max(searched_drop, drop.points) <= budget.max_drop
    is_fast = budget.max_latency_ms is None or latency <= budget.max_latency_ms
    return Verdict(
        shipped=in_words(point.variant),
        budget=budget,
        within_budget=is_accurate and is_fast,
        sentences=(
            *chosen_sentences(point, fp32, test, drop, budget, result.unit),
            *_speedup_sentences(speedup),
            *result.verdict.sentences,
        ),
    )


def chosen_sentences(
    point: Trial, fp32: Trial | None, test: Accuracy, drop: AccuracyDrop, budget: Budget, unit: str
) -> tuple[str, ...]:
    """What was chosen, at which gain, and what it loses on the pictures that no trial saw.

    fp32: its trial, None when it has no latency.
    """
    latency, _ = point.figures
    assert point.drop is not None
    against = ""
    if fp32 and fp32.cost and fp32.number != point.number:
        gain = "as fast" if unit == MS else "fewer"
        against = f" against {cost_words(fp32.cost, unit)} for fp32 ({fp32.cost / latency:.2f}× {gain})"
    searched = f"{_drop_words(point.drop)} on the {point.drop.n:,} held-out pictures"
    sentences = [
        f"Chosen: {in_words(point.variant)}. It takes {cost_words(latency, unit)}{against}, {searched}.",
        f"On {test.n:,} pictures that no trial saw, top-1 is {format_percent(test.top1, test.ci95)}: "
        f"{_drop_words(drop)}.",
    ]
    limit = budget.max_drop
    if limit is not None and drop.points > limit:
        sentences.append(f"That is more than the budget of {limit:.2f} points: the search's own pictures flattered it.")
    elif limit is not None and point.drop.ci95[1] > limit:
        sentences.append(f"The estimate is within {limit:.2f} points; its interval reaches {point.drop.ci95[1]:.2f}.")
    return tuple(sentences)


def _speedup_sentences(speedup: LatencyRatio | None) -> tuple[str, ...]:
    if speedup is None:
        return ()
    interval = f"95 % interval {speedup.ci95[0]:.2f}–{speedup.ci95[1]:.2f}"
    return (f"Measured once more, in turns with fp32: {speedup.ratio:.2f}× as fast ({interval}).",)


def _drop_words(drop: AccuracyDrop) -> str:
    return f"{format_points(-drop.points, (-drop.ci95[1], -drop.ci95[0]))} against fp32"


def rejected_words(rejected: Sequence[tuple[Trial, AccuracyDrop]], budget: Budget) -> str:
    """Which faster points lost too much on pictures that did not choose them."""
    points = ", ".join(f"{trial.figures[0]:.3g}: {drop.points:.2f} points" for trial, drop in rejected)
    count = f"{len(rejected)} faster point{'' if len(rejected) == 1 else 's'}"
    pictures = f"{rejected[0][1].n:,} further held-out pictures"
    return f"{count} lost more than the budget of {budget.max_drop:.2f} points on {pictures} ({points})."
