from __future__ import annotations

import itertools
from collections.abc import Sequence

import optuna
import pytest

from edgevit.policy import Policy
from edgevit.search.claims import Rival, claim, decide
from edgevit.search.records import keep
from edgevit.search.trials import Trial

HELD, WANTED, NONE = "held", "wanted", "none"


def _outcomes(claims: dict[int, str], ended: dict[int, str]) -> set[frozenset[int]]:
    """Who ends up holding the claim, over every order in which the workers' steps may fall."""
    found: set[frozenset[int]] = set()
    seen: set[tuple[tuple[int, str], ...]] = set()
    stack = [(claims, ended)]
    while stack:
        claims, ended = stack.pop()
        state = (tuple(sorted(claims.items())), tuple(sorted(ended.items())))
        if state in seen:
            continue
        seen.add(state)
        if len(ended) == len(claims):
            found.add(frozenset(number for number, how in ended.items() if how == "hold"))
        for worker in claims:
            stack.extend(_steps(worker, claims, ended))
    return found


def _steps(worker: int, claims: dict[int, str], ended: dict[int, str]) -> list[tuple[dict[int, str], dict[int, str]]]:
    """The states that this worker's next step leads to. What it decided on, it writes only in a later step."""
    if worker in ended:
        return []
    if claims[worker] == NONE:
        return [({**claims, worker: WANTED}, ended)]
    if claims[worker].startswith("decided "):
        how = claims[worker].removeprefix("decided ")
        return [({**claims, worker: HELD if how == "hold" else NONE}, {**ended, worker: how})]
    rivals = [
        Rival(other, is_decided=state == HELD)
        for other, state in claims.items()
        if other != worker and (state != NONE or (other in ended and ended[other] == "hold"))
    ]
    decision = decide(worker, rivals)
    return [] if decision == "wait" else [({**claims, worker: f"decided {decision}"}, ended)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_in_every_order_of_steps_exactly_one_worker_holds_a_claim(workers):
    found = _outcomes(dict.fromkeys(range(workers), NONE), {})
    assert found == {frozenset({number}) for number in range(workers)}


@pytest.mark.parametrize(
    ("rivals", "decision"),
    [
        ((), "hold"),
        ((Rival(3, False),), "give way"),
        ((Rival(9, True),), "give way"),
        ((Rival(9, False),), "wait"),
        ((Rival(9, False), Rival(3, False)), "give way"),
    ],
)
def test_a_lower_number_or_a_held_claim_wins(rivals: Sequence[Rival], decision: str):
    assert decide(5, rivals) == decision


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna.create_study(directions=["minimize", "minimize"])


def test_the_same_key_is_given_once_and_another_kind_does_not_meet_it(study):
    first, second = study.ask(), study.ask()
    assert claim(first, "policy", "a") is None
    assert claim(second, "policy", "a") == first.number
    assert claim(second, "policy", "b") is None
    assert claim(second, "artifact", "a") is None


@pytest.mark.parametrize(
    ("outcome", "is_taken"),
    [("complete", True), ("partial", True), ("failed", True), ("skipped", False), ("duplicate", False)],
)
def test_what_was_run_stays_taken_and_what_was_not_is_free(study, outcome, is_taken):
    first = study.ask()
    assert claim(first, "policy", "a") is None
    keep(first, Trial(number=0, outcome=outcome, policy=Policy()))
    study.tell(first, state=optuna.trial.TrialState.FAIL)
    assert (claim(study.ask(), "policy", "a") == 0) is is_taken


def test_the_policy_of_a_killed_trial_is_free_again(study):
    first = study.ask()
    assert claim(first, "policy", "a") is None
    study.tell(first, state=optuna.trial.TrialState.FAIL)  # without a record: as a missed heartbeat leaves it
    assert claim(study.ask(), "policy", "a") is None


def test_an_undecided_higher_rival_is_waited_for(study):
    first, second = study.ask(), study.ask()
    second.set_user_attr("claim:policy", {"key": "a", "held": False})
    pauses = itertools.count(1)

    def pause(seconds: float) -> None:
        if next(pauses) == 3:
            second.set_user_attr("claim:policy", None)

    assert claim(first, "policy", "a", pause) is None
    assert next(pauses) == 4


def test_a_rival_that_never_decides_is_given_way_to(study):
    first, second = study.ask(), study.ask()
    second.set_user_attr("claim:policy", {"key": "a", "held": False})
    assert claim(first, "policy", "a", lambda seconds: None) == second.number
