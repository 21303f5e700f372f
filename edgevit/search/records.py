"""Records: trials as they are kept in the study's storage, and read back."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgevit.search.trials import Trial

RECORD = "record"


def keep(trial: optuna.Trial, record: Trial) -> None:
    trial.set_user_attr(RECORD, record.model_dump(mode="json"))


def trial_of(frozen: FrozenTrial) -> Trial | None:
    """None for one that is waiting, running, or was killed."""
    record = frozen.user_attrs.get(RECORD)
    return None if record is None else Trial.model_validate(record)


def read_trials(study: optuna.Study) -> tuple[Trial, ...]:
    """Every trial that came to an end, by any worker, in the order of their numbers."""
    found = (trial_of(frozen) for frozen in study.get_trials(deepcopy=False))
    return tuple(trial for trial in found if trial is not None)


def lost_trials(study: optuna.Study) -> int:
    """How many were killed, or interrupted, before they came to an end."""
    states = (frozen.state for frozen in study.get_trials(deepcopy=False) if trial_of(frozen) is None)
    return sum(state == TrialState.FAIL for state in states)
