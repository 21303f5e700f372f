"""What a list of latencies says, and what it does not say.

Python 3.8 and numpy only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence

P99_SAMPLES = 662
CONFIDENCE = 0.99


def summarize(samples_ms: Sequence[float]) -> dict[str, Any]:
    """runs, p50, p90, p99, mean, mad, minimum and maximum of latencies, in ms.

    p99 is None below 662 samples. Whether n samples reach beyond the true p99 needs no knowledge of their
    distribution: the number of samples above it is binomial(n, 0.01). Of 662 samples at least two lie above it with
    99 % confidence (1 - 0.99^n - n * 0.01 * 0.99^(n-1) >= 0.99; 661 fall just short), so that the estimate stands
    between samples and does not hang on the single slowest one.
    mad: the median absolute deviation from p50, unscaled. Percentiles interpolate linearly between samples.
    Raises MeasurementError when there is no sample, or one that is negative or not finite.
    Source: S. S. Wilks, "Determination of sample sizes for setting tolerance limits", 1941 (n = 662 for 99 %/99 %);
    R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", 1996, type 7.
    """
    samples = np.asarray(samples_ms, dtype=np.float64)
    if samples.size == 0:
        raise MeasurementError("There is no latency sample to summarize. Measure at least one run.")
    if not np.all(np.isfinite(samples)) or samples.min() < 0:
        raise MeasurementError("A latency sample is negative or not a finite number. Measure again.")
    p50, p90 = percentiles(samples_ms, (50, 90))
    return {
        "runs": int(samples.size),
        "p50": p50,
        "p90": p90,
        "p99": percentiles(samples_ms, (99,))[0] if samples.size >= P99_SAMPLES else None,
        "mean": float(samples.mean()),
        "mad": float(np.median(np.abs(samples - p50))),
        "minimum": float(samples.min()),
        "maximum": float(samples.max()),
    }


def percentiles(samples_ms: Sequence[float], percents: Sequence[float]) -> list[float]:
    """The percentiles asked for (0 to 100), linearly interpolated, in the unit of the samples."""
    return [float(value) for value in np.percentile(np.asarray(samples_ms, dtype=np.float64), list(percents))]


def extra_percentiles(samples_ms: Sequence[float], percents: Sequence[float]) -> list[dict[str, Any]]:
    """percent, ms and needed of each percentile: ms is None where there are fewer than `needed` samples."""
    stated = []
    for percent in percents:
        needed = samples_for(percent)
        ms = percentiles(samples_ms, (percent,))[0] if len(samples_ms) >= needed else None
        stated.append({"percent": percent, "ms": ms, "needed": needed})
    return stated


def samples_for(percent: float) -> int:
    """From how many samples on a percentile (above 0, below 100) is stated: 64 for p90, 662 for p99, 6,636 for p99.9.

    The least n of which, with 99 % confidence, two or more lie beyond the true percentile on the side of its nearer
    end; the rule that summarize has for p99, for any percentile, whatever the distribution.
    Source: S. S. Wilks, "Determination of sample sizes for setting tolerance limits", 1941.
    """
    tail = min(percent, 100.0 - percent) / 100.0
    low, high = 2, math.ceil(20.0 / tail)
    while low < high:
        middle = (low + high) // 2
        at_most_one = (1 - tail) ** middle + middle * tail * (1 - tail) ** (middle - 1)
        low, high = (low, middle) if at_most_one <= 1 - CONFIDENCE else (middle + 1, high)
    return low


def early_stopping_estimate(samples_ms: Sequence[float], percent: float) -> float | None:
    """MLPerf's estimate of a percentile that few queries do not flatter, in the samples' unit; None for too few.

    The t-th largest sample, where t is the most of n queries that may lie above the true percentile with no more than
    1 % chance that so few do: P(binomial(n, 1 - percent / 100) <= t) <= 0.01. For p90 it needs 64 samples; of 2,048 it
    is the 173rd largest, which stands at p91.6.
    Source: mlcommons/inference, loadgen/early_stopping.cc and results.cc (confidence 0.99, tolerance 0).
    """
    n, tail = len(samples_ms), 1.0 - percent / 100.0
    below, t = 0.0, -1
    while t < n:
        odds = math.lgamma(n + 1) - math.lgamma(t + 2) - math.lgamma(n - t)
        below += math.exp(odds + (t + 1) * math.log(tail) + (n - t - 1) * math.log(1.0 - tail))
        if below > 1 - CONFIDENCE:
            break
        t += 1
    return sorted(samples_ms)[n - t] if t >= 1 else None


def percent_text(percent: float) -> str:
    """'99.9' of 99.9, and '50' of 50.0."""
    return f"{percent:.4f}".rstrip("0").rstrip(".")
