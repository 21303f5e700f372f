"""What the search proposes, and that its proposals find better fronts than chance does."""

from __future__ import annotations

import itertools
import random
import statistics

import optuna
import pytest
from arithmetic_bench import SPACE, ArithmeticBench, constant_schedule, exact_drop, exact_latency_ms, hypervolume

from edgevit.policy import Policy
from edgevit.progress import Silence
from edgevit.recipe import Budget
from edgevit.results import AccuracyDrop
from edgevit.search.front import pareto_front
from edgevit.search.sampler import FrontSampler, Known, dominated, propose
from edgevit.search.space import SearchSpace, dimensions, policy_of
from edgevit.search.trials import Trial, Variant, canonical
from edgevit.search.variants import axes, variant_of
from edgevit.search.worker import Limits, Search, run_search

FP32 = policy_of({}, SPACE, constant_schedule)
WORST = (exact_latency_ms(FP32), 5.0)  # fronts are compared by the area that they dominate within these two
SMALL = {
    "": SearchSpace(
        image_sizes=(224, 192, 160),
        linear=("fp32", "int8-dynamic", "int8-static"),
        conv=("fp32", "int8-static"),
        attention=("fp32", "int8-static"),
    )
}


def _area(policies: list[Policy]) -> float:
    return hypervolume([(exact_latency_ms(policy), exact_drop(policy)) for policy in policies], WORST)


def _random_policies(seed: int, count: int) -> list[Policy]:
    generator, found = random.Random(seed), {}
    while len(found) < count:
        drawn = {axis.name: generator.choice(axis.choices) for axis in dimensions(SPACE)}
        policy = policy_of(drawn, SPACE, constant_schedule)
        found[canonical(policy)] = policy
    return list(found.values())


@pytest.fixture(scope="module")
def chance() -> float:
    """What 200 random trials find, on average."""
    return statistics.mean(_area(_random_policies(seed, 200)) for seed in range(20))


@pytest.mark.parametrize("seed", range(2))
def test_60_trials_find_a_front_at_least_as_good_as_200_random_ones(chance, seed):
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(directions=["minimize", "minimize"])
    budget, limits = Budget(max_drop=1.0), Limits(60)
    search = Search({"": ArithmeticBench()}, {"": SPACE}, constant_schedule, budget, limits, Silence(), seed=seed)
    trials = run_search(study, search)
    assert sum(trial.was_run for trial in trials) == 60
    assert _area([trial.policy for trial in pareto_front(trials)]) >= chance


def _trial(number: int, variant: Variant, cost: float, points: float) -> Trial:
    drop = AccuracyDrop(n=100, points=points, ci95=(points - 1, points + 1), p_value=1.0)
    return Trial(number=number, outcome="complete", model=variant.model, policy=variant.policy, cost=cost, drop=drop)


COSTS = {"fp32": 1.0, "int8-dynamic": 0.6, "int8-static": 0.5}


def _known(*drawn: dict[str, object]) -> list[Known]:
    """Costs by factors, and drops by sums: what the prediction learns exactly."""
    found = []
    for number, values in enumerate(drawn):
        whole = {axis.name: axis.choices[0] for axis in axes(SMALL)} | values
        variant = variant_of(whole, SMALL, constant_schedule)
        int8 = (variant.policy.conv == "int8-static") + (variant.policy.attention == "int8-static")
        cost = 20 * COSTS[variant.policy.linear] * 0.8 ** whole["image_size"] * 0.9**int8
        points = 0.5 * (variant.policy.linear == "int8-static") + 2.0 * whole["image_size"] + 0.05 * int8
        found.append(Known(whole, _trial(number, variant, cost, points)))
    return found


EIGHT = _known(
    {},
    {"linear": "int8-dynamic"},
    {"linear": "int8-static"},
    {"conv": "int8-static"},
    {"attention": "int8-static"},
    {"image_size": 1},
    {"linear": "int8-static", "image_size": 1},
    {"conv": "int8-static", "image_size": 2},
)


def _proposed(known: list[Known], taken: frozenset[str] = frozenset()) -> Variant | None:
    taken |= {each.trial.variant.key for each in known}
    values = propose(known, taken, SMALL, constant_schedule, 1.0, random.Random(0))
    return None if values is None else variant_of(values, SMALL, constant_schedule)


def test_the_neighbour_that_gains_most_is_proposed():
    """Dynamic linear layers lose nothing, INT8 elsewhere next to nothing: together they dominate the most."""
    wanted = Policy(linear="int8-dynamic", conv="int8-static", attention="int8-static")
    assert _proposed(EIGHT) == Variant("", wanted)


def test_what_is_tried_already_is_not_proposed():
    first = _proposed(EIGHT)
    assert first is not None
    second = _proposed(EIGHT, frozenset({first.key}))
    assert second not in (None, first)


def _every_variant() -> list[Variant]:
    every_choice = [[(axis.name, choice) for choice in axis.choices] for axis in axes(SMALL)]
    return [variant_of(dict(values), SMALL, constant_schedule) for values in itertools.product(*every_choice)]


def test_without_eight_trials_or_without_a_free_neighbour_nothing_is_proposed():
    assert _proposed(EIGHT[:7]) is None
    keys = frozenset(variant.key for variant in _every_variant())
    assert len(keys) == 3 * 3 * 2 * 2
    assert _proposed(EIGHT, keys) is None


def test_a_neighbour_that_gains_nothing_is_not_proposed():
    """fp32 at the smallest size takes 12.8 and loses 4 points; static linear layers take 10 and lose half a point."""
    beaten = Policy(image_size=160)
    assert _proposed(EIGHT, frozenset(v.key for v in _every_variant() if v.policy != beaten)) is None


@pytest.mark.parametrize("max_drop", [None, 0.0, 1.0])
def test_every_budget_has_proposals(max_drop):
    taken = frozenset(each.trial.variant.key for each in EIGHT)
    assert propose(EIGHT, taken, SMALL, constant_schedule, max_drop, random.Random(0)) is not None


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ((), 0.0),
        (((6.0, 1.0),), 4 * 3),
        (((6.0, 1.0), (8.0, 0.0)), 4 * 3 + 2 * 1),
        (((6.0, 1.0), (7.0, 2.0)), 4 * 3),  # the second is beaten in both
        (((10.0, 0.0), (1.0, 4.0)), 0.0),  # at the limits
    ],
)
def test_a_front_dominates_the_area_between_itself_and_the_limits(points, area):
    assert dominated(points, (10.0, 4.0)) == area


def test_the_next_trial_has_other_random_numbers_than_the_last_and_the_same_after_a_restart():
    def drawn(number: int) -> dict[str, object]:
        study = optuna.create_study(directions=["minimize", "minimize"])
        for _ in range(number):
            study.ask()
        study.sampler = FrontSampler({"": SPACE}, constant_schedule, 1.0, seed=0, is_random=True)
        return study.sampler.sample_relative(study, study.ask()._cached_frozen_trial, {})

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)
