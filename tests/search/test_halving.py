from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.policy import Policy
from edgevit.results import AccuracyDrop
from edgevit.search.halving import cannot_win, drop_by_halving, prefixes
from edgevit.search.trials import Trial


def _verdicts(values, asked=None):
    def verdicts(start, stop):
        if asked is not None:
            asked.append((start, stop))
        return values[start:stop]

    return verdicts


def _drop(points: float, low: float) -> AccuracyDrop:
    return AccuracyDrop(n=100, points=points, ci95=(low, 2 * points - low), p_value=0.5)


def _complete(cost: float, points: float) -> Trial:
    return Trial(number=0, outcome="complete", policy=Policy(), cost=cost, drop=_drop(points, points - 1))


@pytest.mark.parametrize(
    ("pictures", "expected"), [(2000, (250, 500, 1000, 2000)), (8, (1, 2, 4, 8)), (3, (1, 3)), (1, (1,))]
)
def test_prefixes_double_up_to_all_pictures(pictures, expected):
    assert prefixes(pictures) == expected


def test_a_promising_policy_sees_every_picture_once():
    right, asked = np.ones(80, bool), []
    wrong_in_four = right.copy()
    wrong_in_four[[3, 30, 50, 79]] = False
    drop, is_whole = drop_by_halving(_verdicts(wrong_in_four, asked), _verdicts(right), 80, lambda drop: False)
    assert is_whole
    assert (drop.n, drop.points) == (80, 5.0)
    assert asked == [(0, 10), (10, 20), (20, 40), (40, 80)]


def test_a_hopeless_policy_is_stopped_and_its_figure_is_of_what_it_saw():
    asked = []
    drop, is_whole = drop_by_halving(
        _verdicts(np.zeros(80, bool), asked), _verdicts(np.ones(80, bool)), 80, lambda drop: drop.n >= 20
    )
    assert not is_whole
    assert (drop.n, drop.points) == (20, 100.0)
    assert asked == [(0, 10), (10, 20)]


def test_what_is_hopeless_on_all_pictures_was_still_measured_on_all():
    ones = _verdicts(np.ones(8, bool))
    assert drop_by_halving(ones, ones, 8, lambda drop: drop.n == 8)[1]


def test_without_a_picture_there_is_no_search():
    with pytest.raises(InputError, match="at least one held-out picture"):
        drop_by_halving(_verdicts(np.ones(0, bool)), _verdicts(np.ones(0, bool)), 0, lambda drop: True)


@pytest.mark.parametrize(
    ("drop", "cost", "max_drop", "expected"),
    [
        (_drop(6.0, 4.0), 10.0, 1.0, True),
        (_drop(6.0, 1.0), 10.0, 1.0, False),  # it may yet keep the budget
        (_drop(6.0, 4.0), 9.9, 1.0, False),  # nothing known is as fast
        (_drop(6.0, 2.5), 10.0, 1.0, False),  # nothing as fast is certainly more accurate
        (_drop(6.0, 4.0), 10.0, None, False),
    ],
)
def test_a_policy_cannot_win_beyond_the_budget_and_behind_another(drop, cost, max_drop, expected):
    assert cannot_win(drop, cost, max_drop, [_complete(10.0, 3.0)]) is expected
