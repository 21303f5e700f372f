"""Fit: the coefficients that published and measured rows ask for, near their priors, and how sure they are.

A robust least squares on the logarithm of the latency: the priors are a ridge, and a row that fits badly pulls no
harder than one at its limit. Source: Huber, "Robust estimation of a location parameter", 1964; Gauss-Newton with
Levenberg's damping; the posterior is the normal approximation around the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgevit.latency.coefficients import Key, prior_of
from edgevit.latency.roofline import Floats, Roofline, Situation, keys_of

STEPS = 40
ENOUGH = 1e-4  # the largest change of a coefficient that ends the fit
HUBER_LIMIT = 1.5  # deviations
FIRST_NOISE, LEAST_NOISE, MOST_NOISE = 0.2, 0.08, 0.5
ROUNDS = 3


@dataclass(frozen=True)
class Observation:
    """A latency that somebody measured. weight: of how many usual rows it counts as."""

    situation: Situation
    latency_ms: float
    weight: float = 1.0


@dataclass(frozen=True)
class Fit:
    """`mean` and `covariance`: of the coefficients `keys`.

    noise: deviation of one row's logarithm about its prediction, each row predicted without itself.
    """

    keys: tuple[Key, ...]
    mean: Floats
    covariance: Floats
    noise: float

    def predict(self, situation: Situation) -> tuple[float, float]:
        """(Milliseconds, deviation of their logarithm): what the coefficients do not know, and the rows' noise."""
        keys = keys_of(situation)
        known = {key: index for index, key in enumerate(self.keys)}
        priors = [prior_of(key) for key in keys]
        mean = np.array([self.mean[known[k]] if k in known else p.mean for k, p in zip(keys, priors, strict=True)])
        covariance = np.diag([prior.deviation**2 for prior in priors])
        inside = [index for index, key in enumerate(keys) if key in known]
        places = [known[keys[index]] for index in inside]
        covariance[np.ix_(inside, inside)] = self.covariance[np.ix_(places, places)]
        roofline = Roofline([situation], keys)
        slope = roofline.slopes(mean)[0]
        variance = float(slope @ covariance @ slope) + self.noise**2
        return float(roofline.times_ms(mean)[0]), variance**0.5


def fit(observations: Sequence[Observation]) -> Fit:
    """The coefficients of all situations. Without observations: none, so that every prediction is the priors'."""
    keys = tuple(dict.fromkeys(key for item in observations for key in keys_of(item.situation)))
    priors = [prior_of(key) for key in keys]
    mean = np.array([prior.mean for prior in priors])
    precision = np.array([prior.deviation**-2 for prior in priors])
    if not observations:
        return Fit(keys, mean, np.zeros((0, 0)), MOST_NOISE)
    roofline = Roofline([item.situation for item in observations], keys)
    observed = np.log([item.latency_ms for item in observations])
    weights = np.array([item.weight for item in observations])
    start, noise = mean, FIRST_NOISE
    for _ in range(ROUNDS):
        mean = _minimize(roofline, observed, weights / noise**2, start, mean, precision)
        slopes, hard = _linearized(roofline, observed, weights / noise**2, mean)
        covariance = np.linalg.inv((slopes.T * hard) @ slopes + np.diag(precision)).astype(np.float64)
        noise = _noise(roofline, observed, mean, slopes, hard, covariance)
    return Fit(keys, mean, covariance, noise)


def _minimize(
    roofline: Roofline, observed: Floats, weights: Floats, prior: Floats, mean: Floats, precision: Floats
) -> Floats:
    """Least squares of weighted residuals and of the distance from the prior."""
    damping = 1e-3
    loss = _loss(roofline, observed, weights, prior, mean, precision)
    for _ in range(STEPS):
        slopes, hard = _linearized(roofline, observed, weights, mean)
        residual = observed - np.log(roofline.times_ms(mean))
        gradient = slopes.T @ (hard * residual) - precision * (mean - prior)
        curvature = (slopes.T * hard) @ slopes + np.diag(precision)
        while damping < 1e6:
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
            next_loss = _loss(roofline, observed, weights, prior, mean + step, precision)
            if next_loss <= loss:
                break
            damping *= 10
        else:
            return mean
        mean, loss, damping = mean + step, next_loss, damping / 10
        if np.abs(step).max() < ENOUGH:
            break
    return mean


def _loss(
    roofline: Roofline, observed: Floats, weights: Floats, prior: Floats, mean: Floats, precision: Floats
) -> float:
    distance = np.abs(observed - np.log(roofline.times_ms(mean))) * np.sqrt(weights)
    huber = np.where(distance <= HUBER_LIMIT, distance**2, 2 * HUBER_LIMIT * distance - HUBER_LIMIT**2)
    return float(huber.sum() + (precision * (mean - prior) ** 2).sum())


def _linearized(roofline: Roofline, observed: Floats, weights: Floats, mean: Floats) -> tuple[Floats, Floats]:
    """(Slopes of the logarithms, weights with those of rows beyond Huber's limit lowered)."""
    distance = np.abs(observed - np.log(roofline.times_ms(mean))) * np.sqrt(weights)
    return roofline.slopes(mean), weights * np.minimum(1.0, HUBER_LIMIT / np.maximum(distance, 1e-12))


def _noise(
    roofline: Roofline, observed: Floats, mean: Floats, slopes: Floats, weights: Floats, covariance: Floats
) -> float:
    """Robust deviation of the residuals, each as if its row had not been there.

    Source: the leave-one-out residual of a linear fit is r / (1 - leverage); 1.4826 turns a median into a deviation.
    """
    leverage = np.clip(np.einsum("ij,jk,ik->i", slopes, covariance, slopes) * weights, 0.0, 0.95)
    left_out = (observed - np.log(roofline.times_ms(mean))) / (1.0 - leverage)
    return float(np.clip(1.4826 * np.median(np.abs(left_out)), LEAST_NOISE, MOST_NOISE))
