from __future__ import annotations

import math

import pytest

from edgevit.policy import Policy
from edgevit.results import AccuracyDrop
from edgevit.search.predictor import is_hopeless, predict_cost, predict_figures
from edgevit.search.trials import Prediction, Trial, Variant

FACTORS = {"fp32": 1.0, "int8-dynamic": 0.6, "int8-static": 0.5}


def _latency_ms(policy: Policy) -> float:
    """Factors multiply, as the model assumes; nothing of it is the model's."""
    return 20 * FACTORS[policy.linear] * (0.8 if "fast" in policy.rewrites else 1.0) * (policy.threads or 1) ** -0.5


def _trial(number: int, policy: Policy, points: float = 0.0, low: float = -1.0) -> Trial:
    drop = AccuracyDrop(n=100, points=points, ci95=(low, points + 1), p_value=1.0)
    return Trial(number=number, outcome="complete", policy=policy, cost=_latency_ms(policy), drop=drop)


POLICIES = [
    Policy(linear=linear, rewrites=rewrites, threads=threads)
    for linear in FACTORS
    for rewrites in ((), ("fast",))
    for threads in (1, 2, 4)
]


def test_there_is_no_prediction_before_eight_measured_trials():
    known = [_trial(number, policy) for number, policy in enumerate(POLICIES[:7])]
    failed = Trial(number=9, outcome="failed", policy=Policy())
    assert predict_cost(Variant("", POLICIES[8]), [*known, failed]) is None
    assert predict_cost(Variant("", POLICIES[8]), [*known, _trial(7, POLICIES[7])]) is not None


def on_litert(linear: str) -> Policy:
    return Policy(linear=linear, runtime="litert")


def litert_trial(number: int, linear: str, latency_ms: float) -> Trial:
    return _trial(number, on_litert(linear)).model_copy(update={"cost": latency_ms})


def test_another_runtime_is_not_predicted_before_four_trials_of_its_own():
    known = [_trial(number, policy) for number, policy in enumerate(POLICIES)]
    known += [litert_trial(100 + number, "fp32", 30.0) for number in range(3)]
    assert predict_cost(Variant("", on_litert("int8-dynamic")), known) is None
    known.append(litert_trial(103, "int8-static", 40.0))
    assert predict_cost(Variant("", on_litert("int8-dynamic")), known) is not None


def test_what_int8_is_worth_on_one_runtime_is_not_taken_for_what_it_is_worth_on_another():
    known = [_trial(number, policy) for number, policy in enumerate(POLICIES)]  # static: half of fp32
    measured = {"fp32": 20.0, "int8-dynamic": 5.0, "int8-static": 40.0}
    known += [litert_trial(100 + i, linear, ms) for i, (linear, ms) in enumerate([*measured.items()] * 2)]
    for linear, latency_ms in measured.items():
        prediction = predict_cost(Variant("", on_litert(linear)), known)
        assert prediction is not None
        assert prediction.cost == pytest.approx(latency_ms, rel=0.1)


def test_factors_are_learned_and_the_error_is_small_where_they_hold():
    unseen = POLICIES[10]
    known = [_trial(number, policy) for number, policy in enumerate(POLICIES) if policy != unseen]
    prediction = predict_cost(Variant("", unseen), known)
    assert prediction is not None
    assert prediction.cost == pytest.approx(_latency_ms(unseen), rel=0.05)
    assert prediction.relative_error < 0.05


def test_latencies_that_nothing_explains_have_an_error_of_their_own_spread():
    factors = (1, 3, 1, 3, 3, 1, 3, 1, 1, 3)  # of the same policy: half its logarithms lie at 0, half at log 3
    known = [
        _trial(number, POLICIES[0]).model_copy(update={"cost": 10.0 * factor}) for number, factor in enumerate(factors)
    ]
    prediction = predict_cost(Variant("", POLICIES[0]), known)
    assert prediction is not None
    spread = math.log(3) / 2
    assert prediction.cost == pytest.approx(10 * math.sqrt(3))
    # Left out, a point is as far from the others' mean as spread * 10 / 9.
    assert prediction.relative_error == pytest.approx(spread * 10 / 9, rel=0.01)


@pytest.mark.parametrize(
    ("cost", "relative_error", "expected"),
    [(12.0, 0.05, True), (12.0, 0.1, False), (9.0, 0.0, False)],  # 12·e^-0.1 = 10.9, 12·e^-0.2 = 9.8
)
def test_only_what_is_slower_beyond_doubt_is_hopeless(cost, relative_error, expected):
    free = _trial(0, POLICIES[0]).model_copy(update={"cost": 10.0})
    prediction = Prediction(cost=cost, relative_error=relative_error)
    assert is_hopeless(prediction, [free], 1.0) is expected


@pytest.mark.parametrize(("max_drop", "expected"), [(1.0, False), (4.0, True), (None, False)])
def test_only_what_costs_next_to_nothing_of_the_budget_makes_others_hopeless(max_drop, expected):
    fast = _trial(0, POLICIES[0], points=0.5, low=-2.0).model_copy(update={"cost": 1.0})
    assert is_hopeless(Prediction(cost=100.0, relative_error=0.0), [fast], max_drop) is expected
    assert not is_hopeless(Prediction(cost=100.0, relative_error=0.0), [], max_drop)


def test_figures_of_many_are_predicted_at_once_and_drops_add_up():
    points = {"fp32": 0.0, "int8-dynamic": 0.5, "int8-static": 2.0}

    def lost(policy: Policy) -> float:
        return points[policy.linear] + (1.0 if "fast" in policy.rewrites else 0.0)

    unseen = [POLICIES[10], POLICIES[16]]
    known = [_trial(number, policy, lost(policy)) for number, policy in enumerate(POLICIES) if policy not in unseen]
    found = predict_figures([Variant("", policy) for policy in unseen], known)
    for policy, (cost, drop) in zip(unseen, found, strict=True):
        assert cost == pytest.approx(_latency_ms(policy), rel=0.05)
        assert drop == pytest.approx(lost(policy), abs=0.1)


def test_a_models_factor_is_learned_beside_the_policies():
    def trial(number: int, policy: Policy, model: str) -> Trial:
        found = _trial(number, policy)
        return found.model_copy(update={"model": model, "cost": _latency_ms(policy) * (3 if model == "large" else 1)})

    unseen = POLICIES[10]
    variants = [(policy, model) for policy in POLICIES for model in ("small", "large") if policy != unseen]
    known = [trial(number, policy, model) for number, (policy, model) in enumerate(variants)]
    (small, _), (large, _) = predict_figures([Variant("small", unseen), Variant("large", unseen)], known)
    assert large / small == pytest.approx(3.0, rel=0.05)


def test_figures_are_not_predicted_from_too_few_trials_nor_of_nothing():
    known = [_trial(number, policy) for number, policy in enumerate(POLICIES[:8])]
    assert predict_figures([Variant("", POLICIES[9])], known[:7]) == []
    assert predict_figures([], known) == []
    assert len(predict_figures([Variant("", POLICIES[9])], known)) == 1
