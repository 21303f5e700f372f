from __future__ import annotations

import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fake_gpu import ENGINE_MARK, fake_tensorrt, spoken_in

from edgevit.board.trtbuilder import build_by_api, build_in_process
from edgevit.board.trtexec import EngineRecipe
from edgevit.errors import DeviceError, EdgevitError

NUMBERS = {"8.5": (8, 5, 3), "8.6": (8, 6, 1), "10.3": (10, 3, 0)}


@pytest.fixture(autouse=True)
def _nobody_spoke_to_the_gpu() -> None:
    spoken_in.clear()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    (tmp_path / "model.onnx").write_bytes(b"a model")
    return str(tmp_path / "model.onnx"), str(tmp_path / "an.engine"), str(tmp_path / "timing.cache")


@pytest.mark.parametrize("version", list(NUMBERS))
def test_each_version_is_asked_for_what_it_has(version: str, files: tuple[str, str, str]) -> None:
    log: dict[str, Any] = {}
    assert build_by_api(fake_tensorrt(version, log), NUMBERS[version], EngineRecipe("int8", ("b",)), files) == ""
    assert Path(files[1]).read_bytes() == ENGINE_MARK + b"a model"
    assert log["network_flags"] == (0 if version == "10.3" else 1)
    assert log["workspace"] == 1024 * 1024 * 1024
    assert log["flags"] == ["FP16", "INT8", "OBEY"]
    assert log["held"] == [None, "float32"]
    assert ("builder_optimization_level" in log) == (version != "8.5")


@pytest.mark.parametrize(("precision", "flags"), [("fp32", None), ("fp16", ["FP16"]), ("int8", ["FP16", "INT8"])])
def test_the_flags_are_those_of_the_precision(precision: str, flags: Any, files: tuple[str, str, str]) -> None:
    log: dict[str, Any] = {}
    build_by_api(fake_tensorrt("10.3", log), NUMBERS["10.3"], EngineRecipe(precision), files)
    assert log.get("flags") == flags


def test_the_timing_cache_is_given_and_kept(files: tuple[str, str, str]) -> None:
    log: dict[str, Any] = {}
    for _ in range(2):
        build_by_api(fake_tensorrt("8.6", log), NUMBERS["8.6"], EngineRecipe(), files)
    assert log["timing_cache"] == b"learned "
    assert Path(files[2]).read_bytes() == b"learned learned "


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("refuse-model", r"cannot build the engine: In node 3 \(QuantizeLinear\): UNSUPPORTED_NODE"),
        ("no-engine", r"cannot build the engine: 4: \[network\.cpp\] no implementation for node 'x'"),
        ("raise", r"cannot build the engine: RuntimeError no memory"),
    ],
)
def test_a_failure_is_told_in_tensorrt_s_own_words(does: str, words: str, files: tuple[str, str, str]) -> None:
    with pytest.raises(EdgevitError, match=words):
        build_in_process(lambda: fake_tensorrt("10.3", does=does), NUMBERS["10.3"], EngineRecipe(), files, 60.0)
    assert not os.path.exists(files[1])


def test_an_engine_is_built_in_another_process(files: tuple[str, str, str]) -> None:
    build_in_process(lambda: fake_tensorrt("10.3"), NUMBERS["10.3"], EngineRecipe("fp16"), files, 60.0)
    assert Path(files[1]).read_bytes() == ENGINE_MARK + b"a model"


def test_a_process_that_dies_without_a_word_is_told(files: tuple[str, str, str]) -> None:
    def die() -> ModuleType:
        os._exit(7)

    with pytest.raises(EdgevitError, match="its process ended with code 7"):
        build_in_process(die, NUMBERS["10.3"], EngineRecipe(), files, 60.0)


def hang() -> ModuleType:
    time.sleep(600)
    raise AssertionError


@pytest.mark.parametrize("ends_by", ["timeout", "interrupt"])
def test_one_that_hangs_is_ended(ends_by: str, files: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.board.trtbuilder.JOIN_SECONDS", 0.1)
    ticks = iter([0.0, 1.0, 100.0])
    told: list[float] = []

    def tell(seconds: float, limit_s: float) -> None:
        told.append(seconds)
        if ends_by == "interrupt":
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(EdgevitError if ends_by == "timeout" else KeyboardInterrupt):
        build_in_process(hang, NUMBERS["10.3"], EngineRecipe(), files, 60.0, tell, lambda: next(ticks))
    assert told == [1.0]
    assert time.monotonic() - began < 300
    assert not os.path.exists(files[1])


def test_a_version_that_is_too_old_is_refused_before_a_process_is_started(files: tuple[str, str, str]) -> None:
    with pytest.raises(DeviceError, match="older than"):
        build_in_process(hang, (8, 4, 1), EngineRecipe(), files, 60.0)
