"""Stopwatch: latency on this machine, always in turns with one reference."""

from __future__ import annotations

import statistics

from edgevit.bench.interleave import Interleaved, measure_interleaved
from edgevit.errors import MeasurementError
from edgevit.judge import run_of, speedup
from edgevit.results import LatencyRatio
from edgevit.workshop import Artifact

TURNS_SECONDS, TURNS_RUNS = 1.5, 40
PROOF_SECONDS = 6.0


class Stopwatch:
    """Takes an artifact's latency in turns with the reference's, and scales it by what the reference's was said to be:
    a machine that drifts meets both alike, and the figures of several sessions can be compared.

    Until something is anchored, the first artifact that it is asked for is the reference. threads: of a policy without
    its own.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.reference: Artifact | None = None
        self._reference_ms = 0.0

    def anchor(self, artifact: Artifact, latency_ms: float) -> None:
        """Makes the artifact the reference, with the latency that it was measured to have."""
        self.reference, self._reference_ms = artifact, latency_ms

    def latency_ms(self, artifact: Artifact) -> float:
        """Median. Raises MeasurementError."""
        if self.reference is None:
            self.anchor(artifact, _median(self._in_turns(TURNS_SECONDS, artifact)[0]))
            return self._reference_ms
        reference, own = self._in_turns(TURNS_SECONDS, self.reference, artifact)
        return _median(own) * self._reference_ms / _median(reference)

    def speedup(self, artifact: Artifact) -> LatencyRatio | None:
        """How many times as fast as the reference it is, measured anew and for longer; None without an interval."""
        assert self.reference is not None, "nothing is anchored"
        return speedup(*self._in_turns(PROOF_SECONDS, self.reference, artifact))

    def _in_turns(self, seconds: float, *artifacts: Artifact) -> list[Interleaved]:
        runs = {str(index): run_of(artifact, self.threads) for index, artifact in enumerate(artifacts)}
        timings = measure_interleaved(runs, min_seconds=seconds, min_runs=TURNS_RUNS)
        return [timings[name] for name in runs]


def _median(timing: Interleaved) -> float:
    if timing.failed:
        raise MeasurementError(timing.failed)
    return statistics.median(timing.samples_ms)
