"""Successive halving on pictures: a policy that cannot win is judged by the first few of them only.

Source: Jamieson, Talwalkar, "Non-stochastic best arm identification", AISTATS 2016, with pictures as the resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgevit.accuracy import paired_drop
from edgevit.errors import InputError
from edgevit.results import AccuracyDrop
from edgevit.search.trials import Trial

SHARES = (8, 4, 2, 1)  # of all pictures, one in 8 first

# (start, stop) -> (stop - start,) True where the picture was classified correctly.
Verdicts = Callable[[int, int], NDArray[np.bool_]]


def prefixes(pictures: int) -> tuple[int, ...]:
    """How many pictures have been seen after each step: an eighth, a quarter, a half, all; none of them 0."""
    return tuple(sorted({max(1, pictures // share) for share in SHARES}))


def drop_by_halving(
    candidate: Verdicts, reference: Verdicts, pictures: int, is_hopeless: Callable[[AccuracyDrop], bool]
) -> tuple[AccuracyDrop, bool]:
    """What the candidate loses, and whether that is of all pictures; it ends at the first step that is hopeless.

    Raises InputError when there is no picture.
    """
    if pictures < 1:
        raise InputError("A search needs at least one held-out picture.")
    ours: list[NDArray[np.bool_]] = []
    theirs: list[NDArray[np.bool_]] = []
    seen = 0
    while True:
        stop = next(count for count in prefixes(pictures) if count > seen)
        ours.append(candidate(seen, stop))
        theirs.append(reference(seen, stop))
        seen = stop
        drop = paired_drop(np.concatenate(theirs), np.concatenate(ours))
        if seen == pictures or is_hopeless(drop):
            return drop, seen == pictures


def cannot_win(drop: AccuracyDrop, cost: float, max_drop: float | None, known: Sequence[Trial]) -> bool:
    """Whether it breaks the budget beyond doubt, and some complete trial is as fast and certainly more accurate.

    known: complete trials. Both doubts are the 95 % interval's lower end.
    """
    surely_lost = drop.ci95[0]
    if max_drop is None or surely_lost <= max_drop:
        return False
    return any(
        other.cost is not None and other.drop is not None and other.cost <= cost and other.drop.points <= surely_lost
        for other in known
    )
