"""tune, on an arithmetic bench: from nothing to a front, a chosen point, a page and a bundle."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from arithmetic_bench import FP32_TOP1, SPACE, ArithmeticBench, constant_schedule, exact_drop, exact_latency_ms
from sqlalchemy.exc import OperationalError

from edgevit import store
from edgevit.artifact import BundleAccuracy
from edgevit.errors import BadFileError, BudgetError, EdgevitError, InputError, ParityError
from edgevit.policy import Policy
from edgevit.progress import Silence
from edgevit.recipe import Budget
from edgevit.report.front import front_rows
from edgevit.results import LatencyRatio, Verdict
from edgevit.search import worker
from edgevit.search.front import pareto_front
from edgevit.search.records import keep
from edgevit.search.trials import Trial, TuneResult
from edgevit.search.worker import Limits
from edgevit.tuning import outcome
from edgevit.tuning.outcome import PAGE, RESULT, Job
from edgevit.tuning.tune import known_spaces, require_usable, tune

TRIALS = 12


class BundlingBench(ArithmeticBench):
    """flattery: points by which the third set is harder for every policy but fp32. doubt: by which the pictures that
    confirm a choice are; None: there are none.
    """

    def __init__(
        self, flattery: float = 0.0, unit: str = "ms", failing: str | None = None, doubt: float | None = None
    ) -> None:
        super().__init__(pictures=1000, failing=failing)
        self.unit, self.flattery, self.doubt = unit, flattery, doubt
        self.tested_policies: list[Policy] = []
        self.confirmed_policies: list[Policy] = []
        self.kept: list[list[Policy]] = []

    def speedup(self, policy: Policy) -> LatencyRatio | None:
        assert self.anchors, "speed is against a reference"
        gain = self.anchors[-1][1] / exact_latency_ms(policy)
        return LatencyRatio(ratio=gain, ci95=(0.9 * gain, 1.1 * gain)) if self.unit == "ms" else None

    def tested(self, policy: Policy) -> np.ndarray:
        self.tested_policies.append(policy)
        drop = exact_drop(policy)
        return np.arange(500) / 5 < FP32_TOP1 - drop - (self.flattery if drop else 0.0)

    def confirmed(self, policy: Policy) -> np.ndarray:
        self.confirmed_policies.append(policy)
        drop = exact_drop(policy)
        count = 0 if self.doubt is None else 1000
        return np.arange(count) / 10 < FP32_TOP1 - drop - ((self.doubt or 0.0) if drop else 0.0)

    def keep(self, policies: Sequence[Policy]) -> None:
        self.kept.append(list(policies))

    def write_bundle(self, policy: Policy, target: Path, verdict: Verdict, accuracy: BundleAccuracy) -> None:
        target.mkdir()
        (target / "manifest.json").write_text(
            json.dumps({"policy": policy.model_dump(), "ships": verdict.shipped, "top1": accuracy.artifact.top1})
        )


class InterruptedBench(BundlingBench):
    """Ctrl-C comes in the fourth trial."""

    def cost(self, policy: Policy) -> float:
        if len(self.built) == 4:
            raise KeyboardInterrupt
        return super().cost(policy)


def _tune(out: Path, bench: BundlingBench, budget: Budget | None = None, **changes) -> TuneResult:
    budget = budget or Budget(max_drop=1.0)
    storage, pick, limits = changes.get("storage"), changes.get("pick"), Limits(changes.get("trials", TRIALS))
    job = Job("vit", "local", {"data": changes.get("data", "pictures")}, budget, limits)
    return tune({"": bench}, {"": SPACE}, job, constant_schedule, out, storage, pick, Silence())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> tuple[Path, TuneResult, BundlingBench]:
    out, bench = tmp_path_factory.mktemp("tuned") / "out", BundlingBench()
    return out, _tune(out, bench), bench


def test_the_chosen_point_is_the_fastest_within_the_budget(tuned):
    _, result, _ = tuned
    within = [trial for trial in result.trials if trial.outcome == "complete" and trial.drop.points <= 1.0]
    assert result.chosen == min(within, key=lambda trial: trial.cost).number
    assert result.chosen in result.front
    assert result.verdict.within_budget


def test_a_choice_that_further_pictures_speak_against_gives_way_to_the_next(tmp_path, tuned):
    _, lucky, _ = tuned
    result = _tune(tmp_path / "out", BundlingBench(doubt=0.7))
    chosen, first = result.trial(result.chosen), lucky.trial(lucky.chosen)
    assert chosen.drop.points + 0.7 <= 1.0 < first.drop.points + 0.7
    assert chosen.cost > first.cost
    assert any(
        re.match(r"\d+ faster points? lost more than the budget of 1.00 points on 1,000 further held-out pictures", s)
        for s in result.verdict.sentences
    )


def test_a_pick_is_not_asked_for_confirmation(tmp_path):
    assert _tune(tmp_path / "out", BundlingBench(doubt=50.0), pick=1).chosen is not None


def test_a_front_that_nothing_confirms_does_not_meet_the_budget(tmp_path):
    with pytest.raises(BudgetError, match=r"further held-out pictures|No point of the front is within the budget"):
        _tune(tmp_path / "out", BundlingBench(doubt=50.0), budget=Budget(max_drop=1.0, max_latency_ms=15.0))


def test_only_fp32_and_the_chosen_point_see_the_third_set(tuned):
    _, result, bench = tuned
    assert bench.tested_policies == [Policy(rewrites=("class-token",)), result.trial(result.chosen).policy]
    assert result.fp32_test.top1 == FP32_TOP1
    assert result.test_drop.n == 500
    assert result.test_drop.points == pytest.approx(result.fp32_test.top1 - result.chosen_test.top1)


def test_result_page_and_bundle_are_written(tuned):
    out, result, _ = tuned
    assert TuneResult.model_validate_json((out / RESULT).read_bytes()) == result
    page = (out / PAGE).read_text()
    assert page.startswith("<!doctype html>")
    bundle = Path(result.bundle)
    assert bundle == out / f"bundle-{result.chosen}"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["ships"], manifest["top1"]) == (result.verdict.shipped, result.chosen_test.top1)


def test_the_verdict_is_in_words_with_figures(tuned):
    _, result, _ = tuned
    chosen, on_test, *rest = result.verdict.sentences
    assert chosen.startswith("Chosen: ")
    assert "ms against 20.2 ms for fp32 (" in chosen
    assert "on the 1,000 held-out pictures" in chosen
    assert on_test.startswith("On 500 pictures that no trial saw, top-1 is ")
    assert any(re.match(r"\d+ trials: \d+ measured on all pictures", sentence) for sentence in rest)


def test_another_point_is_picked_from_a_finished_search_without_a_trial(tuned):
    out, result, _ = tuned
    bench = BundlingBench()
    picked = _tune(out, bench, pick=len(result.front))
    assert picked.chosen == result.front[-1]
    assert picked.trials == result.trials
    assert bench.built == []
    assert Path(picked.bundle).is_dir()
    assert Path(result.bundle).is_dir()
    with pytest.raises(InputError, match=r"--pick 99: the front has \d points"):
        _tune(out, BundlingBench(), pick=99)


def test_the_chosen_point_is_timed_once_more_beside_fp32(tuned):
    _, result, bench = tuned
    fp32, chosen = result.trial(result.fp32), result.trial(result.chosen)
    assert bench.anchors[-1] == (fp32.policy, fp32.cost)
    assert result.speedup.ratio == pytest.approx(fp32.cost / chosen.cost)
    words = f"Measured once more, in turns with fp32: {result.speedup.ratio:.2f}× as fast (95 % interval "
    assert any(sentence.startswith(words) for sentence in result.verdict.sentences)


def test_instructions_are_not_measured_once_more(tmp_path):
    result = _tune(tmp_path, BundlingBench(unit="M instructions"))
    assert result.speedup is None
    assert not any("once more" in sentence for sentence in result.verdict.sentences)


def test_a_resumed_search_takes_latencies_in_turns_with_the_same_fp32_as_before(tuned, tmp_path):
    out, result, _ = tuned
    shutil.copytree(out, tmp_path / "out")
    bench = BundlingBench()
    _tune(tmp_path / "out", bench, trials=TRIALS + 2)
    fp32 = result.trial(result.fp32)
    assert bench.anchors[0] == (fp32.policy, fp32.cost)


def test_workers_of_one_folder_write_their_choice_one_after_the_other(tmp_path):
    told = []
    with store.locked(tmp_path):
        ended = threading.Thread(target=lambda: _locked(tmp_path, told))
        ended.start()
        while "waiting" not in told:
            time.sleep(0.01)
        told.append("first is done")
    ended.join()
    assert told == ["waiting", "first is done", "second is in"]


def _locked(folder: Path, told: list[str]) -> None:
    with store.locked(folder, lambda: told.append("waiting")):
        told.append("second is in")


def test_a_search_for_other_data_does_not_go_on_with_it(tuned):
    with pytest.raises(InputError, match=r"the search 'vit on local' there has another data\. Choose another folder"):
        _tune(tuned[0], BundlingBench(), data="others")


def test_a_budget_that_nothing_meets_leaves_the_front_and_no_bundle(tmp_path):
    with pytest.raises(BudgetError, match=r"no point meets --max-latency-ms 0\.1\. Nearest: "):
        _tune(tmp_path, BundlingBench(), Budget(max_drop=1.0, max_latency_ms=0.1), trials=4)
    result = TuneResult.model_validate_json((tmp_path / RESULT).read_bytes())
    assert result.front
    assert result.chosen is None
    assert result.bundle is None
    assert result.verdict.within_budget is False
    assert "no point meets --max-latency-ms 0.1" in result.verdict.sentences[0]
    assert "Budget not met" in (tmp_path / PAGE).read_text()


def test_pictures_that_flattered_the_search_are_said(tmp_path):
    result = _tune(tmp_path, BundlingBench(flattery=5.0), trials=4)
    assert result.verdict.within_budget is False
    assert any("the search's own pictures flattered it" in sentence for sentence in result.verdict.sentences)


def test_failures_are_counted_with_their_reason(tmp_path):
    result = _tune(tmp_path, BundlingBench(failing="int8-static"), trials=4)
    assert "Why trials failed, 2 of 2 times: No kernel for int8-static." in result.verdict.sentences


def test_when_nothing_can_be_built_nothing_is_written(tmp_path):
    with pytest.raises(EdgevitError, match="Not one of 3 trials could be run"):
        _tune(tmp_path, BundlingBench(failing="linear"), trials=3)
    assert not (tmp_path / RESULT).exists()


def test_a_limit_in_ms_is_refused_where_nothing_is_timed(tmp_path):
    budget = Budget(max_drop=1.0, max_latency_ms=5)
    with pytest.raises(InputError, match=r"--max-latency-ms 5 cannot be checked: .* M instructions stand in"):
        _tune(tmp_path, BundlingBench(unit="M instructions"), budget)


def test_instructions_are_not_called_milliseconds(tmp_path):
    result = _tune(tmp_path, BundlingBench(unit="M instructions"), trials=4)
    assert " M instructions against 20.2 M instructions for fp32" in result.verdict.sentences[0]
    words = " ".join(result.verdict.sentences)
    assert "× fewer)" in words
    assert " ms" not in words
    assert "fast" not in words


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFileError, match=r"file/out: cannot be made: .* Choose another folder with -o\."):
        _tune(tmp_path / "file" / "out", BundlingBench())


def test_fp32_is_confirmed_once_however_many_points_are(tmp_path):
    bench = BundlingBench(doubt=0.7)
    _tune(tmp_path, bench)
    assert len(bench.confirmed_policies) >= 3
    assert bench.confirmed_policies.count(Policy(rewrites=("class-token",))) == 1


def test_a_finished_search_is_not_asked_anything_again(tmp_path):
    first = _tune(tmp_path, BundlingBench(doubt=0.7))
    bench = BundlingBench(doubt=0.7)
    again = _tune(tmp_path, bench)
    assert (bench.built, bench.seen, bench.confirmed_policies, bench.tested_policies) == ([], 0, [], [])
    assert again.model_copy(update={"written": first.written}) == first
    assert sorted(path.name for path in tmp_path.glob("bundle*")) == [f"bundle-{first.chosen}"]


@pytest.mark.parametrize("change", ["bundle", "budget", "edgevit"])
def test_what_is_no_longer_so_is_proved_again(tmp_path, monkeypatch, change):
    first = _tune(tmp_path, BundlingBench())
    budget = Budget(max_drop=1.0)
    if change == "bundle":
        shutil.rmtree(first.bundle)
    elif change == "budget":
        budget = Budget(max_drop=1.0, max_latency_ms=1000.0)
    else:
        monkeypatch.setattr(outcome, "__version__", "99")
    bench = BundlingBench()
    again = _tune(tmp_path, bench, budget)
    assert again.chosen == first.chosen
    assert bench.tested_policies == [Policy(rewrites=("class-token",)), again.trial(again.chosen).policy]
    assert Path(again.bundle).is_dir()


def test_a_result_that_cannot_be_read_is_no_result(tmp_path):
    first = _tune(tmp_path, BundlingBench())
    (tmp_path / RESULT).write_text("{")
    assert _tune(tmp_path, BundlingBench()).chosen == first.chosen


def test_after_every_trial_only_the_front_is_kept(tuned):
    _, result, bench = tuned
    assert len(bench.kept) == len(result.trials) + 1
    for count, policies in enumerate(bench.kept):
        assert policies == [trial.policy for trial in pareto_front(result.trials[:count])]


def test_an_interrupted_search_writes_what_it_had(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path, InterruptedBench())
    assert len(TuneResult.model_validate_json((tmp_path / RESULT).read_bytes()).trials) == 3


def test_a_search_that_goes_on_and_is_interrupted_keeps_the_choice(tmp_path):
    first = _tune(tmp_path, BundlingBench())

    class Interrupted(BundlingBench):
        def cost(self, policy: Policy) -> float:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path, Interrupted(), trials=TRIALS + 5)
    kept = TuneResult.model_validate_json((tmp_path / RESULT).read_bytes())
    assert (kept.chosen, kept.bundle, kept.verdict.within_budget) == (first.chosen, first.bundle, True)


def test_before_anything_is_chosen_the_page_does_not_say_that_nothing_meets_the_budget(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path, InterruptedBench())
    page = (tmp_path / PAGE).read_text()
    assert "No point of the front is chosen yet." in page
    assert "Budget not met" not in page


def test_the_result_of_another_search_is_not_overwritten(tmp_path):
    _tune(tmp_path, BundlingBench())
    before = (tmp_path / RESULT).read_bytes()
    job = Job("vit", "rpi5", {"data": "pictures"}, Budget(max_drop=1.0), Limits(1))
    with pytest.raises(InputError, match=r"holds a search of vit on local, and this one is of vit on rpi5\. Choose"):
        tune({"": BundlingBench()}, {"": SPACE}, job, constant_schedule, tmp_path, None, None, Silence())
    assert (tmp_path / RESULT).read_bytes() == before


def test_where_nothing_was_searched_nothing_is_picked(tmp_path):
    with pytest.raises(InputError, match=r"no trial was run there yet"):
        _tune(tmp_path, BundlingBench(), trials=0, pick=1)


def test_a_database_that_fails_in_the_middle_leaves_what_was_found(tmp_path, monkeypatch):
    def failing(trial: object, record: Trial) -> None:
        if record.number == 3:
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))
        keep(trial, record)

    monkeypatch.setattr(worker, "keep", failing)
    with pytest.raises(EdgevitError, match=r"the search's database failed: database or disk is full\. ") as ended:
        _tune(tmp_path, BundlingBench())
    assert (ended.value.exit_code, "\n" in str(ended.value)) == (1, False)
    assert len(TuneResult.model_validate_json((tmp_path / RESULT).read_bytes()).trials) == 3
    monkeypatch.undo()
    assert _tune(tmp_path, BundlingBench(), trials=5).bundle


def test_the_spaces_of_an_earlier_search_are_known(tmp_path):
    job = Job("vit", "local", {"data": "pictures"}, Budget(), Limits(TRIALS))
    database = require_usable(tmp_path, None)
    assert known_spaces(database, job) is None
    _tune(tmp_path, BundlingBench(), trials=1)
    assert known_spaces(database, job) == {"": SPACE}
    assert known_spaces(database, dataclasses.replace(job, identity={"data": "others"})) is None


class Model(BundlingBench):
    """One of several: `top1` in fp32, and `factor` times as slow as the arithmetic says."""

    def __init__(self, top1: float, factor: float) -> None:
        super().__init__()
        self.better, self.factor = top1 - FP32_TOP1, factor

    def cost(self, policy: Policy) -> float:
        return self.factor * super().cost(policy)

    def correct(self, policy: Policy, start: int, stop: int) -> np.ndarray:
        return self._difficulty[start:stop] < FP32_TOP1 + self.better - exact_drop(policy)

    def tested(self, policy: Policy) -> np.ndarray:
        self.tested_policies.append(policy)
        return np.arange(500) / 5 < FP32_TOP1 + self.better - exact_drop(policy)


def _tune_several(out: Path, pick: int | None = None, **benches: Model) -> TuneResult:
    job = Job(", ".join(benches), "local", {}, Budget(max_drop=1.0), Limits(24))
    spaces = {model: SPACE.model_copy(update={"tokens": None}) for model in benches}
    anchors: list[tuple[Policy, float]] = []
    for bench in benches.values():
        bench.anchors = anchors  # as models share one stopwatch
    return tune(benches, spaces, job, constant_schedule, out, None, pick, Silence())


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> tuple[Path, TuneResult]:
    out = tmp_path_factory.mktemp("several") / "out"
    return out, _tune_several(out, small=Model(79.5, 0.5), large=Model(82.0, 1.0))


def test_drops_of_all_models_are_counted_from_the_most_accurate_ones_fp32(several):
    _, result = several
    reference = result.trial(result.fp32)
    assert (reference.model, reference.drop.points) == ("large", 0.0)
    small = next(t for t in result.trials if t.model == "small" and t.policy == Policy(rewrites=("class-token",)))
    assert small.drop.points == pytest.approx(2.5)
    assert result.fp32_test.top1 == 82.0
    assert any("fp32 of large, the most accurate" in sentence for sentence in result.verdict.sentences)


def test_every_model_is_tried_and_every_point_says_which_it_is_of(several):
    out, result = several
    assert {trial.model for trial in result.trials} == {"small", "large"}
    document = json.loads((out / RESULT).read_text())
    assert {trial["model"] for trial in document["trials"]} == {"small", "large"}
    assert [row.policy.split(": ")[0] for row in front_rows(result)] == [
        result.trial(number).model for number in result.front
    ]
    assert "large: fp32" in (out / PAGE).read_text()
    assert result.verdict.shipped.startswith(result.trial(result.chosen).model + ": ")


def test_a_pick_is_bundled_by_its_own_model(several):
    out, result = several
    benches = {"small": Model(79.5, 0.5), "large": Model(82.0, 1.0)}
    picks = {
        result.trial(number).model: pick for pick, number in enumerate(result.front, start=1) if number != result.chosen
    }
    assert set(picks) == {"small", "large"}
    for model, pick in picks.items():
        picked = _tune_several(out, pick, **benches)
        assert picked.trial(picked.chosen).model == model
        assert benches[model].tested_policies[-1] == picked.trial(picked.chosen).policy
        assert picked.test_drop.points == pytest.approx(picked.fp32_test.top1 - picked.chosen_test.top1)


def test_of_one_model_nothing_is_said_but_its_policy(tuned):
    out, result, _ = tuned
    assert {trial.model for trial in result.trials} == {""}
    assert not any("most accurate of the models" in sentence for sentence in result.verdict.sentences)
    assert ">fp32<" in (out / PAGE).read_text()


def test_of_several_models_the_one_that_cannot_be_built_is_named(tmp_path):
    class Broken(Model):
        def correct(self, policy: Policy, start: int, stop: int) -> np.ndarray:
            raise ParityError("torch -> onnx: cosine 0.3.")

    with pytest.raises(ParityError, match=r"^large: torch -> onnx: cosine 0\.3\.$"):
        _tune_several(tmp_path, small=Model(79.5, 0.5), large=Broken(82.0, 1.0))


def test_the_most_accurate_model_is_found_once_for_all_workers(several):
    out, result = several
    benches = {"small": Model(99.0, 0.5), "large": Model(1.0, 1.0)}  # they are not asked again
    assert _tune_several(out, **benches).fp32 == result.fp32
