"""Judge: what every artifact costs and says, measured; the candidates that the choice is made among."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgevit.accuracy import is_correct, paired_drop, top1
from edgevit.bench.interleave import ArtifactRun, Interleaved, measure_interleaved
from edgevit.bench.ratios import ratio
from edgevit.benchreport import Latency
from edgevit.board.stats import summarize
from edgevit.board.timer import MIN_SECONDS
from edgevit.cost.cores import costs_for
from edgevit.cost.estimate import cost_of
from edgevit.data.pictures import PictureSet
from edgevit.policies import FP32
from edgevit.results import Accuracy, AccuracyDrop, Candidate, CostEstimate, LatencyRatio
from edgevit.units import MIB
from edgevit.workshop import Artifact, Logits, Workshop

EXPORTED = "exported"
TURNS_SECONDS = 30.0  # for all together, so that many candidates do not keep anybody waiting


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
    sound = [artifact for artifact in artifacts if artifact.is_sound]
    scores = score(sound, shop, pictures) if pictures is not None else {}
    timings = {} if shop.is_foreign else _timings(sound, shop, threads)
    estimates = _estimates(sound, shop) if shop.is_foreign else {}
    return tuple(_candidate(artifact, scores, timings, estimates) for artifact in artifacts)


def score(artifacts: list[Artifact], shop: Workshop, pictures: PictureSet) -> dict[str, Score]:
    """By the artifacts' names: accuracy on `pictures`, and the drop from fp32 on the same pictures, paired."""
    scores: dict[str, Score] = {}
    for artifact in artifacts:
        shop.progress.stage(f"Accuracy of {artifact.name}")
        logits = shop.logits(artifact, pictures)
        correct = is_correct(logits, pictures.labels)
        reference = scores.get(FP32)
        drop = paired_drop(is_correct(reference.logits, pictures.labels), correct) if reference else None
        scores[artifact.name] = Score(logits, top1(logits, pictures.labels), drop)
    return scores


def run_of(artifact: Artifact, threads: int) -> ArtifactRun:
    """How an artifact is run when it is timed. threads: the device's, unless its policy has its own."""
    chosen = artifact.policy.threads or threads
    return ArtifactRun(artifact.path, artifact.runtime, chosen, artifact.input_shape, artifact.session)


def _timings(artifacts: list[Artifact], shop: Workshop, threads: int) -> dict[str, Interleaved]:
    shop.progress.stage("Measuring latency, taking turns")
    fp32 = next((artifact for artifact in artifacts if artifact.name == FP32), None)
    if fp32 and fp32.exported and fp32.rewrites:  # what the rewrites bought
        artifacts = [*artifacts, replace(fp32, name=EXPORTED, path=fp32.exported)]
    runs = {artifact.name: run_of(artifact, threads) for artifact in artifacts}
    seconds = min(MIN_SECONDS, TURNS_SECONDS / max(1, len(runs)))
    return measure_interleaved(runs, min_seconds=seconds, on_round=lambda done: shop.progress.update(done, 0))


def _estimates(artifacts: list[Artifact], shop: Workshop) -> dict[str, CostEstimate]:
    """What each costs on the device's core, as far as that core is known and the runtime is the one it was made for."""
    core = costs_for(shop.device)
    if core is None:
        return {}
    shop.progress.stage(f"Estimating the cost on {core.name}")
    return {artifact.name: cost_of(artifact.path, core) for artifact in artifacts if artifact.runtime == "onnxruntime"}


def _candidate(
    artifact: Artifact, scores: dict[str, Score], timings: dict[str, Interleaved], estimates: dict[str, CostEstimate]
) -> Candidate:
    timing = timings.get(artifact.name)
    failed = artifact.failed or (timing.failed if timing else None)
    timed = timing if timing and not timing.failed else None
    mine = scores.get(artifact.name)
    return Candidate(
        name=artifact.name,
        precision=artifact.precision,
        runtime=artifact.runtime,
        policy=artifact.policy,
        rewrites=artifact.rewrites,
        int8=artifact.int8,
        remarks=artifact.remarks,
        vs_exported=speedup(timings.get(EXPORTED), timed),
        estimate=estimates.get(artifact.name),
        size_mib=artifact.path.stat().st_size / MIB if artifact.path.exists() else 0.0,
        latency_ms=Latency(**summarize(timed.samples_ms)) if timed else None,
        samples_ms=timed.samples_ms if timed else (),
        runs_by_round=tuple(map(len, timed.blocks)) if timed else (),
        vs_fp32=None if artifact.name == FP32 else speedup(timings.get(FP32), timed),
        accuracy=mine.accuracy if mine else None,
        drop=mine.drop if mine else None,
        parity=artifact.parity,
        failed=failed,
    )


def speedup(reference: Interleaved | None, timed: Interleaved | None) -> LatencyRatio | None:
    """None where one has no figures, or a single round: a very slow model's, which gives no interval."""
    if not reference or reference.failed or not timed or len(timed.blocks) < 2:
        return None
    return ratio(reference.blocks, timed.blocks)
