"""What a list of latencies says, and what it does not say.

Python 3.8 and numpy only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence

P99_SAMPLES = 662


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
