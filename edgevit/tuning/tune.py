"""Tune: from workbenches to the front of a measured search, its chosen point on untouched pictures, and a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from edgevit.errors import BadFileError, BudgetError, EdgevitError, InputError
from edgevit.progress import Progress
from edgevit.recipe import Budget
from edgevit.search.choice import Confirming, choose_confirmed
from edgevit.search.examiner import MS
from edgevit.search.front import pareto_front
from edgevit.search.space import Schedule, SearchSpace
from edgevit.search.study import SPACES, opened_study, require_reachable, stored_spaces, stored_trials
from edgevit.search.trials import Trial, TuneResult, Variant
from edgevit.search.variants import Spaces
from edgevit.search.verdict import rejected_words
from edgevit.search.worker import Search, most_accurate, reference_of, require_success, searching
from edgevit.store import locked
from edgevit.tuning.outcome import (
    Benches,
    Job,
    TuneBench,
    as_chosen_before,
    changed,
    earlier_result,
    found,
    proved,
    proved_before,
    with_sentence,
    write_result,
)

DATABASE = "study.db"


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
    database = require_usable(out, storage)
    _require_same_search(out, earlier_result(out), job)
    best, trials = next(iter(benches)), tuple[Trial, ...]()
    try:
        for step in _searched(benches, spaces, job, schedule, database, progress):
            best, trials = step
            _keep_front(benches, trials)
    except (KeyboardInterrupt, EdgevitError):
        if trials:
            with locked(out):
                _write_found(benches[best], job, trials, reference_of(best, spaces, schedule), out)
        raise
    if not trials:
        raise InputError(f"{out}: no trial was run there yet, so there is no point to pick. Leave --pick out at first.")
    require_success(trials)
    with locked(out, lambda: progress.stage("Waiting for another worker to write its choice")):
        trials = stored_trials(database, job.study)  # another worker may have ended one meanwhile
        return _concluded(benches, job, trials, reference_of(best, spaces, schedule), out, pick, progress)


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


def _concluded(
    benches: Benches,
    job: Job,
    trials: tuple[Trial, ...],
    reference: Variant,
    out: Path,
    pick: int | None,
    progress: Progress,
) -> TuneResult:
    """The written result of all trials, with its chosen point proved and bundled. Raises as tune."""
    result, earlier = _write_found(benches[reference.model], job, trials, reference, out)
    confirming = Confirming(benches, reference, dict(result.confirmed), progress)
    try:
        point, rejected = choose_confirmed(pareto_front(trials), job.budget, pick, result.unit, confirming)
    except BudgetError as error:
        verdict = with_sentence(result.verdict, str(error)).model_copy(update={"within_budget": False})
        write_result(out, changed(result, confirmed=confirming.drops, verdict=verdict))
        raise
    result = changed(result, confirmed=confirming.drops)
    if rejected:
        result = changed(result, verdict=with_sentence(result.verdict, rejected_words(rejected, job.budget)))
    result = proved_before(result, point, earlier, out) or proved(benches, result, point, reference, out, progress)
    write_result(out, result)
    return result


def _write_found(
    bench: TuneBench, job: Job, trials: tuple[Trial, ...], reference: Variant, out: Path
) -> tuple[TuneResult, TuneResult | None]:
    """Writes what was found before anything is chosen, with an earlier call's choice where it still stands.

    Returns the result without any choice, and that of the earlier call.
    """
    earlier = earlier_result(out)
    result = found(bench, job, trials, reference, earlier)
    write_result(out, as_chosen_before(result, earlier, out))
    return result, earlier


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
