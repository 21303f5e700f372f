from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import BudgetError, EdgevitError, InputError
from edgevit.policy import Policy
from edgevit.recipe import Budget
from edgevit.results import AccuracyDrop
from edgevit.search.front import choose_point, pareto_front, point_words
from edgevit.search.trials import Outcome, Trial

BIG = Budget(max_drop=None)


def _trial(number: int, cost: float, points: float, outcome: Outcome = "complete") -> Trial:
    drop = AccuracyDrop(n=1000, points=points, ci95=(points - 1, points + 1), p_value=0.5)
    return Trial(number=number, outcome=outcome, policy=Policy(), cost=cost, drop=drop)


def _numbers(trials: tuple[Trial, ...]) -> list[int]:
    return [trial.number for trial in trials]


def test_the_front_is_what_nothing_beats_fastest_first():
    trials = [_trial(0, 20, 0), _trial(1, 10, 0.5), _trial(2, 12, 0.6), _trial(3, 5, 3), _trial(4, 5, 4)]
    assert _numbers(pareto_front(trials)) == [3, 1, 0]


def test_of_equal_points_the_earliest_is_on_the_front():
    assert _numbers(pareto_front([_trial(7, 5, 1), _trial(2, 5, 1)])) == [2]


@pytest.mark.parametrize("outcome", ["partial", "failed", "skipped", "duplicate"])
def test_what_is_not_complete_is_never_on_the_front(outcome):
    assert _numbers(pareto_front([_trial(0, 20, 0), _trial(1, 1, -5, outcome)])) == [0]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-3, 9)), max_size=20))
def test_the_front_is_the_one_of_the_definition(points):
    trials = [_trial(number, latency, drop) for number, (latency, drop) in enumerate(points)]
    front = {trial.figures for trial in pareto_front(trials)}

    def is_beaten(point: tuple[int, int]) -> bool:
        return any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)

    assert front == {point for point in points if not is_beaten(point)}
    assert len(pareto_front(trials)) == len(front)


FRONT = (_trial(3, 5, 3), _trial(1, 10, 0.5), _trial(0, 20, 0))


@pytest.mark.parametrize(
    ("budget", "number"),
    [
        (Budget(max_drop=1.0), 1),
        (Budget(max_drop=0.0), 0),
        (Budget(max_drop=0.5), 1),
        (Budget(max_drop=5.0), 3),
        (BIG, 3),
        (Budget(max_drop=1.0, max_latency_ms=10), 1),
    ],
)
def test_the_fastest_point_within_the_budget_is_chosen(budget, number):
    assert choose_point(FRONT, budget).number == number


def test_a_pick_is_taken_whatever_the_budget():
    picked = [choose_point(FRONT, Budget(max_drop=0.0), pick).number for pick in (1, 2, 3)]
    assert picked == [3, 1, 0]


@pytest.mark.parametrize("pick", [0, 4, -1])
def test_a_pick_that_is_no_point_is_bad_input(pick):
    with pytest.raises(InputError, match=rf"--pick {pick}: the front has 3 points\."):
        choose_point(FRONT, BIG, pick)


@pytest.mark.parametrize(
    ("budget", "binding", "nearest"),
    [
        (Budget(max_drop=1.0, max_latency_ms=4), "no point meets --max-latency-ms 4.", ("10.0 ms", "5.00 ms")),
        (
            Budget(max_drop=1.0, max_latency_ms=6),
            "--max-drop 1 and --max-latency-ms 6 can each be met, and not both at once.",
            ("10.0 ms, 0.50 points below fp32", "5.00 ms, 3.00 points below fp32"),
        ),
    ],
)
def test_a_budget_that_nothing_meets_names_the_limit_and_the_nearest_points(budget, binding, nearest):
    with pytest.raises(BudgetError) as refused:
        choose_point(FRONT, budget)
    assert f"within the budget: {binding}" in str(refused.value)
    assert all(words in str(refused.value) for words in nearest)
    assert "--pick N" in str(refused.value)
    assert refused.value.exit_code == 3


def test_a_drop_that_nothing_keeps_names_the_most_accurate_point():
    front = (_trial(0, 5, 3), _trial(1, 9, 2))
    with pytest.raises(BudgetError, match=r"no point meets --max-drop 1\. Nearest: 9\.00 ms, 2\.00 points below fp32"):
        choose_point(front, Budget(max_drop=1.0))


def test_an_empty_front_is_an_error_that_says_what_to_do():
    with pytest.raises(EdgevitError, match=r"no trial was completed\. Give it more --trials"):
        choose_point((), BIG)


def test_points_in_words():
    assert point_words(_trial(0, 12.34, 0.4)) == "12.3 ms, 0.40 points below fp32"
    assert point_words(_trial(0, 12.34, -0.4)) == "12.3 ms, 0.40 points above fp32"
    assert point_words(_trial(0, 150.2, 0), "M instructions") == "150.2 M instructions, as accurate as fp32"


def test_the_order_of_the_trials_does_not_matter():
    trials = [_trial(0, 20, 0), _trial(1, 10, 0.5), _trial(2, 12, 0.6), _trial(3, 5, 3)]
    assert all(_numbers(pareto_front(order)) == [3, 1, 0] for order in itertools.permutations(trials))
