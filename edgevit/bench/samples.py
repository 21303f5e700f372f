"""Samples: whether a report's figures are those of the latencies that it holds."""

from __future__ import annotations

import math

from edgevit.benchreport import BenchReport
from edgevit.board.stats import early_stopping_estimate, extra_percentiles, summarize

# A figure that a board computed from its samples must be the one that comes out here.
RELATIVE_TOLERANCE = 1e-6


def follows_from_samples(report: BenchReport) -> bool:
    """Whether the latencies, percentiles and MLPerf's estimate are what the samples give; False without samples."""
    samples, percents = list(report.samples_ms), [each.percent for each in report.percentiles]
    if not samples or not all(map(_is_latency, samples)):
        return False
    stated, expected = report.latency_ms.model_dump(), summarize(samples)
    pairs = [(stated[name], expected[name]) for name in stated]
    extra = extra_percentiles(samples, percents)
    pairs += [(each.ms, own["ms"]) for each, own in zip(report.percentiles, extra, strict=True)]
    if report.mode == "single-stream":
        pairs.append((report.early_stopping_p90_ms, early_stopping_estimate(samples, 90.0)))
    return all(_is_same(*pair) for pair in pairs)


def _is_latency(sample: float) -> bool:
    return math.isfinite(sample) and 0.0 < sample < 1e9


def _is_same(stated: float | None, expected: float | None) -> bool:
    if stated is None or expected is None:
        return stated is expected
    return math.isclose(stated, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-9)
