"""Choice: the point of the front that is taken, once pictures that did not choose it have confirmed it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgevit.accuracy import paired_drop
from edgevit.errors import BudgetError
from edgevit.progress import Progress
from edgevit.recipe import Budget
from edgevit.results import AccuracyDrop
from edgevit.search.examiner import Prover
from edgevit.search.front import choose_point
from edgevit.search.trials import Trial, Variant
from edgevit.search.verdict import rejected_words

Rejected = tuple[tuple[Trial, AccuracyDrop], ...]


class Confirming:
    """Drops on further held-out pictures, each asked for once. `drops`: those that are known, by the trial's number."""

    def __init__(
        self, benches: Mapping[str, Prover], reference: Variant, drops: dict[int, AccuracyDrop], progress: Progress
    ) -> None:
        self.reference, self.drops = reference, drops
        self._benches, self._progress = benches, progress

    def drop(self, trial: Trial) -> AccuracyDrop | None:
        """None where the search took all held-out pictures."""
        if trial.number not in self.drops:
            self._progress.stage("Confirming the choice on further held-out pictures")
            if not len(self._fp32):
                return None
            ours = self._benches[trial.model].confirmed(trial.policy)
            self.drops[trial.number] = paired_drop(self._fp32, ours)
        return self.drops[trial.number]

    @functools.cached_property
    def _fp32(self) -> NDArray[np.bool_]:
        return self._benches[self.reference.model].confirmed(self.reference.policy)


def choose_confirmed(
    front: Sequence[Trial], budget: Budget, pick: int | None, unit: str, confirming: Confirming
) -> tuple[Trial, Rejected]:
    """(the chosen point, faster ones that further held-out pictures spoke against, with their drops on these).

    Of many trials the luckiest looks best on the pictures that chose it; so each is asked again on others.
    Raises as choose_point, also when no point is confirmed.
    """
    left, rejected = list(front), list[tuple[Trial, AccuracyDrop]]()
    while True:
        point = choose_point(left, budget, pick, unit)
        if pick is not None or budget.max_drop is None or point.variant.key == confirming.reference.key:
            return point, tuple(rejected)
        drop = confirming.drop(point)
        if drop is None or drop.points <= budget.max_drop:
            return point, tuple(rejected)
        rejected.append((point, drop))
        left.remove(point)
        if not left:
            raise BudgetError(f"No point of the front is within the budget: {rejected_words(rejected, budget)}")
