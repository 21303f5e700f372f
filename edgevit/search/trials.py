"""What a search leaves behind: its trials, and the result of a whole `edgevit tune`."""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from edgevit.benchreport import Machine
from edgevit.policy import Policy
from edgevit.results import Accuracy, AccuracyDrop, LatencyRatio, Verdict
from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion

# complete: measured on all pictures. partial: stopped early, its drop is of the first pictures only.
# skipped: never measured, because its predicted latency is hopeless. duplicate: another trial has this policy.
Outcome = Literal["complete", "partial", "failed", "skipped", "duplicate"]
RUN: tuple[Outcome, ...] = ("complete", "partial", "failed")


class Variant(NamedTuple):
    """What one trial tries: a policy, of one of several models; `model` is '' where the search has only one."""

    model: str
    policy: Policy

    @property
    def key(self) -> str:
        """Equal for variants that say the same."""
        return f"{self.model}:{canonical(self.policy)}" if self.model else canonical(self.policy)


class Prediction(Record):
    """relative_error: root mean square of the model's own leave-one-out errors; 0.1 is a factor of about 1.1."""

    cost: PositiveFloat
    relative_error: NonNegativeFloat


class Trial(Record):
    """One variant and what became of it. `artifact`: hash of its file. drop: against fp32 on the same pictures, of
    several models the most accurate one's.

    `reason`: why it failed, was stopped or skipped, or which trial it repeats.
    """

    number: NonNegativeInt
    outcome: Outcome
    model: str = ""
    policy: Policy
    artifact: str = ""
    cost: PositiveFloat | None = None
    drop: AccuracyDrop | None = None
    predicted: Prediction | None = None
    reason: str = ""
    seconds: NonNegativeFloat = 0.0

    @property
    def variant(self) -> Variant:
        return Variant(self.model, self.policy)

    @property
    def figures(self) -> tuple[float, float]:
        """(latency, points lost) of a trial that has both, as every complete one does."""
        assert self.cost is not None, f"trial {self.number} has no latency"
        assert self.drop is not None, f"trial {self.number} has no drop"
        return self.cost, self.drop.points

    @property
    def was_run(self) -> bool:
        """Whether it cost a build: what --trials counts, and what is not done a second time."""
        return self.outcome in RUN


class TuneResult(Record):
    """tune.json. `front`: numbers of the trials that no other one beats, fastest first; `--pick 1` is the first.

    unit: of every cost in here. fp32: the trial of the reference, where it was measured. chosen, bundle: None when
    nothing meets the budget. The trials' drops are on the held-out pictures that the search saw; `confirmed`, by a
    trial's number, on others that were only asked about the choice; fp32_test, chosen_test and test_drop on those that
    decided nothing. speedup: of the chosen point over fp32, measured once more after the choice.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["tune"] = "tune"
    edgevit: str
    model: str
    device: str
    machine: Machine
    written: str
    unit: str
    pictures: int = Field(gt=0)
    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    fp32: int | None = None
    confirmed: dict[int, AccuracyDrop] = {}
    chosen: int | None = None
    speedup: LatencyRatio | None = None
    fp32_test: Accuracy | None = None
    chosen_test: Accuracy | None = None
    test_drop: AccuracyDrop | None = None
    bundle: str | None = None
    verdict: Verdict
    versions: dict[str, str] = {}

    def trial(self, number: int) -> Trial:
        return next(trial for trial in self.trials if trial.number == number)


def canonical(policy: Policy) -> str:
    """JSON that is equal for policies that say the same: the order of rewrites and of options does not count."""
    plain = policy.model_dump(mode="json")
    plain["rewrites"] = sorted(plain["rewrites"])
    plain["float_nodes"] = sorted(plain["float_nodes"])
    return json.dumps(plain, sort_keys=True)
