"""The search's questions, answered for the tiny ViT on digits; only time is made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits_shop import Told, device_elsewhere, device_here, digits, digits_evidence, known_board, steady, vit_subject
from numpy.typing import NDArray
from tiny_models import vit_graph

from edgevit import build, hops
from edgevit.artifact import BundleAccuracy
from edgevit.assemble import Evidence
from edgevit.bench.interleave import ArtifactRun, Interleaved
from edgevit.board.preprocess import to_input
from edgevit.bundle import load_bundle
from edgevit.cost.cores import load_costs
from edgevit.cost.estimate import cost_of
from edgevit.data.batches import prepared
from edgevit.device import Device
from edgevit.errors import DeviceError, EdgevitError, InputError, MeasurementError, ParityError
from edgevit.policy import Policy
from edgevit.quantize import apply
from edgevit.recipe import Budget
from edgevit.results import Verdict
from edgevit.runtimes import open_session
from edgevit.search.space import SearchSpace
from edgevit.store import sha256_file
from edgevit.tuning import stopwatch
from edgevit.tuning.workbench import BuildingWorkbench, opened_workbench

FP32, DYNAMIC = Policy(), Policy(linear="int8-dynamic")
Turns = list[dict[str, ArtifactRun]]
Take = Callable[..., Turns]
Open = Callable[..., tuple[BuildingWorkbench, SearchSpace]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """opened(device=…, …): the workbench and its space; closed when the test ends."""
    monkeypatch.setattr(build, "export_onnx", lambda *_: vit_graph())
    contexts = []

    def make(
        device: Device | None = None, evidence: Evidence | None = None, sizes: tuple[int, ...] = (), threads: int = 2
    ) -> tuple[BuildingWorkbench, SearchSpace]:
        arguments = device or device_here(), evidence or digits_evidence(), threads, sizes, Told()
        contexts.append(opened_workbench(vit_subject(), *arguments))
        return contexts[-1].__enter__()

    yield make
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Take:
    """take(3.0, (2.0, 4.0)): the medians that measuring gives, one by one; returns what it is asked for."""

    def make(*answers: Any) -> Turns:
        asked: Turns = []

        def measure(runs: Mapping[str, ArtifactRun], **_: object) -> dict[str, Interleaved]:
            answer = answers[len(asked)]
            asked.append(dict(runs))
            timings = answer if isinstance(answer, tuple) else (answer,)
            return {
                name: time if isinstance(time, Interleaved) else steady(time)
                for name, time in zip(runs, timings, strict=True)
            }

        monkeypatch.setattr(stopwatch, "measure_interleaved", measure)
        return asked

    return make


def hits(path: Path, pictures: Any) -> NDArray[np.bool_]:
    """Directly: the artifact's session, fed with the pictures one by one."""
    session, preprocess = open_session(path, "onnxruntime", 1), vit_subject().preprocess
    logits = np.concatenate(
        [session.run(pixel[None]) for pixel in to_input(prepared(pictures, preprocess), preprocess)]
    )
    found: NDArray[np.bool_] = logits.argmax(axis=1) == pictures.labels
    return found


def test_it_says_how_many_pictures_there_are_and_in_what_it_measures(opened: Open) -> None:
    bench, space = opened()
    assert (bench.pictures, bench.unit) == (40, "ms")
    assert space.image_sizes == (32,)
    assert space.linear == ("fp32", "int8-dynamic", "int8-static")
    assert opened(known_board())[0].unit == "M instructions"


def test_a_build_is_the_hash_of_a_file_and_is_done_once(opened: Open, take: Take) -> None:
    (bench, _), asked = opened(), take(4.0)
    one = bench.build(DYNAMIC)
    told = bench._shop.progress
    stages = list(told.stages)  # type: ignore[attr-defined]
    bench.cost(DYNAMIC)
    assert one == sha256_file(asked[0]["0"].path) == bench.build(DYNAMIC.model_copy(update={"threads": 1}))
    assert one != bench.build(FP32)
    assert told.stages[: len(stages)] == stages  # type: ignore[attr-defined]
    assert told.stages.count("Exporting to ONNX") == 1  # type: ignore[attr-defined]


def test_latency_is_scaled_by_the_reference_that_is_measured_beside_it(opened: Open, take: Take) -> None:
    bench, _ = opened()
    asked = take(4.0, (8.0, 6.0), (2.0, 1.0))
    assert bench.cost(FP32) == 4.0
    assert bench.cost(DYNAMIC) == 3.0  # while the machine was twice as slow
    assert bench.cost(DYNAMIC) == 2.0
    assert [len(runs) for runs in asked] == [1, 2, 2]
    assert asked[1]["0"] == asked[0]["0"]


def test_what_an_earlier_session_measured_is_the_anchor_of_this_one(opened: Open, take: Take) -> None:
    bench, _ = opened()
    asked = take((4.0, 1.0), (2.0, 1.0))
    bench.anchor(FP32, 8.0)  # this machine is twice as fast today
    assert bench.cost(DYNAMIC) == 2.0
    found = bench.speedup(DYNAMIC)
    assert (found.ratio, found.ci95) == (2.0, (2.0, 2.0))
    assert asked[0]["0"].path == asked[1]["0"].path != asked[1]["1"].path


def test_without_an_interval_there_is_no_speedup(opened: Open, take: Take) -> None:
    bench, _ = opened()
    take((steady(4.0, rounds=1), steady(1.0, rounds=1)))
    bench.anchor(FP32, 4.0)
    assert bench.speedup(DYNAMIC) is None


def test_of_a_board_that_is_not_here_nothing_is_anchored_and_no_speedup_told(opened: Open, take: Take) -> None:
    (bench, _), asked = opened(known_board()), take()
    bench.anchor(FP32, 100.0)
    assert bench.speedup(DYNAMIC) is None
    assert asked == []


def test_sessions_and_threads_are_the_policys_own(opened: Open, take: Take) -> None:
    bench, _ = opened(threads=3)
    asked = take(1.0, (1.0, 1.0), (1.0, 1.0))
    stored = Policy(conv="int8-weights", session={"session.intra_op.allow_spinning": "0"}, threads=1)
    for policy in (FP32, stored, FP32):
        bench.cost(policy)
    expected = {**apply.FOLD_WEIGHTS, "session.intra_op.allow_spinning": "0"}
    assert (asked[1]["1"].threads, asked[1]["1"].config) == (1, expected)
    assert (asked[2]["1"].threads, asked[2]["1"].config) == (3, {})
    assert asked[2]["1"].input_shape == (1, 1, 32, 32)


def test_what_crashes_while_it_is_measured_is_an_error(opened: Open, take: Take) -> None:
    bench, _ = opened()
    take(Interleaved(failed="Its process was killed by signal 4."))
    with pytest.raises(MeasurementError, match=r"^Its process was killed by signal 4\.$"):
        bench.cost(FP32)


def test_held_out_pictures_are_judged_in_parts_and_once(
    opened: Open, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _ = opened()
    asked = take(1.0)
    bench.cost(DYNAMIC)
    expected = hits(asked[0]["0"].path, digits().val)
    np.testing.assert_array_equal(bench.correct(DYNAMIC, 0, 16), expected[:16])
    np.testing.assert_array_equal(bench.correct(DYNAMIC, 16, 40), expected[16:])
    monkeypatch.setattr(BuildingWorkbench, "_is_correct", None)
    np.testing.assert_array_equal(bench.correct(DYNAMIC.model_copy(update={"threads": 1}), 0, 16), expected[:16])


def test_the_third_set_is_the_test_split(opened: Open, take: Take) -> None:
    bench, _ = opened()
    asked = take(1.0)
    bench.cost(FP32)
    np.testing.assert_array_equal(bench.tested(FP32), hits(asked[0]["0"].path, digits().test))


def test_what_was_chosen_is_confirmed_on_pictures_that_no_trial_was_judged_by(opened: Open, take: Take) -> None:
    bench, _ = opened(evidence=digits_evidence().judging_by(16, 10))
    asked = take(1.0)
    bench.cost(FP32)
    assert bench.pictures == 16
    np.testing.assert_array_equal(bench.confirmed(FP32), hits(asked[0]["0"].path, digits().val)[16:26])
    assert opened()[0].confirmed(FP32).shape == (0,)


def test_a_board_of_a_known_core_is_judged_by_estimated_instructions(opened: Open, take: Take) -> None:
    (bench, space), asked = opened(known_board()), take()
    assert space.runtimes == ("onnxruntime",)
    path = bench._artifact(DYNAMIC).path
    assert bench.cost(DYNAMIC) == cost_of(path, load_costs()[0]).million_instructions
    assert bench.cost(FP32) != bench.cost(DYNAMIC)
    assert asked == []


def test_a_board_of_an_unknown_core_is_refused(opened: Open) -> None:
    device = device_elsewhere()
    with pytest.raises(DeviceError) as caught:
        opened(device)
    assert str(caught.value) == (
        "Device 'a-board' cannot be measured here, and what instructions cost on its "
        f"{device.cpu.clusters[0].model} is not known. Run 'edgevit tune' on a machine of its kind."
    )


@pytest.mark.parametrize("missing", ["judged", "tested"])
def test_without_labelled_pictures_there_is_no_search(opened: Open, missing: str) -> None:
    words = r"^A search needs labelled pictures of the classes that the model was trained for\.$"
    with pytest.raises(InputError, match=words):
        opened(evidence=replace(digits_evidence(), **{missing: None}))


def test_a_size_that_the_model_does_not_take_is_refused_before_anything_is_built(opened: Open) -> None:
    with pytest.raises(InputError, match=r"image_size 36 is not a multiple"):
        opened(sizes=(64, 36))


def test_what_cannot_be_built_says_why(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise EdgevitError("ONNX Runtime cannot quantize this model: ValueError no.")

    bench, _ = opened()
    monkeypatch.setattr(apply, "quantize_dynamic", fail)
    with pytest.raises(EdgevitError, match=r"^ONNX Runtime cannot quantize this model: ValueError no\.$"):
        bench.build(DYNAMIC)


def test_a_hop_that_fails_says_which(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _ = opened()
    monkeypatch.setattr(hops, "measure_parity", failing(hops.measure_parity))
    with pytest.raises(ParityError, match=r"^fp32 -> policy-0: "):
        bench.build(DYNAMIC)


def failing(measure: Callable[..., Any]) -> Callable[..., Any]:
    """As `measure`, but what became INT8 never passes."""
    return lambda hop, *rest: measure(hop, *rest).model_copy(update={"passed": not hop.startswith("fp32")})


def test_the_chosen_policy_is_handed_over_as_a_bundle(opened: Open, tmp_path: Path) -> None:
    bench, _ = opened(threads=3)
    policy = DYNAMIC.model_copy(update={"threads": 1})
    verdict = Verdict(shipped="ours", budget=Budget(), within_budget=True, sentences=("Ours.",))
    bench.write_bundle(policy, tmp_path / "bundle", verdict, BundleAccuracy(note="None."))
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert (manifest.policy, manifest.device.threads, manifest.verdict) == (policy, 1, verdict)
    assert (manifest.precision, manifest.accuracy.note) == ("int8-dynamic", "None.")
    with pytest.raises(InputError):
        bench.write_bundle(policy, tmp_path / "bundle", verdict, BundleAccuracy(note="None."))
