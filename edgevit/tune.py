"""Tune: from a workbench to the front of a measured search, its chosen point on untouched pictures, and a bundle."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgevit import __version__
from edgevit.accuracy import paired_drop, share_correct
from edgevit.artifact import BundleAccuracy
from edgevit.board.sensors import describe_machine
from edgevit.errors import BadFileError, BudgetError, InputError
from edgevit.policy import Policy
from edgevit.progress import Progress
from edgevit.recipe import Budget
from edgevit.report.front import render_front
from edgevit.results import Accuracy, AccuracyDrop, Machine, Verdict
from edgevit.search.describe import describe
from edgevit.search.front import choose_point, pareto_front
from edgevit.search.records import read_trials
from edgevit.search.space import Schedule, SearchSpace
from edgevit.search.study import opened_study, require_reachable
from edgevit.search.trials import Trial, TuneResult, canonical
from edgevit.search.verdict import chosen_sentences, rejected_words, search_sentences
from edgevit.search.workbench import MS, Workbench
from edgevit.search.worker import Limits, Search, run_search
from edgevit.store import free_name, write_json, write_text

RESULT, PAGE, DATABASE = "tune.json", "report.html", "study.db"
VERSIONED = ("numpy", "onnx", "onnxruntime", "optuna", "scikit-learn", "timm", "torch")


class TuneBench(Workbench, Protocol):
    """A Workbench that can also prove a policy and hand it over."""

    def confirmed(self, policy: Policy) -> NDArray[np.bool_]:
        """Of each held-out picture that no trial was judged by, maybe none: True where it was classified correctly."""

    def tested(self, policy: Policy) -> NDArray[np.bool_]:
        """Of every picture of the third set, which the search never sees: True where it was classified correctly."""

    def write_bundle(self, policy: Policy, target: Path, verdict: Verdict, accuracy: BundleAccuracy) -> None:
        """The policy's artifact as a bundle. Raises InputError when `target` exists."""


@dataclass(frozen=True)
class Job:
    """What is tuned for what. `identity`: whatever else two searches must share to be one: data, weights, seed."""

    model: str
    device: str
    identity: Mapping[str, Any]
    space: SearchSpace
    budget: Budget
    limits: Limits
    seed: int = 0


def tune(
    bench: TuneBench, job: Job, schedule: Schedule, out: Path, storage: str | None, pick: int | None, progress: Progress
) -> TuneResult:
    """Searches, chooses, tests, and writes tune.json, report.html and a bundle into `out`; a search in it goes on.

    storage: a database's URL; None: a file in `out`. pick: the point of the front to bundle instead of the chosen one.
    Raises BudgetError when no point meets the budget (the front is written all the same, without a bundle), InputError
    for limits that cannot be checked or a folder that cannot be used, EdgevitError when no trial was completed.
    """
    require_sound(job.budget, bench.unit)
    database = require_usable(out, storage)
    identity = {"model": job.model, "device": job.device, "space": job.space.model_dump(mode="json"), **job.identity}
    name = f"{job.model} on {job.device}"
    search = Search(bench, job.space, schedule, job.budget, job.limits, progress, job.seed)
    with opened_study(database, name, identity) as study:
        try:
            trials = run_search(study, search)
        except KeyboardInterrupt:
            _write(out, _found(bench, job, read_trials(study), search.reference))
            raise
    front, result = pareto_front(trials), _found(bench, job, trials, search.reference)
    _write(out, result)  # whatever becomes of the choice
    try:
        point, rejected = choose_confirmed(bench, front, job.budget, pick, search.reference, progress)
    except BudgetError as error:
        _write(out, result.model_copy(update={"verdict": _with(result.verdict, str(error))}))
        raise
    if rejected:
        result = result.model_copy(update={"verdict": _with(result.verdict, rejected_words(rejected, job.budget))})
    result = _proved(bench, result, point, search.reference, out, progress)
    _write(out, result)
    return result


def require_usable(out: Path, storage: str | None) -> str:
    """The URL of the study's database, a file in `out` by default; `out` is made when it is not there.

    Raises BadFileError for a folder that cannot be made, InputError for a database that cannot be reached.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFileError(out, f"cannot be made: {error.strerror}.", fix="Choose another folder with -o.") from None
    database = storage or f"sqlite:///{(out / DATABASE).resolve()}"
    require_reachable(database)
    return database


def choose_confirmed(
    bench: TuneBench, front: Sequence[Trial], budget: Budget, pick: int | None, reference: Policy, progress: Progress
) -> tuple[Trial, tuple[tuple[Trial, AccuracyDrop], ...]]:
    """(the chosen point, faster ones that further held-out pictures spoke against, with their drops on these).

    Of many trials the luckiest looks best on the pictures that chose it; so each is asked again on others.
    Raises as choose_point, also when no point is confirmed.
    """
    left, rejected = list(front), list[tuple[Trial, AccuracyDrop]]()
    while True:
        point = choose_point(left, budget, pick, bench.unit)
        if pick is not None or budget.max_drop is None or canonical(point.policy) == canonical(reference):
            return point, tuple(rejected)
        progress.stage("Confirming the choice on further held-out pictures")
        fp32, ours = bench.confirmed(reference), bench.confirmed(point.policy)
        if not len(fp32) or (drop := paired_drop(fp32, ours)).points <= budget.max_drop:
            return point, tuple(rejected)
        rejected.append((point, drop))
        left.remove(point)
        if not left:
            raise BudgetError(f"No point of the front is within the budget: {rejected_words(rejected, budget)}")


def require_sound(budget: Budget, unit: str) -> None:
    """Raises InputError for limits that a search with this unit cannot check."""
    if budget.max_latency_ms is not None and unit != MS:
        raise InputError(
            f"--max-latency-ms {budget.max_latency_ms:g} cannot be checked: the target is not measured here, "
            f"and {unit} stand in. Leave it out, or tune on the board itself."
        )
    if budget.max_size_mib is not None:
        raise InputError("A search has no limit of size: choose a point of its front with --pick N.")


def _proved(
    bench: TuneBench, result: TuneResult, point: Trial, reference: Policy, out: Path, progress: Progress
) -> TuneResult:
    """The result with its point judged on the third set and bundled."""
    progress.stage("Judging the chosen point on pictures that no trial saw")
    fp32 = bench.tested(reference)
    ours = fp32 if canonical(point.policy) == canonical(reference) else bench.tested(point.policy)
    fp32_test, chosen_test, drop = share_correct(fp32), share_correct(ours), paired_drop(fp32, ours)
    verdict = _verdict(result, point, chosen_test, drop)
    progress.stage("Writing the bundle")
    # A trial keeps its number, whatever the front does when the search goes on. What an earlier choice wrote stays.
    bundle = out / free_name(out, f"bundle-{point.number}")
    note = "Measured on pictures that no trial of the search saw."
    accuracy = BundleAccuracy(fp32=fp32_test, artifact=chosen_test, drop=drop, note=note)
    bench.write_bundle(point.policy, bundle, verdict, accuracy)
    return result.model_copy(
        update={
            "chosen": point.number,
            "fp32_test": fp32_test,
            "chosen_test": chosen_test,
            "test_drop": drop,
            "bundle": str(bundle),
            "verdict": verdict,
        }
    )


def _verdict(result: TuneResult, point: Trial, test: Accuracy, drop: AccuracyDrop) -> Verdict:
    fp32 = None if result.fp32 is None else result.trial(result.fp32)
    budget = result.verdict.budget
    latency, searched_drop = point.figures
    is_accurate = budget.max_drop is None or max(searched_drop, drop.points) <= budget.max_drop
    is_fast = budget.max_latency_ms is None or latency <= budget.max_latency_ms
    return Verdict(
        shipped=describe(point.policy),
        budget=budget,
        within_budget=is_accurate and is_fast,
        sentences=(*chosen_sentences(point, fp32, test, drop, budget, result.unit), *result.verdict.sentences),
    )


def _found(bench: TuneBench, job: Job, trials: tuple[Trial, ...], reference: Policy) -> TuneResult:
    """What the search found, before anything is chosen."""
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
        fp32=next((t.number for t in trials if t.cost and canonical(t.policy) == canonical(reference)), None),
        verdict=Verdict(shipped="", budget=job.budget, within_budget=False, sentences=search_sentences(trials)),
        versions=_versions(),
    )


def _with(verdict: Verdict, sentence: str) -> Verdict:
    return verdict.model_copy(update={"sentences": (sentence, *verdict.sentences)})


def _write(out: Path, result: TuneResult) -> None:
    write_json(out / RESULT, result)
    write_text(out / PAGE, render_front(result))


def _versions() -> dict[str, str]:
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    return {package: importlib.metadata.version(package) for package in VERSIONED if package in installed}
