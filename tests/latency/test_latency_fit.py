"""The fit: it finds what made the rows, bears one that is wrong, and knows what it does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from situations import LINEAR, priors, situation, time_ms

from edgevit.latency.coefficients import prior_of
from edgevit.latency.fit import MOST_NOISE, Observation, fit
from edgevit.latency.operators import Operator
from edgevit.latency.predict import published_rows
from edgevit.latency.roofline import Situation

DEPTHWISE = Operator("depthwise", "fp32", 5_000_000, 1000, 400_000, 3)


def models(count: int) -> list[Situation]:
    """Of linear layers and depthwise convolutions in turn, no two alike."""
    return [
        situation(
            replace(LINEAR, macs=LINEAR.macs * (index + 1), count=1 + index % 3),
            replace(DEPTHWISE, count=1 + 5 * (index % 2)),
            model=f"model {index}",
            threads=1 + 3 * (index % 2),
        )
        for index in range(count)
    ]


def test_without_rows_a_prediction_is_the_priors() -> None:
    item = situation()
    median, deviation = fit([]).predict(item)
    assert median == pytest.approx(time_ms(item, priors(item)))
    assert deviation > MOST_NOISE


def test_rows_pull_predictions_to_them() -> None:
    slower = [Observation(item, 2.0 * time_ms(item, priors(item))) for item in models(12)]
    fitted = fit(slower[:-1])
    median, deviation = fitted.predict(slower[-1].situation)
    assert median == pytest.approx(slower[-1].latency_ms, rel=0.15)
    assert deviation < fit([]).predict(slower[-1].situation)[1]


def test_one_row_that_is_wrong_by_far_is_borne() -> None:
    rows = [Observation(item, time_ms(item, priors(item))) for item in models(12)]
    wrong = [Observation(rows[0].situation, 30 * rows[0].latency_ms), *rows[1:]]
    new = models(13)[-1]
    assert fit(wrong).predict(new)[0] == pytest.approx(fit(rows).predict(new)[0], rel=0.15)


def test_a_row_that_weighs_more_pulls_more() -> None:
    item = situation()
    wanted = 3.0 * time_ms(item, priors(item))
    light, heavy = (fit([Observation(item, wanted, weight)]).predict(item)[0] for weight in (0.1, 10.0))
    assert light < heavy <= wanted * 1.01


def test_what_no_row_speaks_of_is_less_sure() -> None:
    fitted = fit([Observation(item, time_ms(item, priors(item))) for item in models(12)])
    near = models(13)[-1]
    far = replace(near, board="elsewhere", runtime="openvino")
    assert fitted.predict(far)[1] > fitted.predict(near)[1]


def test_a_fit_is_the_same_every_time() -> None:
    rows = published_rows("calibrates")
    one, other = fit(rows), fit(rows)
    assert np.array_equal(one.mean, other.mean)
    assert one.noise == other.noise


def test_coefficients_stay_where_priors_allow() -> None:
    fitted = fit(published_rows("calibrates"))
    pulls = [
        (value - prior_of(k).mean) / prior_of(k).deviation for k, value in zip(fitted.keys, fitted.mean, strict=True)
    ]
    assert max(map(abs, pulls)) < 3
