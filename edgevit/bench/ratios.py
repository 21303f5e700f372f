"""How much faster one is than the other, with an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import MeasurementError, ShapeMismatchError
from edgevit.results import LatencyRatio

RESAMPLES = 2000
# hundreds of thousands of runs of a tiny model give a narrow interval with fewer resamples, and within seconds
MOST_DRAWS = 100_000_000
FEWEST_RESAMPLES = 200
SEED = 0
Floats = NDArray[np.float64]


def ratio(
    a_blocks: Sequence[Sequence[float]], b_blocks: Sequence[Sequence[float]], *, resamples: int = RESAMPLES
) -> LatencyRatio:
    """Median of A over median of B, with a 95 % interval; above 1: B is faster.

    a_blocks[i], b_blocks[i]: latencies of the i-th round of an interleaved measurement. Whole rounds are drawn again
    with replacement, the same ones for A and B: runs of a round are alike, and what disturbed the round met both.
    The draws have a fixed seed. A single round gives an interval without width, so at least two are asked for.
    Raises ShapeMismatchError when the numbers of rounds differ, MeasurementError with fewer than two rounds, an
    empty round, or a latency that is not a positive number.
    Source: percentile bootstrap, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; of
    blocks because of serial dependence, Künsch, Annals of Statistics 17 (1989) 1217.
    """
    if len(a_blocks) != len(b_blocks):
        raise ShapeMismatchError(f"{len(a_blocks)} and {len(b_blocks)} rounds cannot be paired. Measure them in turns.")
    a, b = _blocks(a_blocks), _blocks(b_blocks)
    if len(a) < 2:
        raise MeasurementError(f"{len(a)} rounds give no interval. Measure at least two.")
    generator = np.random.default_rng(SEED)

    def draw() -> tuple[Floats, Floats]:
        rounds = generator.integers(len(a), size=len(a))
        return np.concatenate([a[i] for i in rounds]), np.concatenate([b[i] for i in rounds])

    return _ratio(np.concatenate(a), np.concatenate(b), draw, resamples)


def separate_ratio(
    a_samples: Sequence[float], b_samples: Sequence[float], *, resamples: int = RESAMPLES
) -> LatencyRatio:
    """Median of A over median of B where each was measured on its own, in the order of measuring.

    Each is drawn again by itself, in blocks of consecutive runs of length n^(1/3), which keeps their dependence. What
    differed between the two measurements, such as the machine's temperature, is not in the interval.
    Raises MeasurementError with fewer than two latencies, or one that is not a positive number.
    Source: Künsch, Annals of Statistics 17 (1989) 1217; the length, Hall, Horowitz, Jing, Biometrika 82 (1995) 561.
    """
    (a,), (b,) = _blocks([a_samples]), _blocks([b_samples])
    if min(len(a), len(b)) < 2:
        raise MeasurementError("One run gives no interval. Measure at least two.")
    generator = np.random.default_rng(SEED)
    affordable = max(FEWEST_RESAMPLES, min(resamples, MOST_DRAWS // max(len(a), len(b))))
    return _ratio(a, b, lambda: (_moving_blocks(a, generator), _moving_blocks(b, generator)), affordable)


def _ratio(a: Floats, b: Floats, draw: Callable[[], tuple[Floats, Floats]], resamples: int) -> LatencyRatio:
    ratios = np.empty(resamples)
    for i in range(resamples):
        drawn_a, drawn_b = draw()
        ratios[i] = np.median(drawn_a) / np.median(drawn_b)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return LatencyRatio(ratio=float(np.median(a) / np.median(b)), ci95=(float(low), float(high)))


def _moving_blocks(samples: Floats, generator: np.random.Generator) -> Floats:
    """As many samples again, in blocks that may begin anywhere."""
    length = round(len(samples) ** (1 / 3))
    count = -(-len(samples) // length)
    starts = generator.integers(len(samples) - length + 1, size=count)
    drawn: Floats = samples[(starts[:, None] + np.arange(length)).ravel()][: len(samples)]
    return drawn


def _blocks(blocks: Sequence[Sequence[float]]) -> list[Floats]:
    arrays = [np.asarray(block, dtype=np.float64) for block in blocks]
    for array in arrays:
        if array.size == 0:
            raise MeasurementError("A round has no latency. Measure again.")
        if not np.all(np.isfinite(array)) or array.min() <= 0:
            raise MeasurementError("A latency is not a positive number. Measure again.")
    return arrays
