"""Tune: from workbenches to the front of a measured search, its chosen point on untouched pictures, and a bundle."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from edgevit import __version__
from edgevit.accuracy import paired_drop, share_correct
from edgevit.artifact import BundleAccuracy
from edgevit.benchreport import Machine
from edgevit.board.sensors import describe_machine
from edgevit.errors import BadFileError, BudgetError, EdgevitError, InputError
from edgevit.extras import installed_versions
from edgevit.policy import Policy
from edgevit.progress import Progress
from edgevit.recipe import Budget
from edgevit.report.front import render_front
from edgevit.results import Verdict
from edgevit.search.choice import Confirming, choose_confirmed
from edgevit.search.examiner import MS, Prover
from edgevit.search.front import pareto_front
from edgevit.search.space import Schedule, SearchSpace
from edgevit.search.study import SPACES, opened_study, require_reachable, stored_spaces
from edgevit.search.trials import Trial, TuneResult, Variant
from edgevit.search.variants import Spaces
from edgevit.search.verdict import reference_sentences, rejected_words, search_sentences, verdict_of
from edgevit.search.worker import Limits, Search, most_accurate, reference_of, require_success, searching
from edgevit.store import free_name, write_json, write_text

RESULT, PAGE, DATABASE = "tune.json", "report.html", "study.db"
VERSIONED = ("numpy", "onnx", "onnxruntime", "optuna", "scikit-learn", "timm", "torch")


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


def tune(
    benches: Benches,
    spaces: Spaces,
    job: Job,
    schedule: Schedule,
    out: Path,
    storage: str | None,
    pick: int | None,
    progress: Progress,
) -> TuneResult:
    """Searches, chooses, tests, and writes tune.json, report.html and a bundle into `out`; a search in it goes on.

    storage: a database's URL; None: a file in `out`. pick: the point of the front to bundle instead of the chosen one.
    What an earlier call asked about the same points is not asked again.
    Raises BudgetError when no point meets the budget (the front is written all the same, without a bundle), InputError
    for limits that cannot be checked or a folder that cannot be used, EdgevitError when no trial was completed.
    """
    require_sound(job.budget, next(iter(benches.values())).unit)
    database, earlier = require_usable(out, storage), _earlier(out)
    _require_same_search(out, earlier, job)
    best, trials = next(iter(benches)), tuple[Trial, ...]()
    try:
        for step in _searched(benches, spaces, job, schedule, database, progress):
            best, trials = step
            _keep_front(benches, trials)
    except (KeyboardInterrupt, EdgevitError):
        if trials:
            result = _found(benches[best], job, trials, reference_of(best, spaces, schedule), earlier)
            _write(out, _as_chosen_before(result, earlier, out))
        raise
    if not trials:
        raise InputError(f"{out}: no trial was run there yet, so there is no point to pick. Leave --pick out at first.")
    require_success(trials)
    reference = reference_of(best, spaces, schedule)
    result = _found(benches[best], job, trials, reference, earlier)
    _write(out, _as_chosen_before(result, earlier, out))  # whatever becomes of the choice
    confirming = Confirming(benches, reference, dict(result.confirmed), progress)
    try:
        point, rejected = choose_confirmed(pareto_front(trials), job.budget, pick, result.unit, confirming)
    except BudgetError as error:
        verdict = _with(result.verdict, str(error)).model_copy(update={"within_budget": False})
        _write(out, _changed(result, confirmed=confirming.drops, verdict=verdict))
        raise
    result = _changed(result, confirmed=confirming.drops)
    if rejected:
        result = _changed(result, verdict=_with(result.verdict, rejected_words(rejected, job.budget)))
    result = _proved_before(result, point, earlier, out) or _proved(benches, result, point, reference, out, progress)
    _write(out, result)
    return result


def known_spaces(database: str, job: Job) -> dict[str, SearchSpace] | None:
    """What an earlier search for the same searched in, by model; None where there was none."""
    stored = stored_spaces(database, job.study, job.searched)
    try:
        return stored and {model: SearchSpace.model_validate(space) for model, space in stored.items()}
    except ValidationError:  # another edgevit's: opened_study says that it is another search
        return None


def require_usable(out: Path, storage: str | None) -> str:
    """The URL of the study's database, a file in `out` by default; `out` is made when it is not there.

    Raises BadFileError for a folder that cannot be made, InputError for a database that cannot be reached.
    """
    if storage:
        require_reachable(storage)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFileError(out, f"cannot be made: {error.strerror}.", fix="Choose another folder with -o.") from None
    if storage:
        return storage
    database = f"sqlite:///{(out / DATABASE).resolve()}"
    require_reachable(database)
    return database


def require_sound(budget: Budget, unit: str) -> None:
    """Raises InputError for limits that a search with this unit cannot check."""
    if budget.max_latency_ms is not None and unit != MS:
        raise InputError(
            f"--max-latency-ms {budget.max_latency_ms:g} cannot be checked: the target is not measured here, "
            f"and {unit} stand in. Leave it out, or tune on the board itself."
        )
    if budget.max_size_mib is not None:
        raise InputError("A search has no limit of size: choose a point of its front with --pick N.")


def _searched(
    benches: Benches, spaces: Spaces, job: Job, schedule: Schedule, database: str, progress: Progress
) -> Iterator[tuple[str, tuple[Trial, ...]]]:
    """(the model that drops are counted from, all trials so far), as it was found and after each further trial."""
    identity = {**job.searched, SPACES: {model: space.model_dump(mode="json") for model, space in spaces.items()}}
    with opened_study(database, job.study, identity) as study:
        best = most_accurate(study, benches, spaces, schedule, progress)
        search = Search(benches, spaces, schedule, job.budget, job.limits, progress, best, job.seed)
        for trials in searching(study, search):
            yield best, trials


def _keep_front(benches: Benches, trials: Sequence[Trial]) -> None:
    """What lost is deleted at once: a search goes through gigabytes."""
    front = pareto_front(trials)
    for model, bench in benches.items():
        bench.keep([trial.policy for trial in front if trial.model == model])


def _require_same_search(out: Path, earlier: TuneResult | None, job: Job) -> None:
    """Raises InputError where the folder holds the result of a search for something else, which would be lost."""
    if earlier is not None and (earlier.model, earlier.device) != (job.model, job.device):
        raise InputError(
            f"{out}: holds a search of {earlier.model} on {earlier.device}, and this one is of {job.model} on "
            f"{job.device}. Choose another folder with -o."
        )


def _as_chosen_before(result: TuneResult, earlier: TuneResult | None, out: Path) -> TuneResult:
    """The result with an earlier call's choice, as long as nothing else is chosen and its point is still the same."""
    point = next((trial for trial in result.trials if earlier and trial.number == earlier.chosen), None)
    return (point and _proved_before(result, point, earlier, out)) or result


def _proved_before(result: TuneResult, point: Trial, earlier: TuneResult | None, out: Path) -> TuneResult | None:
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
    return _changed(
        result,
        chosen=point.number,
        fp32_test=earlier.fp32_test,
        chosen_test=earlier.chosen_test,
        test_drop=earlier.test_drop,
        bundle=str(bundle),
        verdict=verdict_of(result, point, earlier.chosen_test, earlier.test_drop),
    )


def _proved(
    benches: Benches, result: TuneResult, point: Trial, reference: Variant, out: Path, progress: Progress
) -> TuneResult:
    """The result with its point judged on the third set and bundled."""
    progress.stage("Judging the chosen point on pictures that no trial saw")
    fp32 = benches[reference.model].tested(reference.policy)
    bench = benches[point.model]
    ours = fp32 if point.variant.key == reference.key else bench.tested(point.policy)
    fp32_test, chosen_test, drop = share_correct(fp32), share_correct(ours), paired_drop(fp32, ours)
    verdict = verdict_of(result, point, chosen_test, drop)
    progress.stage("Writing the bundle")
    # A trial keeps its number, whatever the front does when the search goes on. What an earlier choice wrote stays.
    bundle = out / free_name(out, f"bundle-{point.number}")
    note = "Measured on pictures that no trial of the search saw."
    accuracy = BundleAccuracy(fp32=fp32_test, artifact=chosen_test, drop=drop, note=note)
    bench.write_bundle(point.policy, bundle, verdict, accuracy)
    return _changed(
        result,
        chosen=point.number,
        fp32_test=fp32_test,
        chosen_test=chosen_test,
        test_drop=drop,
        bundle=str(bundle),
        verdict=verdict,
    )


def _found(
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


def _earlier(out: Path) -> TuneResult | None:
    """What an earlier call wrote into the folder; None when there is nothing, or nothing of this form."""
    try:
        return TuneResult.model_validate_json((out / RESULT).read_bytes())
    except (OSError, ValidationError):
        return None


def _changed(result: TuneResult, **fields: object) -> TuneResult:
    return result.model_copy(update=fields)


def _with(verdict: Verdict, sentence: str) -> Verdict:
    return verdict.model_copy(update={"sentences": (sentence, *verdict.sentences)})


def _write(out: Path, result: TuneResult) -> None:
    write_json(out / RESULT, result)
    write_text(out / PAGE, render_front(result))
