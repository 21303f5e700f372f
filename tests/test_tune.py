"""tune, on an arithmetic bench: from nothing to a front, a chosen point, a page and a bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from arithmetic_bench import FP32_TOP1, SPACE, ArithmeticBench, constant_schedule, exact_drop

from edgevit.artifact import BundleAccuracy
from edgevit.errors import BadFileError, BudgetError, EdgevitError, InputError
from edgevit.policy import Policy
from edgevit.progress import Silence
from edgevit.recipe import Budget
from edgevit.results import Verdict
from edgevit.search.trials import TuneResult
from edgevit.search.worker import Limits
from edgevit.tune import PAGE, RESULT, Job, tune

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

    def tested(self, policy: Policy) -> np.ndarray:
        self.tested_policies.append(policy)
        drop = exact_drop(policy)
        return np.arange(500) / 5 < FP32_TOP1 - drop - (self.flattery if drop else 0.0)

    def confirmed(self, policy: Policy) -> np.ndarray:
        drop = exact_drop(policy)
        count = 0 if self.doubt is None else 1000
        return np.arange(count) / 10 < FP32_TOP1 - drop - ((self.doubt or 0.0) if drop else 0.0)

    def write_bundle(self, policy: Policy, target: Path, verdict: Verdict, accuracy: BundleAccuracy) -> None:
        target.mkdir()
        (target / "manifest.json").write_text(
            json.dumps({"policy": policy.model_dump(), "ships": verdict.shipped, "top1": accuracy.artifact.top1})
        )


def _tune(out: Path, bench: BundlingBench, budget: Budget | None = None, **changes) -> TuneResult:
    budget = budget or Budget(max_drop=1.0)
    storage, pick, limits = changes.get("storage"), changes.get("pick"), Limits(changes.get("trials", TRIALS))
    job = Job("vit", "local", {"data": changes.get("data", "pictures")}, SPACE, budget, limits)
    return tune(bench, job, constant_schedule, out, storage, pick, Silence())


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
    assert " ms" not in " ".join(result.verdict.sentences)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFileError, match=r"file/out: cannot be made: .* Choose another folder with -o\."):
        _tune(tmp_path / "file" / "out", BundlingBench())
