"""Claims: two workers on one study never run the same policy, and need nothing but Optuna's own storage for it.

A worker writes its claim into its own trial, and only then looks at the others' claims. So of two that want the same,
one at least sees the other. Who sees a lower number, or a claim that is held, gives way; who sees only higher ones
waits until they have given way or hold theirs; who sees none holds it. Two can never both see none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgevit.search.records import trial_of

POLL_SECONDS = 0.05
MOST_POLLS = 1200  # a minute: by then a rival that was killed before it decided has missed its heartbeats

Decision = Literal["hold", "give way", "wait"]


@dataclass(frozen=True)
class Rival:
    """Another trial that claims the same. is_decided: it holds the claim, or was run already."""

    number: int
    is_decided: bool


def decide(number: int, rivals: Sequence[Rival]) -> Decision:
    """What trial `number` does about those that it sees."""
    if any(rival.is_decided or rival.number < number for rival in rivals):
        return "give way"
    return "wait" if rivals else "hold"


def claim(trial: optuna.Trial, kind: str, key: str, pause: Callable[[float], None] = time.sleep) -> int | None:
    """None when `trial` now has `key` for itself, else the number of a trial that has, or wants, the same.

    kind: what is claimed ('policy', 'artifact'); keys of different kinds do not meet.
    """
    attribute = f"claim:{kind}"
    trial.set_user_attr(attribute, {"key": key, "held": False})
    rivals: list[Rival] = []
    for _ in range(MOST_POLLS):
        rivals = _rivals(trial, attribute, key)
        decision = decide(trial.number, rivals)
        if decision == "hold":
            trial.set_user_attr(attribute, {"key": key, "held": True})
            return None
        if decision == "give way":
            break
        pause(POLL_SECONDS)
    trial.set_user_attr(attribute, None)
    return min(rivals, key=lambda rival: (not rival.is_decided, rival.number)).number


def claimed_keys(study: optuna.Study, kind: str) -> frozenset[str]:
    """What is claimed by trials that run or came to an end; what a killed one claimed is free again."""
    found = set()
    for frozen in study.get_trials(deepcopy=False):
        claimed = frozen.user_attrs.get(f"claim:{kind}")
        if claimed and (frozen.state == TrialState.RUNNING or trial_of(frozen)):
            found.add(claimed["key"])
    return frozenset(found)


def _rivals(trial: optuna.Trial, attribute: str, key: str) -> list[Rival]:
    found = []
    for other in trial.study.get_trials(deepcopy=False):
        claimed = other.user_attrs.get(attribute)
        if other.number == trial.number or not claimed or claimed["key"] != key or not _is_active(other):
            continue
        is_finished = other.state != TrialState.RUNNING
        found.append(Rival(other.number, is_decided=is_finished or claimed["held"]))
    return found


def _is_active(other: FrozenTrial) -> bool:
    """Whether it is being run or was run. A trial that was killed, or gave way, leaves its policy to others."""
    record = trial_of(other)
    return record.was_run if record else other.state == TrialState.RUNNING
