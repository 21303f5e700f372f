from __future__ import annotations

import dataclasses

import optuna
import pytest
from arithmetic_bench import SPACE, ArithmeticBench, constant_schedule
from search_process import SMALL_SPACE

from edgevit.errors import EdgevitError
from edgevit.policy import Policy
from edgevit.progress import Silence
from edgevit.recipe import Budget
from edgevit.search.front import complete, pareto_front
from edgevit.search.space import SearchSpace, policy_of
from edgevit.search.trials import Trial, canonical
from edgevit.search.worker import Limits, Search, require_success, run_search, searching


@pytest.fixture
def study() -> optuna.Study:
    return _study()


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    return optuna.create_study(directions=["minimize", "minimize"])


def _search(bench: ArithmeticBench, trials: int = 30, space: SearchSpace = SPACE, **fields) -> Search:
    chosen = {"limits": Limits(trials), "progress": Silence(), **fields}
    return Search({"": bench}, {"": space}, constant_schedule, Budget(max_drop=1.0), **chosen)


def test_the_same_seed_finds_the_same_and_another_one_does_not(study):
    def policies(seed: int) -> list[str]:
        trials = run_search(_study(), _search(ArithmeticBench(pictures=400), 26, seed=seed))
        return [canonical(trial.policy) for trial in trials]

    assert policies(1) == policies(1)
    assert policies(1) != policies(2)


def test_a_small_space_is_searched_to_its_end_and_nothing_is_built_twice(study):
    bench = ArithmeticBench(pictures=200)
    notes: list[str] = []
    progress = Silence()
    progress.note = notes.append  # type: ignore[method-assign]
    trials = run_search(study, _search(bench, 100, SMALL_SPACE, progress=progress))
    assert len(bench.built) == len(set(bench.built))
    skipped = {canonical(trial.policy) for trial in trials if trial.outcome == "skipped"}
    assert len(set(bench.built) | skipped) == 2 * 3 * 2 * 2  # sizes, linear, convolutions, attention
    assert notes == ["Everything in the search space was tried, or is not worth trying."]


def test_a_policy_that_fails_is_recorded_and_the_search_goes_on(study):
    trials = run_search(study, _search(ArithmeticBench(failing="int8-static"), 12))
    failed = [trial for trial in trials if trial.outcome == "failed"]
    assert failed
    assert {trial.reason for trial in failed} == {"No kernel for int8-static."}
    assert all(trial.cost is None for trial in failed)
    assert complete(trials)
    assert sum(trial.was_run for trial in trials) == 12


def test_when_every_trial_fails_the_most_common_reason_is_the_error(study):
    trials = run_search(study, _search(ArithmeticBench(failing="linear"), 5))
    with pytest.raises(EdgevitError, match=r"Not one of 5 trials could be run\. 5 of them: No kernel for linear\."):
        require_success(trials)


def test_policies_that_give_the_same_file_are_measured_once(study):
    class OneFile(ArithmeticBench):
        def build(self, policy: Policy) -> str:
            super().build(policy)
            return "same"

    trials = run_search(study, _search(OneFile(pictures=200), 1, SMALL_SPACE))
    trials = run_search(study, _search(OneFile(pictures=200), 2, SMALL_SPACE))
    assert [trial.outcome for trial in trials].count("complete") == 1
    repeated = next(trial for trial in trials if trial.outcome == "duplicate" and trial.artifact)
    assert repeated.reason == "Trial 0 has the same artifact."


def test_hopeless_trials_see_fewer_pictures_and_are_never_on_the_front(study):
    bench = ArithmeticBench(pictures=4000)
    search = dataclasses.replace(_search(bench, 40), budget=Budget(max_drop=0.2))
    trials = run_search(study, search)
    partial = [trial for trial in trials if trial.outcome == "partial"]
    assert partial
    for trial in partial:
        assert trial.drop is not None
        assert trial.drop.n < 4000
        assert trial.drop.ci95[0] > 0.2
    assert not {trial.number for trial in partial} & {trial.number for trial in pareto_front(trials)}
    assert bench.seen < 4000 * (1 + len(complete(trials)) + len(partial))


def test_a_trial_is_predicted_only_after_eight_and_with_its_error(study):
    trials = run_search(study, _search(ArithmeticBench(), 30))
    first = next(trial for trial in trials if trial.predicted)
    assert first.number >= 8
    for trial in trials:
        if trial.outcome == "skipped":
            assert trial.cost is None
            assert trial.predicted is not None
            assert trial.predicted.relative_error >= 0


def test_trials_of_the_whole_study_count_and_a_finished_one_costs_nothing(study):
    bench = ArithmeticBench()
    first = run_search(study, _search(bench, 6))
    built = len(bench.built)
    assert run_search(study, _search(bench, 6)) == first
    assert len(bench.built) == built
    assert len(run_search(study, _search(bench, 8))) == 8


def test_minutes_end_the_search(study):
    ticks = iter(range(0, 10_000, 10))  # each look at the clock is 10 s later
    trials = run_search(study, _search(ArithmeticBench(), 60, limits=Limits(60, minutes=3), clock=lambda: next(ticks)))
    assert 1 <= len(trials) < 10


def test_an_interrupted_search_keeps_what_it_had(study):
    class Interrupted(ArithmeticBench):
        def cost(self, policy: Policy) -> float:
            if len(self.built) == 4:
                raise KeyboardInterrupt
            return super().cost(policy)

    with pytest.raises(KeyboardInterrupt):
        run_search(study, _search(Interrupted(), 20))
    trials = run_search(study, _search(ArithmeticBench(), 20))  # as many as there are seeds
    assert [trial.outcome for trial in trials[:3]] == ["complete"] * 3
    lost = policy_of({"linear": "int8-dynamic", "conv": "int8-static"}, SPACE, constant_schedule)
    assert lost in [trial.policy for trial in trials if trial.was_run]  # the fourth seed


def test_progress_says_how_long_it_takes_and_what_is_best(study):
    updates: list[tuple[int, int, str]] = []
    progress = Silence()
    progress.update = lambda done, total, detail="": updates.append((done, total, detail))  # type: ignore[method-assign]
    ticks = iter(range(100_000))
    run_search(study, _search(ArithmeticBench(), 5, progress=progress, clock=lambda: next(ticks)))
    assert [update[:2] for update in updates] == [(done, 5) for done in range(5)]
    assert updates[0][2] == ""
    assert "left, best 1" in updates[-1][2]


def test_a_search_keeps_its_records_as_they_were(study):
    trials = run_search(study, _search(ArithmeticBench(), 3))
    assert [Trial.model_validate_json(trial.model_dump_json()) for trial in trials] == list(trials)


def test_what_is_found_is_handed_out_after_every_trial_first_of_all_what_was_known(study):
    run_search(study, _search(ArithmeticBench(), 3))
    counts = [len(trials) for trials in searching(study, _search(ArithmeticBench(), 6))]
    assert counts == [3, 4, 5, 6]
