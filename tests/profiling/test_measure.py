from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from profiles import PRESET, kernel, model_run
from tiny_models import VIT_SHAPE, vit_graph

from edgevit.bundle import load_bundle
from edgevit.errors import InputError, MeasurementError
from edgevit.profiling import measure
from edgevit.profiling.gemm import KINDS, SIDES
from edgevit.profiling.measure import profile_bundles
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes

MakeBundle = Callable[..., Path]
# Multiply-accumulates of VIT (32 x 32 gray, patches of 8, 32 channels, 2 blocks of 2 heads, 10 classes) by hand.
TOKENS, CHANNELS = 17, 32
LINEAR_MACS = 2 * TOKENS * (CHANNELS * 3 * CHANNELS + CHANNELS * CHANNELS + 2 * CHANNELS * 4 * CHANNELS) + CHANNELS * 10
ATTENTION_MACS = 2 * 2 * (2 * TOKENS * TOKENS * 16)
PATCH_MACS = 16 * CHANNELS * 8 * 8


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "MIN_SECONDS", 0.0)


def test_a_dynamic_int8_vit_is_profiled_in_a_process_of_its_own(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None], short: None
) -> None:
    model = {"name": "tiny-vit", "weights": "random", "input_shape": VIT_SHAPE, "classes": 4}
    root = make_bundle(precision="int8-dynamic", model=model)
    graph = vit_graph()
    onnx.save(quantize_dynamic(graph, quantizable_nodes(graph).linear, PRESET), root / "model.onnx")
    sign_bundle(root)
    (profile,) = profile_bundles([load_bundle(root)], threads=1)
    assert (profile.kind, profile.model, profile.precision, profile.threads) == (
        "profile", "tiny-vit", "int8-dynamic", 1
    )  # fmt: skip
    assert profile.runs >= 16
    macs = {part: sum(row.macs or 0 for row in profile.operators if row.part == part) for part in (
        "linear layers", "attention products", "convolutions"
    )}  # fmt: skip
    assert macs == {
        "linear layers": LINEAR_MACS, "attention products": ATTENTION_MACS, "convolutions": PATCH_MACS
    }  # fmt: skip
    linear = [node for node in profile.nodes if node.part == "linear layers"]
    assert {(node.op_type, node.arithmetic, node.has_weights) for node in linear} == {
        ("DynamicQuantizeMatMul", "int8", True)
    }
    assert {node.module for node in linear if node.module} >= {"blocks.0.attn.qkv", "blocks.1.mlp.fc2", "head"}
    (convolution,) = (node for node in profile.nodes if node.part == "convolutions")
    assert profile.float_weights == (convolution.name,)
    assert {"patch_embed", "blocks.*.attn", "blocks.*.mlp", "head"} <= {row.module for row in profile.kinds}
    assert sum(row.ms for row in profile.modules) == pytest.approx(profile.kernels_ms)
    assert sum(row.ms for row in profile.operators) == pytest.approx(profile.kernels_ms)


def test_two_bundles_take_turns(make_bundle: MakeBundle, short: None) -> None:
    bundles = [load_bundle(make_bundle("a")), load_bundle(make_bundle("b"))]
    rounds: list[int] = []
    profiles = profile_bundles(bundles, on_round=rounds.append)
    assert [profile.bundle for profile in profiles] == [str(bundle.path) for bundle in bundles]
    assert rounds[0] == 1
    assert [node.op_type for node in profiles[1].nodes] == ["GlobalAveragePool", "Flatten", "Gemm"]


@pytest.mark.parametrize(
    ("runtime", "why"),
    [
        ("torchscript", "which tells no times of operators"),
        (
            "litert",
            "whose Python API tells no times of operators (https://github.com/tensorflow/tensorflow/issues/59095)",
        ),
    ],
)
def test_a_runtime_that_tells_no_times_is_refused(make_bundle: MakeBundle, runtime: str, why: str) -> None:
    root = make_bundle(runtime={"name": runtime, "version": "2.9", "entry": "model.onnx", "session": {}})
    with pytest.raises(InputError) as caught:
        profile_bundles([load_bundle(root)])
    assert str(caught.value) == f"{root}: runs in {runtime}, {why}. Profile a bundle of onnxruntime."


def test_a_model_that_cannot_be_loaded_is_bad_input(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]
) -> None:
    root = make_bundle()
    (root / "model.onnx").write_bytes(b"no model")
    sign_bundle(root)
    with pytest.raises(InputError, match=rf"^{root}/model.onnx: ONNX Runtime \S+ cannot load it \("):
        profile_bundles([load_bundle(root)])


class FakeWorker:
    """Runs its 'a' (40 µs) without a process, one second a run."""

    def __init__(self, words: Sequence[str], fault: str = "") -> None:
        self.fault, self.is_killed = fault, False
        self.options = dict(zip(words[::2], words[1::2], strict=True))
        self._folder = Path(self.options["--folder"])
        self._runs, self._request = 0, -1
        shutil.copy(self.options["--path"], self._folder / "executed.onnx")

    def ask(self, runs: int) -> None:
        self._request = runs

    def receive(self) -> dict[str, Any]:
        if self._request < 0:
            executed = str(self._folder / "executed.onnx")
            ready = {"typical_ms": 1000.0, "warmup_runs": 3, "is_steady": False, "version": "9.9"}
            return {**ready, "executed": executed}
        if self.fault:
            raise MeasurementError(self.fault)
        if self._request > 0:
            self._runs += self._request
            times = {"plain_ms": [1000.0] * self._request, "profiled_ms": [1100.0] * self._request}
            return {**times, "passed_s": 10.0, "waited_s": 2.5}
        path = self._folder / "trace.json"
        events = [
            event for i in range(self._runs) for event in (model_run(100 * i, 50), kernel("a", "Add", 100 * i, 40))
        ]
        path.write_text(json.dumps(events))
        gemm_ms = {f"{kind}-{side}": 1.0 for kind in KINDS for side in SIDES}
        return {"trace": str(path), "is_counted": [True] * self._runs, "gemm_ms": gemm_ms}

    def kill(self) -> None:
        self.is_killed = True


def test_a_slow_model_is_run_sixteen_times_in_turns_of_four(make_bundle: MakeBundle) -> None:
    workers: list[FakeWorker] = []

    def start(words: Sequence[str]) -> FakeWorker:
        workers.append(FakeWorker(words))
        return workers[-1]

    rounds: list[int] = []
    (profile,) = profile_bundles([load_bundle(make_bundle())], 3, on_round=rounds.append, start=start)
    assert rounds == [1, 2, 3, 4]
    assert (profile.runs, profile.threads, profile.warmup_runs, profile.runtime_version) == (16, 3, 3, "9.9")
    assert (profile.wall_ms, profile.profiled_ms, profile.kernels_ms) == (1000.0, 1100.0, 0.04)
    assert profile.outside_ms == 0.01
    assert (workers[0].options["--threads"], workers[0].options["--shape"]) == ("3", "[1, 3, 8, 8]")
    assert workers[0].is_killed


def test_what_disturbed_the_measurement_is_noted(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"before": [], "after": ["throttled-occurred"]}

    def look(at: str, kind: str) -> dict[str, Any]:
        return {"at": at, "load_1min": 1e6, "throttled": False, "throttle_flags": flags[at]}

    counts = iter((3, 5))
    monkeypatch.setattr(measure, "read_sensors", look)
    monkeypatch.setattr(measure, "read_throttle_count", lambda: next(counts))
    (profile,) = profile_bundles([load_bundle(make_bundle())], start=FakeWorker)
    told = " ".join(profile.notes)
    assert "The CPU throttled between two looks at it (throttled-occurred): " in told
    assert "The CPU throttled 2 times during the run (the machine's counter): " in told
    assert "had not come to rest after 3 warm-up runs" in told
    assert "The load was 1000000.0 on " in told
    assert "For 25 % of the time other work had the core" in told


def test_a_process_that_fails_is_named_by_its_bundle_and_all_are_ended(make_bundle: MakeBundle) -> None:
    root = make_bundle()
    workers: list[FakeWorker] = []

    def start(words: Sequence[str]) -> FakeWorker:
        workers.append(FakeWorker(words, "It gave no answer within 120 s."))
        return workers[-1]

    with pytest.raises(MeasurementError, match=rf"^{root}: could not be profiled. It gave no answer within 120 s.$"):
        profile_bundles([load_bundle(root)], start=start)
    assert workers[0].is_killed
