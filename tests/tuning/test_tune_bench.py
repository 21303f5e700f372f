"""What a search may vary on a device, and what its workbench keeps and shares; the rest is in test_workbench."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from digits_shop import Told, device_here, digits_evidence, known_board, steady, vit_subject
from onnx import TensorProto, helper
from tiny_models import vit_graph

from edgevit import build
from edgevit.bench.interleave import ArtifactRun, Interleaved
from edgevit.build import KEPT_FORMS
from edgevit.device import Device
from edgevit.makers import litert
from edgevit.policies import exact_policy
from edgevit.policy import Policy
from edgevit.rewrite.token_schedule import schedule
from edgevit.search.worker import reference_of
from edgevit.store import sha256_file
from edgevit.tuning import stopwatch as timing
from edgevit.tuning.search_space import thread_counts
from edgevit.tuning.stopwatch import Stopwatch
from edgevit.tuning.workbench import BuildingWorkbench, opened_workbench

FP32, DYNAMIC, STATIC = Policy(), Policy(linear="int8-dynamic"), Policy(linear="int8-static")
REWRITES = ("layer-norm", "gelu", "positions", "class-token", "layout")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """opened(…): a workbench of the tiny ViT and its space; closed when the test ends."""
    monkeypatch.setattr(build, "export_onnx", lambda *_: vit_graph())
    contexts = []

    def make(**options: Any) -> Any:
        arguments = options.pop("device", device_here()), digits_evidence(), 2, (), options.pop("told", Told())
        contexts.append(opened_workbench(vit_subject(), *arguments, **options))
        return contexts[-1].__enter__()

    yield make
    for context in contexts:
        context.__exit__(None, None, None)


def folder(bench: BuildingWorkbench) -> Path:
    return bench._shop.folder


def size_mib(bench: BuildingWorkbench) -> float:
    return sum(path.stat().st_size for path in folder(bench).iterdir()) / 2**20


def variety(number: int) -> Policy:
    """Each has a form of its own, 31 of them."""
    rewrites = tuple(name for bit, name in enumerate(REWRITES) if (number + 1) >> bit & 1)
    return Policy(linear="int8-dynamic", rewrites=rewrites)


def board(cores: int, threads: int) -> Device:
    clusters = (device_here().cpu.clusters[0].model_copy(update={"cores": cores}),)
    cpu = device_here().cpu.model_copy(update={"clusters": clusters})
    return device_here().model_copy(update={"cpu": cpu, "threads": threads})


@pytest.mark.parametrize(
    ("cores", "threads", "host_cores", "expected"),
    [(4, 4, 8, (2, 1)), (4, 1, 8, (2, 4)), (6, 4, 64, (6, 2, 1)), (8, 2, 2, (1,)), (1, 1, 8, ())],
)
def test_threads_are_doubled_up_to_the_cores_of_board_and_host_nearest_first(cores, threads, host_cores, expected):
    assert thread_counts(board(cores, threads), host_cores) == expected


def test_thread_counts_are_searched_when_they_are_given_and_only_then(opened):
    assert opened(thread_counts=(1,))[1].threads == (None, 1)
    assert opened()[1].threads == (None,)


def convolutions(between: str) -> onnx.ModelProto:
    """Two convolutions with a function in between, and one value for each of ten classes."""
    tensors = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, [value] * count)
        for name, shape, value, count in (("a", (2, 1, 1, 1), 2.0, 2), ("b", (10, 2, 32, 32), 0.1, 20480))
    ]
    nodes = [
        helper.make_node("Conv", ["pixels", "a"], ["x"], "first"),
        helper.make_node(between, ["x"], ["y"], "between"),
        helper.make_node("Conv", ["y", "b"], ["z"], "second"),
        helper.make_node("Flatten", ["z"], ["logits"], "flatten"),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, (1, 1, 32, 32))
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 10))
    graph = helper.make_graph(nodes, "convolutions", [pixels], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("between", "choices"), [("Relu", (False, True)), ("Sigmoid", (False,))])
def test_equalization_is_searched_where_two_convolutions_allow_it(between, choices):
    subject = vit_subject(model=None, graph=convolutions(between))
    with opened_workbench(subject, device_here(), digits_evidence(), 1, (), Told()) as (_, space):
        assert space.equalize == choices


def test_a_vit_has_nothing_to_equalize(opened):
    assert opened()[1].equalize == (False,)


def test_with_the_space_of_an_earlier_search_nothing_is_exported_until_something_is_built(opened):
    _, space = opened()
    told = Told()
    bench, same = opened(space=space, told=told)
    bench.keep([DYNAMIC])
    assert (same, told.stages) == (space, [])
    bench.build(DYNAMIC)
    assert "Exporting to ONNX" in told.stages


def test_litert_is_built_by_its_own_maker_and_converted_once_for_a_form(opened, monkeypatch):
    pytest.importorskip("litert_torch")
    from litert_files import converted

    monkeypatch.setattr(litert, "export_litert", lambda graph, path, _: Path(shutil.copy(converted("vit"), path)))
    told, policy = Told(), exact_policy("litert").model_copy(update={"linear": "int8-dynamic"})
    bench, space = opened(told=told, runtime="litert")
    first = bench.build(policy)
    bench.keep([])
    assert [path.name[:4] for path in folder(bench).glob("*.tflite")] == ["form"]
    assert bench.build(policy) == first
    assert told.stages.count("Converting to LiteRT") == 1
    assert bench.correct(policy, 0, 4).shape == (4,)
    assert bench.build(policy.model_copy(update={"linear": "fp32"})) == sha256_file(converted("vit"))
    assert (space.runtimes, reference_of("", {"": space}, schedule).policy) == (("litert",), exact_policy("litert"))


def test_what_lost_is_deleted_and_built_again_when_it_is_asked_for(opened):
    bench, _ = opened(device=known_board())
    first = bench.build(DYNAMIC)
    bench.build(STATIC)
    static = bench._artifact(STATIC).path
    bench.correct(DYNAMIC, 0, 4)
    bench.keep([STATIC])
    assert [path.name for path in folder(bench).glob("policy-*")] == [static.name]
    assert bench._verdicts == {}
    assert bench.build(DYNAMIC) == first
    assert bench.build(STATIC) == sha256_file(static)


def test_the_disk_and_what_is_remembered_do_not_grow_with_the_trials(opened):
    """Each trial has a form of its own; only those in memory and the best trial's files are kept."""
    bench, _ = opened(device=known_board())
    bench.keep([])
    sizes, counts = [], []
    for number in range(4 * KEPT_FORMS):
        bench.build(variety(number))
        bench.correct(variety(number), 0, 4)
        bench.keep([variety(0)])
        sizes.append(size_mib(bench))
        counts.append((len(bench._artifacts), len(bench._verdicts)))
    assert max(sizes[KEPT_FORMS:]) <= 1.02 * sizes[KEPT_FORMS]
    assert max(counts) == (1, 1)
    assert bench._artifact(variety(0)).path.exists()


def test_models_share_the_artifact_that_they_are_timed_beside_and_it_is_never_deleted(opened, monkeypatch):
    asked: list[dict[str, ArtifactRun]] = []

    def measure(runs: Mapping[str, ArtifactRun], **_: object) -> dict[str, Interleaved]:
        asked.append(dict(runs))
        return {name: steady(4.0) for name in runs}

    monkeypatch.setattr(timing, "measure_interleaved", measure)
    stopwatch = Stopwatch(2)
    (one, _), (other, _) = opened(stopwatch=stopwatch), opened(stopwatch=stopwatch)
    one.cost(DYNAMIC)
    one.keep([])
    other.cost(FP32)
    assert [len(runs) for runs in asked] == [1, 2]
    assert asked[1]["0"].path == asked[0]["0"].path
    assert asked[1]["0"].path.exists()
