from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digits_shop import Told, device_elsewhere, device_here, digits, digits_evidence, known_board, steady, vit_subject
from tiny_models import vit_graph

from edgevit import build
from edgevit import judge as judging
from edgevit.accuracy import bonett_price_interval, wilson_interval
from edgevit.bench.interleave import ArtifactRun, Interleaved
from edgevit.cost.cores import load_costs
from edgevit.cost.estimate import cost_of
from edgevit.judge import judge, run_of, score
from edgevit.makers import build_artifacts
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.results import Candidate
from edgevit.workshop import Artifact, Workshop

Timings = dict[str, Interleaved]
LATENCIES = {
    "fp32": steady(4.0),
    "int8-dynamic": steady(2.0),
    "int8-static": steady(5.0),
    "mixed": steady(4.0),
    "exported": steady(4.4),
    "mixed-attention": steady(8.0),
    "int8-static-attention": steady(16.0),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    evidence = digits_evidence()
    return Workshop(
        vit_subject(), device_here(), ExportSpec(), ParityThresholds(), evidence.calibration, evidence.probes,
        tmp_path_factory.mktemp("shop"), is_foreign=False, progress=Told(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(shop: Workshop) -> tuple[Artifact, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "export_onnx", lambda model, shape, opset, dynamic_batch: vit_graph())
        return build_artifacts(shop, ("onnxruntime",))[0]


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[Timings], list[Mapping[str, ArtifactRun]]]:
    """take(timings): what measuring gives; returns what it is asked for."""

    def make(timings: Timings) -> list[Mapping[str, ArtifactRun]]:
        asked: list[Mapping[str, ArtifactRun]] = []

        def measure(runs: Mapping[str, ArtifactRun], on_round: Callable[[int], None], min_seconds: float) -> Timings:
            asked.append(runs)
            on_round(1)
            return {name: timings[name] for name in runs}

        monkeypatch.setattr(judging, "measure_interleaved", measure)
        return asked

    return make


Take = Callable[[Timings], list[Mapping[str, ArtifactRun]]]


def by_name(candidates: tuple[Candidate, ...]) -> dict[str, Candidate]:
    return {candidate.name: candidate for candidate in candidates}


def test_every_artifact_becomes_a_candidate_with_its_size_and_hops(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    take(LATENCIES)
    candidates = judge(artifacts, shop, None, threads=2)
    assert [candidate.name for candidate in candidates] == [artifact.name for artifact in artifacts]
    for candidate, artifact in zip(candidates, artifacts, strict=True):
        assert candidate.size_mib == artifact.path.stat().st_size / 1024 / 1024
        assert candidate.parity == artifact.parity
        assert (candidate.shipped, candidate.failed, candidate.why) == (False, None, "")


def test_all_take_turns_with_the_devices_threads_and_their_own_sessions(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    asked = take(LATENCIES)
    judge(artifacts, shop, None, threads=3)
    (runs,) = asked
    for artifact in artifacts:
        expected = ArtifactRun(artifact.path, "onnxruntime", 3, (1, 1, 32, 32), artifact.session)
        assert runs[artifact.name] == expected


def test_threads_that_a_policy_asks_for_go_before_the_devices(artifacts: tuple[Artifact, ...]) -> None:
    fp32 = artifacts[0]
    own = replace(fp32, policy=fp32.policy.model_copy(update={"threads": 2}))
    assert (run_of(fp32, 4).threads, run_of(own, 4).threads) == (4, 2)


def test_latencies_stand_beside_fp32s(shop: Workshop, artifacts: tuple[Artifact, ...], take: Take) -> None:
    take(LATENCIES)
    found = by_name(judge(artifacts, shop, None, threads=1))
    assert {name: c.latency_ms.p50 for name, c in found.items() if c.latency_ms} == {
        "fp32": 4.0, "int8-dynamic": 2.0, "int8-static": 5.0, "mixed": 4.0, "mixed-attention": 8.0,
        "int8-static-attention": 16.0,
    }  # fmt: skip
    assert {name: c.vs_fp32.ratio for name, c in found.items() if c.vs_fp32} == {
        "int8-dynamic": 2.0, "int8-static": 0.8, "mixed": 1.0, "mixed-attention": 0.5,
        "int8-static-attention": 0.25,
    }  # fmt: skip
    assert found["fp32"].samples_ms == (4.0,) * 64
    assert found["fp32"].latency_ms is not None
    assert found["fp32"].latency_ms.runs == 64


def test_the_graph_as_it_was_exported_takes_its_turns_too(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    asked = take(LATENCIES)
    found = by_name(judge(artifacts, shop, None, threads=1))
    fp32 = artifacts[0]
    assert fp32.exported is not None
    assert asked[0]["exported"] == ArtifactRun(fp32.exported, "onnxruntime", 1, (1, 1, 32, 32))
    assert "exported" not in found
    ratios = {name: c.vs_exported.ratio for name, c in found.items() if c.vs_exported}
    expected = {
        "fp32": 1.1, "int8-dynamic": 2.2, "int8-static": 0.88, "mixed": 1.1, "mixed-attention": 0.55,
        "int8-static-attention": 0.275,
    }  # fmt: skip
    assert ratios == pytest.approx(expected)


def test_a_graph_that_no_rewrite_changed_is_not_measured_twice(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    asked = take(LATENCIES)
    (fp32,) = judge((replace(artifacts[0], rewrites=()),), shop, None, threads=1)
    assert set(asked[0]) == {"fp32"}
    assert fp32.vs_exported is None


def test_accuracy_and_the_paired_drop_are_counted_on_the_same_pictures(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    take(LATENCIES)
    pictures = digits().val
    found = by_name(judge(artifacts, shop, pictures, threads=1))
    hits = {a.name: shop.logits(a, pictures).argmax(axis=1) == pictures.labels for a in artifacts}
    for name, candidate in found.items():
        assert candidate.accuracy is not None
        assert (candidate.accuracy.n, candidate.accuracy.top1) == (40, 100 * hits[name].sum() / 40)
        assert candidate.accuracy.ci95 == pytest.approx(wilson_interval(int(hits[name].sum()), 40))
        if name == "fp32":
            assert candidate.drop is None
            continue
        lost, won = int((hits["fp32"] & ~hits[name]).sum()), int((~hits["fp32"] & hits[name]).sum())
        assert candidate.drop is not None
        assert candidate.drop.points == 100 * (lost - won) / 40
        assert candidate.drop.ci95 == pytest.approx(bonett_price_interval(lost, won, 40))


def test_without_labelled_pictures_there_is_no_accuracy(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    take(LATENCIES)
    assert {(c.accuracy, c.drop) for c in judge(artifacts, shop, None, threads=1)} == {(None, None)}


def test_for_another_architecture_nothing_is_measured(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    asked = take(LATENCIES)
    foreign = replace(shop, device=device_elsewhere(), is_foreign=True)
    candidates = judge(artifacts, foreign, digits().val, threads=1)
    assert asked == []
    assert {(c.latency_ms, c.vs_fp32, c.vs_exported, c.samples_ms) for c in candidates} == {(None, None, None, ())}
    assert {c.estimate for c in candidates} == {None}  # of that board's core nothing is known
    assert all(c.accuracy for c in candidates)


def test_for_a_board_whose_core_is_known_instructions_are_estimated(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    asked = take(LATENCIES)
    board, core = known_board(), load_costs()[0]
    fp32, dynamic, *_ = artifacts
    far = replace(dynamic, parity=(dynamic.parity[-1].model_copy(update={"passed": False}),))
    found = by_name(judge((fp32, far), replace(shop, device=board, is_foreign=True), None, threads=1))
    assert asked == []
    assert found["fp32"].estimate == cost_of(fp32.path, core)
    assert found["int8-dynamic"].estimate is None
    assert judge((fp32,), shop, None, threads=1)[0].estimate is None  # here it is measured


def test_what_failed_its_build_or_parity_is_neither_scored_nor_measured(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    asked = take(LATENCIES)
    fp32, dynamic, static, mixed, *_ = artifacts
    broken = replace(dynamic, failed="No.", path=Path("never-written.onnx"))
    far = replace(static, parity=(*static.parity[:-1], static.parity[-1].model_copy(update={"passed": False})))
    found = by_name(judge((fp32, broken, far, mixed), shop, digits().val, threads=1))
    assert set(asked[0]) == {"fp32", "mixed", "exported"}
    assert (found["int8-dynamic"].failed, found["int8-dynamic"].size_mib) == ("No.", 0.0)
    assert found["int8-static"].failed is None
    for name in ("int8-dynamic", "int8-static"):
        assert (found[name].accuracy, found[name].latency_ms) == (None, None)
    assert found["mixed"].accuracy is not None


def test_an_artifact_that_crashes_while_it_is_measured_is_failed(
    shop: Workshop, artifacts: tuple[Artifact, ...], take: Take
) -> None:
    take({**LATENCIES, "mixed": Interleaved(failed="Its process was killed by signal 4.")})
    mixed = by_name(judge(artifacts, shop, None, threads=1))["mixed"]
    assert mixed.failed == "Its process was killed by signal 4."
    assert (mixed.latency_ms, mixed.vs_fp32, mixed.samples_ms) == (None, None, ())


def test_without_a_measured_fp32_there_is_no_ratio(shop: Workshop, artifacts: tuple[Artifact, ...], take: Take) -> None:
    take({**LATENCIES, "fp32": Interleaved(failed="No answer.")})
    found = by_name(judge(artifacts, shop, None, threads=1))
    assert found["int8-dynamic"].latency_ms is not None
    assert found["int8-dynamic"].vs_fp32 is None


def test_a_score_carries_the_logits_that_it_was_counted_on(shop: Workshop, artifacts: tuple[Artifact, ...]) -> None:
    scores = score(list(artifacts[:2]), shop, digits().test)
    assert list(scores) == ["fp32", "int8-dynamic"]
    np.testing.assert_array_equal(scores["fp32"].logits, shop.logits(artifacts[0], digits().test))
    assert scores["fp32"].drop is None
    assert scores["int8-dynamic"].drop is not None


def test_a_real_measurement_fits_in_the_candidates(
    shop: Workshop, artifacts: tuple[Artifact, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = judging.measure_interleaved

    def quickly(runs: Mapping[str, ArtifactRun], on_round: Callable[[int], None], min_seconds: float) -> Timings:
        return measure(runs, on_round=on_round, min_seconds=0.25, min_runs=8)

    monkeypatch.setattr(judging, "measure_interleaved", quickly)
    fp32, dynamic = judge(artifacts[:2], shop, None, threads=1)
    assert (fp32.failed, dynamic.failed) == (None, None)
    assert dynamic.vs_fp32 is not None
    assert fp32.latency_ms is not None
    assert fp32.latency_ms.runs >= 8
