"""Judge: what every artifact costs and says, measured; the candidates that the choice is made among."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.accuracy import is_correct, paired_drop, top1
from edgevit.bench.interleave import ArtifactRun, Interleaved, measure_interleaved
from edgevit.bench.ratios import ratio
from edgevit.board.stats import summarize
from edgevit.build import FP32, Artifact, Logits, Workshop
from edgevit.data.pictures import PictureSet
from edgevit.results import Accuracy, AccuracyDrop, Candidate, Latency
from edgevit.units import MIB


@dataclass(frozen=True)
class Score:
    """An artifact on labelled pictures. `drop` is against fp32, None for fp32 itself."""

    logits: Logits
    accuracy: Accuracy
    drop: AccuracyDrop | None


def judge(
    artifacts: tuple[Artifact, ...], shop: Workshop, pictures: PictureSet | None, threads: int
) -> tuple[Candidate, ...]:
    """A candidate for each artifact, in their order.

    pictures: labelled ones that the choice may see; None where accuracy cannot be measured. threads: the device's.
    Latency is measured only when the device has this machine's architecture, all artifacts taking turns.
    """
    sound = [artifact for artifact in artifacts if not artifact.failed and all(hop.passed for hop in artifact.parity)]
    scores = score(sound, shop, pictures) if pictures is not None else {}
    timings = {} if shop.is_foreign else _timings(sound, shop, threads)
    return tuple(_candidate(artifact, scores, timings) for artifact in artifacts)


def score(artifacts: list[Artifact], shop: Workshop, pictures: PictureSet) -> dict[str, Score]:
    """By precision: accuracy on `pictures`, and the drop from fp32 on the same pictures, paired."""
    scores: dict[str, Score] = {}
    for artifact in artifacts:
        shop.progress.stage(f"Accuracy of {artifact.precision}")
        logits = shop.logits(artifact, pictures)
        correct = is_correct(logits, pictures.labels)
        reference = scores.get(FP32)
        drop = paired_drop(is_correct(reference.logits, pictures.labels), correct) if reference else None
        scores[artifact.precision] = Score(logits, top1(logits, pictures.labels), drop)
    return scores


def _timings(artifacts: list[Artifact], shop: Workshop, threads: int) -> dict[str, Interleaved]:
    shop.progress.stage("Measuring latency, taking turns")
    runs = {
        artifact.precision: ArtifactRun(
            artifact.path, artifact.runtime, threads, shop.subject.input_shape, artifact.session
        )
        for artifact in artifacts
    }
    return measure_interleaved(runs, on_round=lambda done: shop.progress.update(done, 0))


def _candidate(artifact: Artifact, scores: dict[str, Score], timings: dict[str, Interleaved]) -> Candidate:
    timing, reference = timings.get(artifact.precision), timings.get(FP32)
    mine = scores.get(artifact.precision)
    failed = artifact.failed or (timing.failed if timing else None)
    is_timed = timing is not None and not timing.failed
    has_reference = is_timed and artifact.precision != FP32 and reference is not None and not reference.failed
    has_rounds = timing is not None and len(timing.blocks) > 1  # one round of a very slow model gives no interval
    return Candidate(
        precision=artifact.precision,
        runtime=artifact.runtime,
        size_mib=artifact.path.stat().st_size / MIB if artifact.path.exists() else 0.0,
        latency_ms=Latency(**summarize(timing.samples_ms)) if timing and is_timed else None,
        samples_ms=timing.samples_ms if timing and is_timed else (),
        vs_fp32=ratio(reference.blocks, timing.blocks)
        if timing and reference and has_reference and has_rounds
        else None,
        accuracy=mine.accuracy if mine else None,
        drop=mine.drop if mine else None,
        parity=artifact.parity,
        failed=failed,
    )
