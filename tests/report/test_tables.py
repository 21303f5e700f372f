from __future__ import annotations

import pytest
from example_run import example_candidates, example_metrics, unlabeled, unmeasured

from edgevit.policy import Policy
from edgevit.recipe import Budget
from edgevit.report import tables
from edgevit.results import CostEstimate, LatencyRatio, Parity, RunMetrics


def _with_shipped(**changes: object) -> RunMetrics:
    fp32, dynamic, *rest = example_candidates()
    return example_metrics(candidates=(fp32, dynamic.model_copy(update=changes), *rest))


def test_headline_says_what_ships_how_fast_and_how_accurate() -> None:
    assert tables.headline(example_metrics()) == (
        "int8-dynamic ships: 1.40× as fast as fp32, 98.3 % right on the test pictures (0.28 points below fp32)."
    )


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (LatencyRatio(ratio=0.5, ci95=(0.45, 0.55)), "0.50× as fast as fp32"),
        (LatencyRatio(ratio=1.02, ci95=(0.97, 1.06)), "no real difference in speed from fp32"),
        (None, "not compared with fp32"),
    ],
)
def test_headline_claims_no_more_speed_than_was_measured(ratio: LatencyRatio | None, words: str) -> None:
    assert words in tables.headline(_with_shipped(vs_fp32=ratio))


def test_headline_of_a_board_that_is_not_at_hand_claims_no_speed() -> None:
    metrics = example_metrics(candidates=tuple(map(unmeasured, example_candidates())))
    assert tables.headline(metrics).startswith("int8-dynamic ships: its speed is not measured on the board, ")


def test_headline_without_labels_claims_no_accuracy() -> None:
    metrics = example_metrics(
        candidates=tuple(map(unlabeled, example_candidates())), shipped_test=None, fp32_test=None, drop=None
    )
    assert tables.headline(metrics) == "int8-dynamic ships: 1.40× as fast as fp32, no accuracy is claimed."


def test_headline_of_random_weights_says_that_accuracy_means_nothing() -> None:
    assert tables.headline(example_metrics(curves=())).endswith("its accuracy means nothing.")


def test_headline_of_fp32_gives_its_latency_and_compares_it_with_nothing() -> None:
    fp32 = example_candidates()[0].model_copy(update={"shipped": True})
    metrics = example_metrics(candidates=(fp32,), shipped_test=None, drop=None)
    assert tables.headline(metrics) == "fp32 ships: 3.20 ms a picture, 98.6 % right on the test pictures."


@pytest.mark.parametrize(
    ("points", "words"), [(-0.5, "0.50 points above fp32"), (0.0, "as many as fp32"), (0.5, "0.50 points below fp32")]
)
def test_headline_names_the_side_of_the_drop(points: float, words: str) -> None:
    drop = example_metrics().drop
    assert drop is not None
    assert words in tables.headline(example_metrics(drop=drop.model_copy(update={"points": points})))


def test_headline_says_that_the_budget_is_not_met() -> None:
    verdict = example_metrics().verdict.model_copy(update={"within_budget": False})
    headline = tables.headline(example_metrics(verdict=verdict))
    assert headline.startswith("int8-dynamic ships, but the budget is not met: ")


def test_headline_says_that_nothing_is_shipped() -> None:
    assert tables.headline(example_metrics(candidates=())) == "Nothing is shipped: no candidate meets the budget."


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "edgevit predict picture.jpg --bundle runs/digits-vit-tiny/bundle"),
        ({"bundle": "my runs/b"}, "edgevit predict picture.jpg --bundle 'my runs/b'"),
        ({"curves": ()}, "edgevit bench runs/digits-vit-tiny/bundle"),
        ({"device": "rpi5"}, "python3 bundle/agent.py bench"),
        ({"bundle": ""}, "edgevit run digits-vit-tiny"),
    ],
)
def test_next_command_fits_the_run(changes: dict[str, object], command: str) -> None:
    assert tables.next_command(example_metrics(**changes))[1] == command


def test_a_candidate_that_failed_was_not_measured_and_says_why() -> None:
    row = tables.candidate_rows(example_metrics())[3]
    assert (row.outcome, row.why) == ("failed", "no layer stood out")
    assert row.p50 == row.p99 == row.accuracy == tables.Cell("not measured", is_figure=False)
    assert row.parity == tables.Cell("not checked", is_figure=False)


def test_a_row_has_each_figure_with_its_interval() -> None:
    row = tables.candidate_rows(example_metrics())[1]
    assert row.accuracy == tables.Cell("98.3 %", "[96.4, 99.2]")
    assert row.drop == tables.Cell("+0.28", "[-0.55, +1.11]")
    assert row.vs_fp32 == tables.Cell("1.40×", "[1.38, 1.43]")
    assert row.size == tables.Cell("0.71 MiB")
    assert row.parity == tables.Cell("0.9981", "24.3 dB")
    assert row.outcome == "shipped"


def test_a_row_says_what_the_candidate_is() -> None:
    policy = Policy(rewrites=("gelu", "heads"), linear="int8-dynamic", conv="int8-static")
    int8 = {"linear layers": (16, 17), "convolutions": (1, 1), "attention products": (0, 8)}
    row = tables.candidate_rows(_with_shipped(policy=policy, rewrites=("gelu",), int8=int8))[1]
    assert row.policy == "linear layers INT8 dynamic, convolutions INT8 static"
    assert row.details == "calibrated by minmax"
    assert row.rewrites == tables.Cell("gelu")  # 'heads' was asked for and found nothing
    assert row.int8 == tables.Cell("16 of 17 linear layers, 1 of 1 convolutions, 0 of 8 attention products")


def test_a_row_says_that_nothing_was_rewritten_and_nothing_is_int8() -> None:
    row = tables.candidate_rows(_with_shipped(policy=Policy(), rewrites=(), int8={}))[1]
    assert (row.policy, row.details) == ("fp32", "")
    assert row.rewrites == row.int8 == tables.Cell("none", is_figure=False)


def test_estimated_instructions_are_words_and_no_latency() -> None:
    estimate = CostEstimate(core="Cortex-A76", million_instructions=246.4, relative_error=0.088)
    dynamic = unmeasured(example_candidates()[1]).model_copy(update={"estimate": estimate})
    row = tables.candidate_rows(example_metrics(candidates=(dynamic,)))[0]
    words = "an estimated 246 million instructions on Cortex-A76, error up to 9 %"
    assert row.p50 == tables.Cell("not measured on the board", words, is_figure=False)
    assert row.vs_fp32 == tables.Cell("not compared", is_figure=False)


def test_what_an_estimate_only_guesses_stands_beside_it() -> None:
    estimate = CostEstimate(
        core="Cortex-A76", million_instructions=246.4, relative_error=0.088, not_calibrated={"GridSample f32": 2}
    )
    dynamic = unmeasured(example_candidates()[1]).model_copy(update={"estimate": estimate})
    assert tables.estimate_words(dynamic).endswith("error up to 9 %; only guessed: 2 × GridSample f32")


def test_fp32_says_what_its_rewrites_bought() -> None:
    bought = LatencyRatio(ratio=1.12, ci95=(1.1, 1.14))
    fp32, dynamic, *_ = example_candidates()
    rows = tables.candidate_rows(example_metrics(candidates=(fp32.model_copy(update={"vs_exported": bought}), dynamic)))
    assert rows[0].vs_fp32 == tables.Cell("reference", "1.12× as fast as exported [1.10, 1.14]", is_figure=False)
    assert tables.candidate_rows(example_metrics())[0].vs_fp32 == tables.Cell("reference", is_figure=False)


def test_p99_of_too_few_runs_is_not_claimed() -> None:
    latency = example_candidates()[1].latency_ms
    assert latency is not None
    few = latency.model_copy(update={"p99": None, "runs": 64})
    assert tables.candidate_rows(_with_shipped(latency_ms=few))[1].p99 == tables.Cell(
        "not claimed", "64 runs, 662 needed", is_figure=False
    )


def test_rows_of_random_weights_have_no_accuracy_figure() -> None:
    rows = tables.candidate_rows(example_metrics(curves=()))
    assert {row.accuracy.text for row in rows} == {"means nothing: random weights"}
    assert {row.drop.text for row in rows} == {"means nothing: random weights"}


def test_rows_without_labels_say_so() -> None:
    metrics = example_metrics(
        candidates=tuple(map(unlabeled, example_candidates())), shipped_test=None, fp32_test=None, drop=None
    )
    assert tables.candidate_rows(metrics)[1].accuracy.text == "no labeled data"
    assert tables.candidate_rows(metrics)[1].drop.text == "not compared"


def test_parity_of_a_row_is_that_of_the_hop_that_failed() -> None:
    good = Parity(hop="a", n=8, cosine=0.90, max_abs=1.0, sqnr_db=9.0, top1_agreement=1.0, passed=True)
    bad = Parity(hop="b", n=8, cosine=0.95, max_abs=1.0, sqnr_db=11.0, top1_agreement=0.5, passed=False)
    assert tables.candidate_rows(_with_shipped(parity=(good, bad)))[1].parity == tables.Cell(
        "0.9500", "failed, 11.0 dB"
    )


def test_sqnr_of_equal_logits_is_identical() -> None:
    equal = Parity(hop="a", n=8, cosine=1.0, max_abs=0.0, sqnr_db=None, top1_agreement=1.0, passed=True)
    assert tables.sqnr_words(equal) == "identical"


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(max_drop=None), "no limit was set"),
        (Budget(max_drop=1.0), "at most 1 point below fp32"),
        (Budget(max_drop=0.5, max_latency_ms=50, max_size_mib=6), "at most 0.5 points below fp32, 50 ms, 6 MiB"),
    ],
)
def test_budget_in_words(budget: Budget, words: str) -> None:
    assert tables.budget_words(budget) == words


def test_confused_pairs_come_with_most_mistakes_first_and_then_the_larger_share() -> None:
    confusion = [[5, 2, 0], [2, 8, 0], [4, 0, 6]]
    assert tables.confused_pairs(confusion, ["a", "b", "c"]) == (
        (4, 10, "c", "a"),
        (2, 7, "a", "b"),
        (2, 10, "b", "a"),
    )
    assert tables.confused_pairs(confusion, ["a", "b", "c"], most=1) == ((4, 10, "c", "a"),)


def test_a_perfect_matrix_has_no_confused_pair() -> None:
    assert tables.confused_pairs([[3, 0], [0, 0]], ["a", "b"]) == ()


@pytest.mark.parametrize(
    ("label", "short"), [("cat", "cat"), ("a\nb\tc", "a b c"), ("golden retriever", "golden ret…")]
)
def test_short_label_is_one_line_of_the_length_asked_for(label: str, short: str) -> None:
    assert tables.short_label(label, 11) == short
