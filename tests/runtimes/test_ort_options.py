"""The three session entries of our own, for options that ONNX Runtime has no entries for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from edgevit.errors import BadFileError
from edgevit.runtimes import open_session
from edgevit.runtimes.onnxruntime import (
    CPU_ARENA,
    CPU_PROVIDER,
    GRAPH_LEVEL,
    PROVIDER,
    built_providers,
    session_options,
)

LEVELS = onnxruntime.GraphOptimizationLevel


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({}, LEVELS.ORT_ENABLE_ALL),
        ({GRAPH_LEVEL: "all"}, LEVELS.ORT_ENABLE_ALL),
        ({GRAPH_LEVEL: "extended"}, LEVELS.ORT_ENABLE_EXTENDED),
        ({GRAPH_LEVEL: "basic"}, LEVELS.ORT_ENABLE_BASIC),
    ],
)
def test_the_graph_level_is_the_one_that_is_named(config: dict[str, str], level: object) -> None:
    assert session_options(1, config).graph_optimization_level == level


@pytest.mark.parametrize(("config", "has_arena"), [({}, True), ({CPU_ARENA: "1"}, True), ({CPU_ARENA: "0"}, False)])
def test_the_arena_is_there_unless_it_is_switched_off(config: dict[str, str], has_arena: bool) -> None:
    assert session_options(1, config).enable_cpu_mem_arena is has_arena


def test_threads_are_inside_an_operator_and_other_entries_are_handed_on() -> None:
    options = session_options(3, {"session.set_denormal_as_zero": "1"})
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"


@pytest.mark.parametrize("level", ["everything", "", "all "])
def test_a_level_that_does_not_exist_is_not_blamed_on_the_model(make_onnx: Callable[..., Path], level: str) -> None:
    path = make_onnx()
    words = re.escape(
        f"{path}: asks for what ONNX Runtime {onnxruntime.__version__} does not have "
        f"(no graph level '{level}'). Export it again, or use a newer onnxruntime."
    )
    with pytest.raises(BadFileError, match=words):
        open_session(path, "onnxruntime", 1, {GRAPH_LEVEL: level})


@pytest.mark.parametrize("config", [{GRAPH_LEVEL: "basic"}, {GRAPH_LEVEL: "extended", CPU_ARENA: "0"}])
def test_a_session_opens_with_either(make_onnx: Callable[..., Path], config: dict[str, str]) -> None:
    assert open_session(make_onnx(), "onnxruntime", 1, config).input_type == "float32"


def test_a_provider_that_is_not_built_in_is_not_blamed_on_the_model(make_onnx: Callable[..., Path]) -> None:
    path = make_onnx()
    words = re.escape(
        f"{path}: asks for what ONNX Runtime {onnxruntime.__version__} does not have (no provider 'Nil')."
    )
    with pytest.raises(BadFileError, match=words):
        open_session(path, "onnxruntime", 1, {PROVIDER: "Nil"})


@pytest.mark.parametrize(
    ("provider", "options"), [("AnyExecutionProvider", {}), ("XnnpackExecutionProvider", {"intra_op_num_threads": "3"})]
)
def test_a_provider_goes_before_the_cpus_and_xnnpack_is_told_its_threads(
    make_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, provider: str, options: dict[str, str]
) -> None:
    asked: list[object] = []
    real = onnxruntime.InferenceSession

    def open_here(path: str, session_options: object, providers: list[object]) -> object:
        asked.extend(providers)
        return real(path, session_options, providers=[CPU_PROVIDER])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider, CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_here)
    open_session(make_onnx(), "onnxruntime", 3, {PROVIDER: provider})
    assert asked == [(provider, options), CPU_PROVIDER]


def test_the_cpus_own_provider_is_always_there(make_onnx: Callable[..., Path]) -> None:
    assert CPU_PROVIDER in built_providers()
    assert open_session(make_onnx(), "onnxruntime", 1, {PROVIDER: CPU_PROVIDER}).input_type == "float32"
