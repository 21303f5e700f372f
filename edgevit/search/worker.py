"""Worker: the search itself. Any number of them share one study, on one machine or on many."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna

from edgevit.errors import EdgevitError
from edgevit.progress import Progress
from edgevit.recipe import Budget
from edgevit.search.claims import claim
from edgevit.search.examiner import Examiner
from edgevit.search.front import complete, cost_words
from edgevit.search.halving import Verdicts, cannot_win, drop_by_halving
from edgevit.search.predictor import is_hopeless, predict_cost
from edgevit.search.records import keep, read_trials, trial_of
from edgevit.search.sampler import FrontSampler
from edgevit.search.seeds import Seed, seeds
from edgevit.search.space import Schedule, policy_of
from edgevit.search.trials import Outcome, Trial, Variant
from edgevit.search.variants import Spaces, encoded, suggest
from edgevit.units import format_seconds

# After so many proposals in a row that cost nothing, the next are drawn at random; after so many more, all is tried.
STUCK = 20
EXHAUSTED = 200
SEED = "seed"
BEST = "most accurate"


@dataclass(frozen=True)
class Limits:
    """trials: that were run, in the whole study, by all workers. minutes: of this worker's time; None: no end."""

    trials: int
    minutes: float | None = None


@dataclass(frozen=True)
class Search:
    """What one worker needs. benches, spaces: by the model's name, '' where there is only one. best: the model whose
    fp32 drops are counted from, on the same pictures.
    """

    benches: Mapping[str, Examiner]
    spaces: Spaces
    schedule: Schedule
    budget: Budget
    limits: Limits
    progress: Progress
    best: str = ""
    seed: int = 0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @property
    def reference(self) -> Variant:
        return reference_of(self.best, self.spaces, self.schedule)

    @property
    def unit(self) -> str:
        return self.benches[self.best].unit

    @functools.cached_property
    def seeds(self) -> tuple[Seed, ...]:
        return seeds(self.spaces, self.schedule)

    @functools.cached_property
    def reference_verdicts(self) -> Verdicts:
        """Of fp32, asked for once each: every trial is compared with them."""
        return functools.cache(functools.partial(self.benches[self.best].correct, self.reference.policy))


def reference_of(model: str, spaces: Spaces, schedule: Schedule) -> Variant:
    """fp32 of the model as it came, by the exact rewrites of its first runtime."""
    return Variant(model, policy_of({}, spaces[model], schedule))


def most_accurate(
    study: optuna.Study, benches: Mapping[str, Examiner], spaces: Spaces, schedule: Schedule, progress: Progress
) -> str:
    """The model whose fp32 is right most often on the search's pictures, of equal ones the first; kept in the study.

    Raises EdgevitError when fp32 of a model cannot be built.
    """
    if len(spaces) == 1:
        return next(iter(spaces))
    if BEST not in study.user_attrs:
        hits = {}
        for model, bench in benches.items():
            progress.stage(f"Accuracy of {model} in fp32")
            try:
                verdicts = bench.correct(reference_of(model, spaces, schedule).policy, 0, bench.pictures)
            except EdgevitError as error:
                error.args = (f"{model}: {error}",)
                raise
            hits[model] = int(verdicts.sum())
        study.set_user_attr(BEST, max(hits, key=hits.__getitem__))
    return str(study.user_attrs[BEST])


def run_search(study: optuna.Study, search: Search) -> tuple[Trial, ...]:
    """All trials of the study when `limits` are reached, or when nothing new is left to try.

    What a trial's EdgevitError says is kept in its record, and the search goes on. Ctrl-C loses the running trial only.
    """
    *_, trials = searching(study, search)
    return trials


def searching(study: optuna.Study, search: Search) -> Iterator[tuple[Trial, ...]]:
    """All trials of the study so far: as it was found, and after each further one. Ends as run_search."""
    search.progress.stage("Searching")
    start, own, idle, is_anchored = search.clock(), 0, 0, False
    yield (trials := read_trials(study))
    while not _is_over(trials, search, start) and idle < STUCK + EXHAUSTED:
        _show(trials, search, own, start)
        is_anchored = is_anchored or anchor(trials, search.benches, search.reference)
        _enqueue_seeds(study, search)
        was_run = _next_trial(study, search, is_stuck=idle >= STUCK).was_run
        own, idle = own + was_run, 0 if was_run else idle + 1
        yield (trials := read_trials(study))
    if idle >= STUCK + EXHAUSTED:
        search.progress.note("Everything in the search space was tried, or is not worth trying.")


def anchor(trials: Sequence[Trial], benches: Mapping[str, Examiner], reference: Variant) -> bool:
    """Has latencies taken in turns with fp32's, as soon as some trial has measured that; whether one has."""
    cost = next((trial.cost for trial in trials if trial.cost and trial.variant.key == reference.key), None)
    if cost:
        benches[reference.model].anchor(reference.policy, cost)
    return cost is not None


def require_success(trials: Sequence[Trial]) -> None:
    """Raises EdgevitError when every trial that was run has failed."""
    failed = [trial.reason for trial in trials if trial.outcome == "failed"]
    if failed and not any(trial.outcome in ("complete", "partial") for trial in trials):
        reason, count = Counter(failed).most_common(1)[0]
        raise EdgevitError(f"Not one of {len(failed)} trials could be run. {count} of them: {reason}")


def _next_trial(study: optuna.Study, search: Search, is_stuck: bool) -> Trial:
    study.sampler = FrontSampler(search.spaces, search.schedule, search.budget.max_drop, search.seed, is_stuck)
    ended: list[Trial] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        record = _evaluate(trial, search)
        keep(trial, record)
        ended.append(record)
        if record.cost is None or record.drop is None:
            raise optuna.TrialPruned(record.reason)
        return record.cost, record.drop.points

    study.optimize(objective, n_trials=1)  # not ask() and tell(): only this one sends heartbeats
    return ended[0]


def _evaluate(trial: optuna.Trial, search: Search) -> Trial:
    start = search.clock()
    variant = suggest(trial, search.spaces, search.schedule)
    bench, policy = search.benches[variant.model], variant.policy
    figures: dict[str, Any] = {}

    def ended(outcome: Outcome, reason: str = "") -> Trial:
        seconds = search.clock() - start
        kept = {"model": variant.model, "policy": policy, "seconds": seconds, **figures}
        return Trial(number=trial.number, outcome=outcome, reason=reason, **kept)

    other = claim(trial, "policy", variant.key)
    if other is not None:
        return ended("duplicate", f"Trial {other} has the same policy.")
    known = read_trials(trial.study)
    rivals = complete(known)
    figures["predicted"] = prediction = predict_cost(variant, known)
    if prediction and is_hopeless(prediction, rivals, search.budget.max_drop):
        return ended("skipped", f"It would take about {cost_words(prediction.cost, search.unit)}.")
    try:
        figures["artifact"] = bench.build(policy)
        other = claim(trial, "artifact", _identity(figures["artifact"], variant))
        if other is not None:
            return ended("duplicate", f"Trial {other} has the same artifact.")
        latency = figures["cost"] = bench.cost(policy)
        figures["drop"], is_whole = drop_by_halving(
            functools.partial(bench.correct, policy),
            search.reference_verdicts,
            bench.pictures,
            lambda drop: cannot_win(drop, latency, search.budget.max_drop, rivals),
        )
    except EdgevitError as error:
        return ended("failed", str(error))
    if not is_whole:
        return ended("partial", f"Stopped after {figures['drop'].n:,} pictures: too inaccurate, and not the fastest.")
    return ended("complete")


def _identity(artifact: str, variant: Variant) -> str:
    """The file and how it is run: two variants that agree in it cannot differ in anything that is measured."""
    policy = variant.policy
    return json.dumps([variant.model, artifact, policy.runtime, policy.session, policy.threads], sort_keys=True)


def _enqueue_seeds(study: optuna.Study, search: Search) -> None:
    """Asks for the seeds that are neither done nor under way; one whose worker was killed is asked for again."""
    present = set()
    for frozen in study.get_trials(deepcopy=False):
        record = trial_of(frozen)
        if record:
            present.add(record.variant.key)
        elif not frozen.state.is_finished():
            present.add(frozen.user_attrs.get(SEED, ""))
    for variant, parameters in search.seeds:
        if variant.key not in present:
            values = encoded(variant.model, parameters, search.spaces)
            study.enqueue_trial(values, user_attrs={SEED: variant.key})


def _is_over(trials: Sequence[Trial], search: Search, start: float) -> bool:
    minutes = (search.clock() - start) / 60
    done = sum(trial.was_run for trial in trials)
    return done >= search.limits.trials or (search.limits.minutes is not None and minutes >= search.limits.minutes)


def _show(trials: Sequence[Trial], search: Search, own: int, start: float) -> None:
    """How many trials were run, how long the rest will take, and how fast the best one is."""
    done = sum(trial.was_run for trial in trials)
    words = []
    elapsed = search.clock() - start
    if own:
        left = elapsed / own * (search.limits.trials - done)
        if search.limits.minutes is not None:
            left = min(left, 60 * search.limits.minutes - elapsed)
        words.append(f"about {format_seconds(max(0.0, left))} left")
    limit = search.budget.max_drop
    fitting = [latency for latency, drop in (t.figures for t in complete(trials)) if limit is None or drop <= limit]
    if fitting:
        words.append(f"best {cost_words(min(fitting), search.unit)}")
    search.progress.update(done, search.limits.trials, ", ".join(words))
