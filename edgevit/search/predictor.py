"""Predictor: what a policy's latency will be, learned from the trials so far. It saves the builds that cannot pay."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from edgevit.policy import Policy
from edgevit.search.trials import Prediction, Trial

MIN_TRIALS = 8
DOUBT = 2.0  # root mean square errors; of normal errors one in forty is larger on that side
NEGLIGIBLE = 0.25  # of the accuracy that may be lost
ALPHAS = (0.01, 0.1, 1.0)  # how much the regression is held back; the best by leave-one-out is taken


def predict_cost(policy: Policy, known: Sequence[Trial]) -> Prediction | None:
    """The latency that trials with a measured one lead to expect; None below MIN_TRIALS of them.

    Ridge regression of the logarithm: what a policy does multiplies the latency, it does not add to it. Its error is
    that of predicting each known trial from all the others.
    """
    measured = [(trial.policy, trial.cost) for trial in known if trial.cost is not None]
    if len(measured) < MIN_TRIALS:
        return None
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import RidgeCV

    vectorizer = DictVectorizer(sparse=False)  # a column for each text, one for each number
    known_rows = vectorizer.fit_transform([features(policy) for policy, _ in measured])
    logarithms = np.log([cost for _, cost in measured])
    model = RidgeCV(alphas=ALPHAS).fit(known_rows, logarithms)  # leaves one out in closed form; the score is -MSE
    expected = float(model.predict(vectorizer.transform([features(policy)]))[0])
    return Prediction(cost=math.exp(expected), relative_error=math.sqrt(max(0.0, -float(model.best_score_))))


def is_hopeless(prediction: Prediction, known: Sequence[Trial], max_drop: float | None) -> bool:
    """Whether it is slower, beyond doubt, than what is known to cost next to nothing of the accuracy that may be lost.

    known: complete trials, by the estimate of their drop: on few pictures nearly every interval reaches 0.
    """
    next_to_nothing = NEGLIGIBLE * (max_drop or 0.0)
    free = [latency for latency, drop in (trial.figures for trial in known) if drop <= next_to_nothing]
    at_best = prediction.cost * math.exp(-DOUBT * prediction.relative_error)
    return bool(free) and at_best > min(free)


def features(policy: Policy) -> dict[str, float | str]:
    """What of a policy may change its latency; texts are categories."""
    removed = policy.tokens.removed if policy.tokens else ()
    spared = sum(count * (len(removed) - block) for block, count in enumerate(removed))  # tokens x blocks without them
    return {
        "image size": str(policy.image_size),
        "spared": float(spared),
        "spared squared": float(spared) ** 2 / max(1.0, float(sum(removed)) * len(removed)),
        "token method": policy.tokens.method if policy.tokens else "",
        "linear": policy.linear,
        "conv": policy.conv,
        "conv kinds": "+".join(policy.conv_kinds),
        "attention": policy.attention,
        "smoothed": str(policy.smooth_alpha is not None),
        "float nodes": math.log1p(len(policy.float_nodes)),
        "input": policy.input_type,
        "runtime": policy.runtime,
        "session": json.dumps(policy.session, sort_keys=True),
        "threads": math.log(policy.threads) if policy.threads else 0.0,
        "threads are the device's": str(policy.threads is None),
        **{f"rewrite {name}": 1.0 for name in policy.rewrites},
    }
