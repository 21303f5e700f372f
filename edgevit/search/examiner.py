"""Examiner: what a search asks of whoever builds and measures the policies of one model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgevit.policy import Policy
from edgevit.results import LatencyRatio

MS = "ms"
MILLION_INSTRUCTIONS = "M instructions"


class Examiner(Protocol):
    """`pictures`: how many held-out ones there are. `unit`: of cost, MS or what stands in where the target could
    not be measured. Each method raises EdgevitError when the policy cannot be built, run or does not pass its parity.
    """

    pictures: int
    unit: str

    def build(self, policy: Policy) -> str:
        """Makes the artifact, or finds it made; returns the hash of its file."""

    def cost(self, policy: Policy) -> float:
        """Median on the target, taken in turns with a reference; or the cost model's estimate."""

    def anchor(self, policy: Policy, cost: float) -> None:
        """Makes the policy the reference, and its cost what it was measured to be, maybe in an earlier session."""

    def correct(self, policy: Policy, start: int, stop: int) -> NDArray[np.bool_]:
        """(stop - start,) of the held-out pictures start to stop, whose order is shuffled once and for all."""


class Prover(Examiner, Protocol):
    """An Examiner that has further pictures and more time, to ask about what the search chose."""

    def confirmed(self, policy: Policy) -> NDArray[np.bool_]:
        """Of each held-out picture that no trial was judged by, maybe none: True where it was classified correctly."""

    def speedup(self, policy: Policy) -> LatencyRatio | None:
        """How many times as fast as the reference it is, measured anew; None where that cannot be told."""

    def tested(self, policy: Policy) -> NDArray[np.bool_]:
        """Of every picture of the third set, which the search never sees: True where it was classified correctly."""
