import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.benchreport import Latency
from edgevit.choose import choose
from edgevit.device import QuantizationPreset
from edgevit.errors import BudgetError, EdgevitError, ParityError
from edgevit.recipe import Budget
from edgevit.results import AccuracyDrop, Candidate, CostEstimate, LatencyRatio, Parity


def preset(precision="auto"):
    return QuantizationPreset(
        precision=precision, activation="uint8", weight="int8", per_channel=True, reduce_range=True, symmetric=False,
        why="No VNNI here.",
    )  # fmt: skip


def latency(p50):
    return Latency(runs=64, p50=p50, p90=p50, p99=None, mean=p50, mad=0.0, minimum=p50, maximum=p50)


def parity(passed=True, cosine=0.998, layer=None):
    return Parity(
        hop="fp32 -> int8", n=64, cosine=cosine, max_abs=0.1, sqnr_db=24.0, top1_agreement=0.975, passed=passed,
        first_diverging_layer=layer,
    )  # fmt: skip


def drop(points, low, high):
    return AccuracyDrop(n=360, points=points, ci95=(low, high), p_value=0.5)


def rounds(ms, spread=0.0):
    """Two runs in each of 16 rounds, every other one slower by `spread` ms and the others faster."""
    samples = tuple(ms + spread * (-1) ** (i // 2) for i in range(32))
    return {"samples_ms": samples, "runs_by_round": (2,) * 16}


def candidate(precision, ms=None, *, size=6.3, ratio=None, loss=None, runtime="onnxruntime", **rest):
    return Candidate(
        name=rest.pop("name", precision),
        precision=precision,
        runtime=runtime,
        size_mib=size,
        latency_ms=None if ms is None else latency(ms),
        vs_fp32=None if ratio is None else LatencyRatio(ratio=ratio[0], ci95=ratio[1:]),
        drop=None if loss is None else drop(*loss),
        **rest,
    )


FP32 = candidate("fp32", 28.1, size=21.8, **rounds(28.1))
DYNAMIC = candidate("int8-dynamic", 15.1, ratio=(1.86, 1.83, 1.90), loss=(0.1, -0.9, 1.1))
STATIC = candidate("int8-static", 16.0, size=5.9, ratio=(1.76, 1.72, 1.80), loss=(0.3, -0.6, 1.2))
OPEN = Budget(max_drop=None)


def decide(*candidates, budget=OPEN, measured_here=True, precision="auto", kind="transformer"):
    return choose(candidates, budget, measured_here, preset(precision), kind)


def test_the_fastest_that_fits_is_shipped_and_says_why():
    judged, verdict = decide(FP32, DYNAMIC, STATIC)
    assert [c.shipped for c in judged] == [False, True, False]
    assert verdict.shipped == "int8-dynamic"
    assert verdict.within_budget is True
    assert verdict.sentences[0] == (
        "int8-dynamic was shipped: 15.1 ms against 28.1 ms for fp32 (1.86× as fast, 95 % interval 1.83–1.90), "
        "0.10 points less accurate on 360 validation pictures [-0.90, +1.10], 6.30 MiB instead of 21.8 MiB."
    )
    assert judged[1].why == verdict.sentences[0]


def test_each_loser_has_a_sentence_of_its_own():
    judged, verdict = decide(FP32, DYNAMIC, STATIC)
    assert judged[0].why == "fp32 was not shipped: 28.1 ms against 15.1 ms for int8-dynamic."
    assert judged[2].why == "int8-static was not shipped: 16.0 ms against 15.1 ms for int8-dynamic."
    assert verdict.sentences == (judged[1].why, judged[0].why, judged[2].why)


def test_fp32_ships_where_int8_is_slower():
    slow = candidate("int8-dynamic", 33.7, ratio=(0.8, 0.79, 0.82), loss=(0.0, -0.8, 0.8))
    judged, verdict = decide(FP32, slow)
    assert verdict.shipped == "fp32"
    assert verdict.sentences == (
        "fp32 was shipped because int8-dynamic is 0.80× as fast here (95 % interval 0.79–0.82): 28.1 ms, 21.8 MiB.",
        "int8-dynamic was not shipped: 33.7 ms against 28.1 ms for fp32 (0.80× as fast, 95 % interval 0.79–0.82).",
    )
    assert judged[0].shipped


def test_a_tie_goes_to_fp32():
    even = candidate("int8-static", 27.9, ratio=(1.01, 0.98, 1.03), loss=(0.0, -0.8, 0.8), **rounds(27.9, 0.6))
    judged, verdict = decide(FP32, even)
    assert verdict.shipped == "fp32"
    assert (
        "because int8-static is not faster here beyond chance (1.01× as fast, 95 % interval 0.98–1.03)" in judged[0].why
    )
    assert judged[1].why == (
        "int8-static was not shipped: its 27.9 ms cannot be told from the 28.1 ms of fp32 "
        "(1.01× as fast, 95 % interval 0.98–1.03), and of equals the one nearer to fp32 is taken."
    )


def test_a_tie_that_looks_slower_is_a_tie_all_the_same():
    even = candidate("int8-static", 28.3, ratio=(0.99, 0.97, 1.01), loss=(0.0, -0.8, 0.8), **rounds(28.3, 0.6))
    assert decide(FP32, even)[0][1].why == (
        "int8-static was not shipped: its 28.3 ms cannot be told from the 28.1 ms of fp32 "
        "(0.99× as fast, 95 % interval 0.97–1.01), and of equals the one nearer to fp32 is taken."
    )


def test_equal_medians_are_a_tie():
    judged, verdict = decide(candidate("fp32", 0.23), candidate("int8-static", 0.23))
    assert verdict.shipped == "fp32"
    assert judged[1].why.startswith("int8-static was not shipped: its 0.23 ms cannot be told from the 0.23 ms of fp32,")


def test_figures_that_would_read_the_same_have_digits_enough():
    fp32 = candidate("fp32", 0.36)
    fast = candidate("int8-dynamic", 0.2296, **rounds(0.2296, 0.0004))
    slow = candidate("mixed", 0.2312, **rounds(0.2312, 0.0004))  # 0.2308 at its fastest, 0.2300 the other's slowest
    assert decide(fp32, fast, slow)[0][2].why == ("mixed was not shipped: 0.231 ms against 0.230 ms for int8-dynamic.")
    alike = candidate("int8-static", 28.0958, ratio=(1.00001, 1.000005, 1.000015))
    assert "28.096 ms against 28.100 ms for fp32" in decide(FP32, alike)[1].sentences[0]


def test_a_limit_that_is_just_broken_is_not_written_as_kept():
    with pytest.raises(BudgetError, match=r"int8-dynamic: it takes 15\.100 ms and may take 15\.098 ms\."):
        decide(DYNAMIC, budget=Budget(max_latency_ms=15.098))
    with pytest.raises(BudgetError, match=r"it is 6\.300 MiB large and may be 6\.299 MiB\."):
        decide(DYNAMIC, budget=Budget(max_size_mib=6.299))


def test_two_int8_candidates_that_cannot_be_told_apart_are_decided_by_accuracy():
    fast = candidate("int8-static", 15.1, loss=(0.9, 0.1, 1.7), **rounds(15.1, 0.6))
    faithful = candidate("int8-dynamic", 15.6, loss=(0.1, -0.7, 0.9), **rounds(15.6))
    judged, verdict = decide(FP32, fast, faithful)
    assert verdict.shipped == "int8-dynamic"
    assert judged[1].why == (
        "int8-static was not shipped: its 15.1 ms cannot be told from the 15.6 ms of int8-dynamic, "
        "and of equals the one nearer to fp32 is taken."
    )


def test_two_that_share_the_machines_moods_are_told_apart_by_their_rounds():
    """Of each alone the interval would hold the other; in every round one is 0.2 ms faster."""
    fast = candidate("int8-static", 15.1, loss=(0.9, 0.1, 1.7), **rounds(15.1, 0.6))
    faithful = candidate("int8-dynamic", 15.3, loss=(0.1, -0.7, 0.9), **rounds(15.3, 0.6))
    judged, verdict = decide(FP32, fast, faithful)
    assert verdict.shipped == "int8-static"
    assert judged[2].why == "int8-dynamic was not shipped: 15.3 ms against 15.1 ms for int8-static."


def test_without_accuracy_the_nearer_parity_breaks_the_tie():
    far = candidate("int8-static", 15.1, parity=(parity(cosine=0.97),), **rounds(15.1, 0.6))
    near = candidate("int8-dynamic", 15.2, parity=(parity(cosine=0.999),), **rounds(15.2))
    assert decide(FP32, far, near)[1].shipped == "int8-dynamic"


def test_a_failed_build_and_a_failed_parity_are_never_shipped():
    broken = candidate("int8-static", failed="calibration found no picture.")
    wrong = candidate(
        "int8-dynamic", 5.0, ratio=(5.6, 5.5, 5.7), parity=(parity(), parity(False, 0.7, "blocks.3.attn"))
    )
    judged, verdict = decide(FP32, broken, wrong)
    assert verdict.shipped == "fp32"
    assert judged[1].why == "int8-static was not shipped: calibration found no picture."
    assert judged[2].why == (
        "int8-dynamic was not shipped: its parity failed (fp32 -> int8: cosine 0.7000, top-1 agreement 97.5 % "
        "on 64 pictures, first diverging layer: blocks.3.attn)."
    )
    assert judged[0].why == "fp32 was shipped: 28.1 ms, 21.8 MiB."


def test_a_drop_over_the_budget_excludes_by_its_estimate():
    lossy = candidate("int8-static", 10.0, ratio=(2.8, 2.7, 2.9), loss=(2.4, 1.0, 3.8))
    judged, verdict = decide(FP32, lossy, budget=Budget(max_drop=1.0))
    assert verdict.shipped == "fp32"
    assert judged[1].why == (
        "int8-static was not shipped: it is 2.40 points less accurate on 360 validation pictures [+1.00, +3.80] "
        "and may lose 1.00."
    )


def test_an_interval_that_reaches_over_the_budget_is_said():
    _, verdict = decide(FP32, DYNAMIC, budget=Budget(max_drop=1.0))
    assert verdict.within_budget is True
    assert verdict.sentences[-1] == (
        "int8-dynamic is within the budget of 1.00 points by its estimate; the interval reaches 1.10."
    )


def test_a_candidate_that_gained_accuracy_says_so_in_its_own_direction():
    better = candidate("int8-static", 15.0, ratio=(1.87, 1.8, 1.9), loss=(-0.2, -1.0, 0.6))
    _, verdict = decide(FP32, better)
    assert "0.20 points more accurate on 360 validation pictures [-0.60, +1.00]" in verdict.sentences[0]


def test_equal_accuracy_is_called_equal():
    same = candidate("int8-static", 15.0, ratio=(1.87, 1.8, 1.9), loss=(0.0, -0.8, 0.8))
    assert "as accurate on 360 validation pictures [-0.80, +0.80]" in decide(FP32, same)[1].sentences[0]


def test_without_accuracy_parity_stands_in_under_that_name():
    unlabelled = candidate("int8-static", 15.0, ratio=(1.87, 1.8, 1.9), parity=(parity(),))
    _, verdict = decide(FP32, unlabelled, budget=Budget(max_drop=1.0))
    assert verdict.within_budget is None
    assert verdict.sentences[-1] == (
        "Without labelled pictures the accuracy of int8-static was not checked; parity with fp32 stands in "
        "(fp32 -> int8: cosine 0.9980, top-1 agreement 97.5 % on 64 pictures)."
    )


def test_without_accuracy_and_parity_nothing_is_claimed():
    bare = candidate("int8-static", 15.0, ratio=(1.87, 1.8, 1.9))
    _, verdict = decide(FP32, bare, budget=Budget(max_drop=1.0))
    assert verdict.within_budget is None
    assert verdict.sentences[-1].endswith("was not checked; nothing was compared in its stead.")


def test_fp32_needs_no_check_of_its_accuracy():
    assert decide(FP32, budget=Budget(max_drop=0.0))[1].within_budget is True


def test_size_and_latency_limits_exclude():
    judged, verdict = decide(FP32, DYNAMIC, budget=Budget(max_drop=None, max_size_mib=8.0, max_latency_ms=20.0))
    assert verdict.shipped == "int8-dynamic"
    assert judged[0].why == (
        "fp32 was not shipped: it takes 28.1 ms and may take 20.0 ms; it is 21.8 MiB large and may be 8.00 MiB."
    )


def test_a_slower_artifact_ships_when_fp32_is_too_large():
    slow = candidate("int8-dynamic", 33.7, ratio=(0.8, 0.79, 0.82), loss=(0.0, -0.8, 0.8))
    _, verdict = decide(FP32, slow, budget=Budget(max_size_mib=8.0))
    assert verdict.sentences[0].startswith(
        "int8-dynamic was shipped: 33.7 ms against 28.1 ms for fp32 (0.80× as fast, 95 % interval 0.79–0.82)"
    )


def test_nothing_within_the_budget_names_the_nearest_and_the_limit_that_binds():
    words = re.escape(
        "No artifact is within the budget. The nearest is int8-dynamic: it takes 15.1 ms and may take 10.0 ms. "
        "Raise --max-latency-ms, or take another model."
    )
    with pytest.raises(BudgetError, match=words) as caught:
        decide(FP32, DYNAMIC, STATIC, budget=Budget(max_latency_ms=10.0))
    assert caught.value.exit_code == 3


def test_several_limits_that_bind_are_all_named():
    words = (
        r"0\.10 points less accurate .* and may lose 0\.00 and it is 6\.30 MiB .* Raise --max-drop and --max-size-mib"
    )
    with pytest.raises(BudgetError, match=words):
        decide(DYNAMIC, budget=Budget(max_drop=0.0, max_size_mib=1.0))


def test_nothing_that_passes_parity_is_a_parity_error():
    with pytest.raises(ParityError, match="No artifact can be shipped: int8-static: its parity failed"):
        decide(candidate("int8-static", 5.0, parity=(parity(False),)))


def test_nothing_that_was_built_is_an_error_with_each_reason():
    with pytest.raises(EdgevitError, match=r"No artifact can be shipped: fp32: no opset; int8-static: no data\."):
        decide(candidate("fp32", failed="no opset"), candidate("int8-static", failed="no data."))


@pytest.mark.parametrize(
    ("precision", "kind", "expected"),
    [
        ("auto", "transformer", "int8-dynamic"),
        ("auto", "hybrid", "int8-static"),
        ("auto", "cnn", "int8-static"),
        ("fp32", "transformer", "fp32"),
        ("int8-static", "transformer", "int8-static"),
        ("mixed", "transformer", "fp32"),  # was not built
    ],
)
def test_the_preset_decides_for_a_board_that_cannot_be_measured(precision, kind, expected):
    _, verdict = decide(FP32, DYNAMIC, STATIC, measured_here=False, precision=precision, kind=kind)
    assert verdict.shipped == expected
    assert "Not measured on the board: the device's preset chose. No VNNI here." in verdict.sentences
    assert not re.search(r"\d ms", " ".join(verdict.sentences))


def test_the_preset_falls_back_to_fp32_when_its_choice_failed_parity():
    wrong = candidate("int8-dynamic", parity=(parity(False),))
    _, verdict = decide(FP32, wrong, STATIC, measured_here=False)
    assert verdict.shipped == "fp32"


def test_the_preset_takes_static_int8_for_a_transformer_where_dynamic_was_not_built():
    missing = candidate("int8-dynamic", failed="no linear layer")
    assert decide(FP32, missing, STATIC, measured_here=False)[1].shipped == "int8-static"


def test_what_the_preset_ranks_behind_says_so():
    judged, _ = decide(FP32, DYNAMIC, measured_here=False)
    assert judged[0].why == "fp32 was not shipped: the device's preset ranks int8-dynamic before it."
    assert judged[1].why == (
        "int8-dynamic was shipped: 0.10 points less accurate on 360 validation pictures [-0.90, +1.10], "
        "6.30 MiB instead of 21.8 MiB."
    )


def test_a_latency_limit_of_an_unmeasured_board_is_said_to_be_unchecked():
    _, verdict = decide(FP32, DYNAMIC, measured_here=False, budget=Budget(max_latency_ms=1.0))
    assert verdict.within_budget is None
    assert verdict.sentences[-1] == "The limit of 1.00 ms was not checked: nothing was measured on the board."


def test_where_no_candidate_could_be_measured_the_preset_decides_too():
    _, verdict = decide(candidate("fp32", size=21.8), candidate("int8-dynamic"), measured_here=True)
    assert verdict.shipped == "int8-dynamic"
    assert any(sentence.startswith("Not measured on the board") for sentence in verdict.sentences)


def test_a_candidate_without_a_latency_loses_to_one_that_has_it():
    judged, verdict = decide(FP32, candidate("int8-dynamic"))
    assert verdict.shipped == "fp32"
    assert judged[1].why == "int8-dynamic was not shipped: it could not be measured."


def test_a_lone_candidate_needs_no_fp32_beside_it():
    _, verdict = decide(candidate("int8-static", 15.0, loss=(0.1, -0.7, 0.9)))
    assert verdict.sentences[0] == (
        "int8-static was shipped: 15.0 ms, 0.10 points less accurate on 360 validation pictures [-0.70, +0.90], "
        "6.30 MiB."
    )


def test_candidates_go_by_their_names():
    script = candidate("fp32", 20.0, size=22.0, runtime="torchscript", ratio=(1.4, 1.35, 1.45), name="script")
    judged, verdict = decide(FP32, script)
    assert [c.shipped for c in judged] == [False, True]
    assert verdict.sentences == (
        "script was shipped because fp32 takes 28.1 ms here: 20.0 ms, 22.0 MiB.",
        "fp32 was not shipped: 28.1 ms against 20.0 ms for script.",
    )


def estimated(name, million, *, error=0.1, core="Cortex-A76", **rest):
    estimate = CostEstimate(core=core, million_instructions=million, relative_error=error)
    return candidate(name, estimate=estimate, **rest)


def test_where_nothing_can_be_measured_the_estimated_instructions_decide():
    _, verdict = decide(
        estimated("fp32", 477.0, size=21.8), estimated("int8-dynamic", 246.0), estimated("int8-static", 254.0),
        measured_here=False,
    )  # fmt: skip
    assert verdict.shipped == "int8-dynamic"
    assert verdict.sentences == (
        "int8-dynamic was shipped: an estimated 246 million instructions on Cortex-A76 against 477 million "
        "instructions for fp32, 6.30 MiB instead of 21.8 MiB.",
        "fp32 was not shipped: an estimated 477 million instructions against 246 million instructions for "
        "int8-dynamic.",
        "int8-static was not shipped: an estimated 254 million instructions against 246 million instructions for "
        "int8-dynamic.",
        "On Cortex-A76 INT8 takes 1/1.9 of fp32's instructions (int8-dynamic, estimated).",
        "Not measured on the board: estimated instructions (error up to 10%) chose, not a latency.",
    )


def test_what_the_estimate_only_guesses_is_named_with_its_number():
    guessed = CostEstimate(
        core="Cortex-A76", million_instructions=246.0, relative_error=0.1,
        not_calibrated={"GridSample f32": 2, "Softplus f32": 1},
    )  # fmt: skip
    _, verdict = decide(estimated("fp32", 477.0), candidate("int8-dynamic", estimate=guessed), measured_here=False)
    assert verdict.sentences[-1] == (
        "Only guessed in the estimate of int8-dynamic: 2 × GridSample f32, 1 × Softplus f32. Nothing was counted for "
        "them on Cortex-A76, and the error does not cover them."
    )


def test_int8_that_saves_no_instructions_beyond_the_estimates_error_does_not_ship():
    fp32, int8 = (
        estimated(name, million, core="Cortex-A72") for name, million in (("fp32", 441.0), ("int8-dynamic", 405.0))
    )
    _, verdict = decide(fp32, int8, measured_here=False)
    assert verdict.shipped == "fp32"
    assert (
        "On Cortex-A72 INT8 saves no instructions beyond the estimate's error: 405 million instructions (int8-dynamic) "
        "against 441 million instructions for fp32. What it saves is memory."
    ) in verdict.sentences


def test_an_estimate_is_no_latency_and_is_ignored_where_one_was_measured():
    fp32, int8 = estimated("fp32", 1.0, ms=20.0), estimated("int8-static", 900.0, ms=10.0)
    _, verdict = decide(fp32, int8)
    assert verdict.shipped == "int8-static"
    assert not any("instructions" in sentence for sentence in verdict.sentences)


def test_without_rounds_the_medians_decide():
    judged, verdict = decide(FP32, candidate("int8-static", 27.0, loss=(0.1, -0.7, 0.9)))
    assert verdict.shipped == "int8-static"
    assert "27.0 ms against 28.1 ms for fp32, 0.10 points" in judged[1].why


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fp32", "int8-dynamic", "int8-static"]),
            st.floats(1, 100),
            st.floats(1, 50),
            st.floats(-2, 4),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
    st.floats(0, 3),
    st.floats(1, 100),
    st.floats(1, 50),
)
def test_whatever_was_tried_one_fitting_artifact_ships_or_an_error_says_why(tried, measured_here, loss, ms, size):
    candidates = [
        candidate(p, t, size=s, loss=None if p == "fp32" else (d, d - 1, d + 1), parity=(parity(ok),))
        for p, t, s, d, ok in tried
    ]
    budget = Budget(max_drop=loss, max_latency_ms=ms, max_size_mib=size)
    fits = [
        ok and (p == "fp32" or d <= loss) and s <= size and (t <= ms or not measured_here) for p, t, s, d, ok in tried
    ]
    if not any(fits):
        with pytest.raises((BudgetError, ParityError)):
            decide(*candidates, budget=budget, measured_here=measured_here)
        return
    judged, verdict = decide(*candidates, budget=budget, measured_here=measured_here)
    shipped = [i for i, c in enumerate(judged) if c.shipped]
    assert len(shipped) == 1
    assert fits[shipped[0]]
    assert judged[shipped[0]].name == verdict.shipped
    assert all(c.why.endswith(".") for c in judged)
    if measured_here:  # no interval without a ratio: the fastest median wins
        assert tried[shipped[0]][1] == min(t for (_, t, *_), fit in zip(tried, fits, strict=True) if fit)
