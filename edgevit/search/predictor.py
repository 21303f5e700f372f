"""Predictor: what a variant will cost and lose, learned from the trials so far.

It saves the builds that cannot pay, and says which of many to try next.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgevit.policy import Policy
from edgevit.recipe import SEARCHED_RUNTIMES as RUNTIMES
from edgevit.search.trials import Prediction, Trial, Variant

MIN_TRIALS = 8
MIN_OF_RUNTIME = 4  # what one runtime is fast at tells little about another
DOUBT = 2.0  # root mean square errors; of normal errors one in forty is larger on that side
NEGLIGIBLE = 0.25  # of the accuracy that may be lost
Figures = tuple[float, float]  # cost, points lost
ALPHAS = (0.01, 0.1, 1.0)  # how much the regression is held back; the best by leave-one-out is taken


def predict_cost(variant: Variant, known: Sequence[Trial]) -> Prediction | None:
    """The cost that trials with a measured one lead to expect; None below MIN_TRIALS of them, or MIN_OF_RUNTIME of its
    runtime.

    Its error is that of predicting each known trial from all the others.
    """
    measured = [trial for trial in known if trial.cost is not None]
    of_runtime = sum(trial.policy.runtime == variant.policy.runtime for trial in measured)
    if len(measured) < MIN_TRIALS or of_runtime < MIN_OF_RUNTIME:
        return None
    expected, error = _regression(measured, _log_costs(measured), [variant])
    return Prediction(cost=math.exp(expected[0]), relative_error=error)


def predict_figures(variants: Sequence[Variant], known: Sequence[Trial]) -> list[Figures]:
    """(cost, drop) that is expected of each variant; [] below MIN_TRIALS with both figures, and for no variant.

    Drops of trials that were stopped early count, too: they are the only ones that say what costs too much.
    """
    judged = [trial for trial in known if trial.cost is not None and trial.drop is not None]
    if len(judged) < MIN_TRIALS or not variants:
        return []
    costs, _ = _regression(judged, _log_costs(judged), variants)
    drops, _ = _regression(judged, [trial.drop.points for trial in judged if trial.drop], variants)
    return list(zip(np.exp(costs).tolist(), drops.tolist(), strict=True))


def is_hopeless(prediction: Prediction, known: Sequence[Trial], max_drop: float | None) -> bool:
    """Whether it is slower, beyond doubt, than what is known to cost next to nothing of the accuracy that may be lost.

    known: complete trials, by the estimate of their drop: on few pictures nearly every interval reaches 0.
    """
    next_to_nothing = NEGLIGIBLE * (max_drop or 0.0)
    free = [latency for latency, drop in (trial.figures for trial in known) if drop <= next_to_nothing]
    at_best = prediction.cost * math.exp(-DOUBT * prediction.relative_error)
    return bool(free) and at_best > min(free)


def features(variant: Variant) -> dict[str, float | str]:
    """What of a variant may change its cost or its accuracy; texts are categories."""
    policy = variant.policy
    removed = policy.tokens.removed if policy.tokens else ()
    spared = sum(count * (len(removed) - block) for block, count in enumerate(removed))  # tokens x blocks without them
    return {
        "model": variant.model,
        "image size": str(policy.image_size),
        "spared": float(spared),
        "spared squared": float(spared) ** 2 / max(1.0, float(sum(removed)) * len(removed)),
        "removed": float(sum(removed)),
        "token method": policy.tokens.method if policy.tokens else "",
        "linear": policy.linear,
        "conv": policy.conv,
        "conv kinds": "+".join(policy.conv_kinds),
        "attention": policy.attention,
        "residual": policy.residual,
        "calibrator": policy.calibrator if policy.needs_calibration else "",
        "smoothed": str(policy.smooth_alpha),
        "equalized": str(policy.equalize),
        "bias corrected": str(policy.correct_bias),
        "float nodes": math.log1p(len(policy.float_nodes)),
        "input": policy.input_type,
        "runtime": policy.runtime,
        **_kernels(policy),
        "session": json.dumps(policy.session, sort_keys=True),
        "threads": math.log(policy.threads) if policy.threads else 0.0,
        "threads are the device's": str(policy.threads is None),
        **{f"rewrite {name}": 1.0 for name in policy.rewrites},
    }


def _kernels(policy: Policy) -> dict[str, float | str]:
    """How a further runtime's precisions differ from those of the first: dynamic INT8 is LiteRT's fastest."""
    if policy.runtime == RUNTIMES[0]:
        return {}
    return {f"{policy.runtime}: linear": policy.linear, f"{policy.runtime}: conv": policy.conv}


def _log_costs(trials: Sequence[Trial]) -> list[float]:
    """What a policy does multiplies the latency, it does not add to it."""
    return [math.log(trial.cost) for trial in trials if trial.cost is not None]


def _regression(
    known: Sequence[Trial], targets: Sequence[float], variants: Sequence[Variant]
) -> tuple[NDArray[np.float64], float]:
    """(what ridge regression expects of each variant, the root mean square of its leave-one-out errors)."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import RidgeCV

    vectorizer = DictVectorizer(sparse=False)  # a column for each text, one for each number
    rows = vectorizer.fit_transform([features(trial.variant) for trial in known])
    model = RidgeCV(alphas=ALPHAS).fit(rows, targets)  # leaves one out in closed form; the score is -MSE
    expected: NDArray[np.float64] = model.predict(vectorizer.transform([features(variant) for variant in variants]))
    return expected, math.sqrt(max(0.0, -float(model.best_score_)))
