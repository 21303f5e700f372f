"""Outcome: what a search found and what became of its choice, and the files that say so."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from edgevit import __version__
from edgevit.accuracy import paired_drop, share_correct
from edgevit.artifact import BundleAccuracy
from edgevit.benchreport import Machine
from edgevit.board.sensors import describe_machine
from edgevit.extras import installed_versions
from edgevit.policy import Policy
from edgevit.progress import Progress
from edgevit.recipe import Budget
from edgevit.report.front import render_front
from edgevit.results import LatencyRatio, Verdict
from edgevit.search.examiner import Prover
from edgevit.search.front import pareto_front
from edgevit.search.trials import Trial, TuneResult, Variant
from edgevit.search.verdict import reference_sentences, search_sentences, verdict_of
from edgevit.search.worker import Limits, anchor
from edgevit.store import free_name, write_json, write_text

RESULT, PAGE = "tune.json", "report.html"
VERSIONED = (
    "ai-edge-litert", "ai-edge-quantizer", "litert-torch", "numpy", "onnx", "onnxruntime", "openvino", "optuna",
    "scikit-learn", "timm", "torch",
)  # fmt: skip


class TuneBench(Prover, Protocol):
    """A Prover that can also hand a policy over."""

    def write_bundle(self, policy: Policy, target: Path, verdict: Verdict, accuracy: BundleAccuracy) -> None:
        """The policy's artifact as a bundle. Raises InputError when `target` exists."""

    def keep(self, policies: Sequence[Policy]) -> None:
        """Deletes what was made for any other policy; one that is asked for again is made again."""


Benches = Mapping[str, TuneBench]  # by the model's name, as Spaces


@dataclass(frozen=True)
class Job:
    """What is tuned for what. model: its name, or several. `identity`: whatever else two searches must share to be one,
    but for the spaces, which follow from it: data, weights, seed.
    """

    model: str
    device: str
    identity: Mapping[str, Any]
    budget: Budget
    limits: Limits
    seed: int = 0

    @property
    def study(self) -> str:
        """The name of its study."""
        return f"{self.model} on {self.device}"

    @property
    def searched(self) -> dict[str, Any]:
        """The study's identity without the spaces."""
        return {"model": self.model, "device": self.device, **self.identity}


def found(
    bench: Prover, job: Job, trials: tuple[Trial, ...], reference: Variant, earlier: TuneResult | None
) -> TuneResult:
    """What the search found, before anything is chosen, and what an earlier call confirmed of the same trials."""
    sentences = (*search_sentences(trials), *reference_sentences(reference))
    before = {trial.number: trial for trial in earlier.trials} if earlier else {}
    same = {trial.number for trial in trials if before.get(trial.number) == trial}
    return TuneResult(
        edgevit=__version__,
        model=job.model,
        device=job.device,
        machine=Machine(**describe_machine()),
        written=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        unit=bench.unit,
        pictures=bench.pictures,
        trials=trials,
        front=tuple(trial.number for trial in pareto_front(trials)),
        fp32=next((t.number for t in trials if t.cost and t.variant.key == reference.key), None),
        confirmed={number: drop for number, drop in earlier.confirmed.items() if number in same} if earlier else {},
        verdict=Verdict(shipped="", budget=job.budget, within_budget=None, sentences=sentences),
        versions=installed_versions(VERSIONED),
    )


def earlier_result(out: Path) -> TuneResult | None:
    """What an earlier call wrote into the folder; None when there is nothing, or nothing of this form."""
    try:
        return TuneResult.model_validate_json((out / RESULT).read_bytes())
    except (OSError, ValidationError):
        return None


def as_chosen_before(result: TuneResult, earlier: TuneResult | None, out: Path) -> TuneResult:
    """The result with an earlier call's choice, as long as nothing else is chosen and its point is still the same."""
    point = next((trial for trial in result.trials if earlier and trial.number == earlier.chosen), None)
    return (point and proved_before(result, point, earlier, out)) or result


def proved_before(result: TuneResult, point: Trial, earlier: TuneResult | None, out: Path) -> TuneResult | None:
    """The result with what an earlier call found out about this very point, whose bundle is still there."""
    if earlier is None or earlier.bundle is None or earlier.chosen != point.number:
        return None
    bundle = out / Path(earlier.bundle).name
    made_by = earlier.edgevit, earlier.versions, earlier.verdict.budget
    is_same = made_by == (result.edgevit, result.versions, result.verdict.budget)
    if not is_same or earlier.trial(point.number) != point or not bundle.is_dir():
        return None
    assert earlier.chosen_test is not None
    assert earlier.test_drop is not None
    return changed(
        result,
        chosen=point.number,
        speedup=earlier.speedup,
        fp32_test=earlier.fp32_test,
        chosen_test=earlier.chosen_test,
        test_drop=earlier.test_drop,
        bundle=str(bundle),
        verdict=verdict_of(result, point, earlier.chosen_test, earlier.test_drop, earlier.speedup),
    )


def proved(
    benches: Benches, result: TuneResult, point: Trial, reference: Variant, out: Path, progress: Progress
) -> TuneResult:
    """The result with its point judged on the third set, timed once more beside fp32, and bundled."""
    progress.stage("Judging the chosen point on pictures that no trial saw")
    fp32 = benches[reference.model].tested(reference.policy)
    bench = benches[point.model]
    ours = fp32 if point.variant.key == reference.key else bench.tested(point.policy)
    fp32_test, chosen_test, drop = share_correct(fp32), share_correct(ours), paired_drop(fp32, ours)
    speedup = (
        None if point.variant.key == reference.key else _speedup(benches, result.trials, point, reference, progress)
    )
    verdict = verdict_of(result, point, chosen_test, drop, speedup)
    progress.stage("Writing the bundle")
    # A trial keeps its number, whatever the front does when the search goes on. What an earlier choice wrote stays.
    bundle = out / free_name(out, f"bundle-{point.number}")
    note = "Measured on pictures that no trial of the search saw."
    accuracy = BundleAccuracy(fp32=fp32_test, artifact=chosen_test, drop=drop, note=note)
    bench.write_bundle(point.policy, bundle, verdict, accuracy)
    return changed(
        result,
        chosen=point.number,
        speedup=speedup,
        fp32_test=fp32_test,
        chosen_test=chosen_test,
        test_drop=drop,
        bundle=str(bundle),
        verdict=verdict,
    )


def _speedup(
    benches: Benches, trials: Sequence[Trial], point: Trial, reference: Variant, progress: Progress
) -> LatencyRatio | None:
    """Of many trials the luckiest measurement looks best, so the chosen one is measured again.

    None for fp32 itself, where that has no latency, and where nothing can be measured here.
    """
    if point.variant.key == reference.key:
        return None
    progress.stage("Measuring the chosen point once more, in turns with fp32")
    return benches[point.model].speedup(point.policy) if anchor(trials, benches, reference) else None


def changed(result: TuneResult, **fields: object) -> TuneResult:
    return result.model_copy(update=fields)


def with_sentence(verdict: Verdict, sentence: str) -> Verdict:
    return verdict.model_copy(update={"sentences": (sentence, *verdict.sentences)})


def write_result(out: Path, result: TuneResult) -> None:
    write_json(out / RESULT, result)
    write_text(out / PAGE, render_front(result))
