"""Front: the trials that no other one beats, and which of them is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgevit.errors import BudgetError, EdgevitError, InputError
from edgevit.recipe import Budget
from edgevit.search.examiner import MS
from edgevit.search.trials import Trial
from edgevit.units import format_ms


def pareto_front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The complete trials that no other one beats in latency and in drop, fastest first; of equal ones the earliest."""
    ranked = sorted(complete(trials), key=lambda trial: (*trial.figures, trial.number))
    front: list[Trial] = []
    least_drop = math.inf
    for trial in ranked:
        _, drop = trial.figures
        if drop < least_drop:
            front.append(trial)
            least_drop = drop
    return tuple(front)


def complete(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    return tuple(trial for trial in trials if trial.outcome == "complete")


def choose_point(front: Sequence[Trial], budget: Budget, pick: int | None = None, unit: str = MS) -> Trial:
    """The fastest point within the budget, accuracy by the estimate of its drop; or point `pick`, from 1.

    A pick is the user's own choice: the budget is not asked.
    Raises InputError for a pick that is no point, BudgetError naming the nearest points and the limit that binds,
    EdgevitError for an empty front.
    """
    if not front:
        raise EdgevitError("There is no point to choose: no trial was completed. Give it more --trials or --minutes.")
    if pick is not None:
        if not 1 <= pick <= len(front):
            points = f"{len(front)} point{'' if len(front) == 1 else 's'}"
            raise InputError(f"--pick {pick}: the front has {points}. See report.html in the folder.")
        return front[pick - 1]
    fitting = [trial for trial in front if _is_accurate(trial, budget) and _is_fast(trial, budget)]
    if not fitting:
        raise BudgetError(_nothing_fits(front, budget, unit))
    return min(fitting, key=lambda trial: trial.figures)


def point_words(trial: Trial, unit: str = MS) -> str:
    """'12.3 ms, 0.40 points below fp32'."""
    latency, drop = trial.figures
    side = f"{abs(drop):.2f} points {'below' if drop > 0 else 'above'} fp32" if drop else "as accurate as fp32"
    return f"{cost_words(latency, unit)}, {side}"


def cost_title(unit: str) -> str:
    """What stands above a column of costs: an estimate is never called a latency."""
    return "Latency" if unit == MS else "Estimated cost"


def cost_words(figure: float, unit: str) -> str:
    """'12.3 ms', or '150 M instructions' of another unit."""
    return format_ms(figure) if unit == MS else f"{figure:.4g} {unit}"


def _is_accurate(trial: Trial, budget: Budget) -> bool:
    return budget.max_drop is None or trial.figures[1] <= budget.max_drop


def _is_fast(trial: Trial, budget: Budget) -> bool:
    return budget.max_latency_ms is None or trial.figures[0] <= budget.max_latency_ms


def _nothing_fits(front: Sequence[Trial], budget: Budget, unit: str) -> str:
    accurate = [trial for trial in front if _is_accurate(trial, budget)]
    fast = [trial for trial in front if _is_fast(trial, budget)]
    nearest = dict.fromkeys(
        point_words(trial, unit)
        for trial in (
            min(accurate or front, key=lambda trial: trial.figures[0 if accurate else 1]),
            min(fast or front, key=lambda trial: trial.figures[1 if fast else 0]),
        )
    )
    drop = f"--max-drop {budget.max_drop:g}" if budget.max_drop is not None else ""
    latency = f"--max-latency-ms {budget.max_latency_ms:g}" if budget.max_latency_ms is not None else ""
    if accurate and fast:
        binding = f"{drop} and {latency} can each be met, and not both at once"
    else:
        unmet = [words for words, fitting in ((drop, accurate), (latency, fast)) if words and not fitting]
        binding = f"no point meets {' or '.join(unmet)}"
    return (
        f"No point of the front is within the budget: {binding}. Nearest: {'; '.join(nearest)}. "
        "Raise a limit, search longer, or take a point with --pick N."
    )
