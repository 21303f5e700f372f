from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit.board.cuda import Gpu
from edgevit.board.engines import (
    Engine,
    EngineKey,
    discard_engine,
    engine_folder,
    engine_key,
    ensure_engine,
    kept_engine,
    recipe_of,
    timing_cache,
)
from edgevit.board.trtexec import EngineRecipe
from edgevit.errors import DeviceError, EdgevitError

ORIN = Gpu("Orin", "8.7", 16)
RECIPE = EngineRecipe("fp16")


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "engines")


class Builder:
    """Writes an engine and counts how often it did."""

    def __init__(self, content: bytes = b"an engine", fails: BaseException | None = None) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self._content, self._fails = content, fails

    def __call__(self, model: str, engine: str, cache: str) -> None:
        self.calls.append((model, engine, cache))
        Path(engine).write_bytes(self._content)
        if self._fails:
            raise self._fails


def ensured(model: str, folder: str, builder: Builder, key: EngineKey | None = None, force: bool = False) -> Engine:
    key = key or engine_key(model, ORIN, (10, 3, 0), RECIPE)
    ticks = iter([100.0, 112.5])
    return ensure_engine(model, key, folder, builder, "trtexec 10.3.0", force, clock=lambda: next(ticks))


def test_an_engine_is_built_once_and_found_again(model: str, folder: str) -> None:
    builder = Builder()
    first, second = (ensured(model, folder, builder) for _ in range(2))
    assert len(builder.calls) == 1
    assert (first.was_built, first.seconds, first.built_by) == (True, 12.5, "trtexec 10.3.0")
    assert second == replace(first, was_built=False)
    assert Path(first.path).read_bytes() == b"an engine"
    assert os.path.basename(first.path).startswith("orin-trt10.3.0-fp16-")
    assert sorted(os.listdir(folder)) == sorted([os.path.basename(first.path), os.path.basename(first.path) + ".json"])


KEYS: list[tuple[str, Callable[[EngineKey], EngineKey]]] = [
    ("model", lambda key: replace(key, model_sha256="0" * 64)),
    ("gpu", lambda key: replace(key, gpu=Gpu("Orin", "8.7", 8).key)),
    ("tensorrt", lambda key: replace(key, tensorrt="10.3.1")),
    ("precision", lambda key: replace(key, precision="int8")),
    ("layers", lambda key: replace(key, float32_layers=("norm",))),
]


@pytest.mark.parametrize("change", [change for _, change in KEYS], ids=[name for name, _ in KEYS])
def test_another_model_gpu_version_or_recipe_is_another_engine(
    change: Callable[[EngineKey], EngineKey], model: str, folder: str
) -> None:
    builder, key = Builder(), engine_key(model, ORIN, (10, 3, 0), RECIPE)
    first, second = ensured(model, folder, builder, key), ensured(model, folder, builder, change(key))
    assert len(builder.calls) == 2
    assert first.path != second.path
    assert kept_engine(key, folder) is not None


def test_force_builds_it_anew(model: str, folder: str) -> None:
    builder = Builder()
    ensured(model, folder, builder)
    assert ensured(model, folder, builder, force=True).was_built
    assert len(builder.calls) == 2


@pytest.mark.parametrize("damage", ["cut", "no notes", "broken notes", "other key", "gone"])
def test_an_engine_that_is_not_whole_is_built_anew(damage: str, model: str, folder: str) -> None:
    builder = Builder()
    path = Path(ensured(model, folder, builder).path)
    notes = Path(f"{path}.json")
    if damage == "cut":
        path.write_bytes(b"an en")
    elif damage == "no notes":
        notes.unlink()
    elif damage == "broken notes":
        notes.write_text("{")
    elif damage == "other key":
        content = json.loads(notes.read_text())
        content["key"]["tensorrt"] = "8.6.1"
        notes.write_text(json.dumps(content))
    else:
        path.unlink()
    assert ensured(model, folder, builder).was_built
    assert path.read_bytes() == b"an engine"


@pytest.mark.parametrize(
    "error", [EdgevitError("refused"), KeyboardInterrupt(), OSError(28, "No space left on device")]
)
def test_whatever_ends_a_build_leaves_nothing_and_keeps_the_engine_before(
    error: BaseException, model: str, folder: str
) -> None:
    before = ensured(model, folder, Builder())
    expected = DeviceError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        ensured(model, folder, Builder(fails=error), force=True)
    names = {os.path.basename(before.path), os.path.basename(before.path) + ".json"}
    assert set(os.listdir(folder)) == names
    assert kept_engine(before.key, folder) == replace(before, was_built=False)


def test_a_full_disk_is_told_with_the_folder(model: str, folder: str) -> None:
    with pytest.raises(DeviceError, match=r"engines: the engine cannot be kept there \(No space left on device\)"):
        ensured(model, folder, Builder(fails=OSError(28, "No space left on device")))


def test_an_empty_engine_is_none(model: str, folder: str) -> None:
    with pytest.raises(DeviceError, match=r"trtexec 10\.3\.0 said that it was done, and wrote no engine"):
        ensured(model, folder, Builder(content=b""))
    assert os.listdir(folder) == []


def test_too_little_room_is_told_before_anything_is_built(
    model: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 3 * 1024 * 1024})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    builder = Builder()
    with pytest.raises(DeviceError, match=r"3 MiB are free, and building an engine takes 64\. Make room, or set XDG"):
        ensured(model, folder, builder)
    assert builder.calls == []


def test_a_folder_that_cannot_be_written_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"file: the engine cannot be kept there"):
        ensured(model, str(tmp_path / "file"), Builder())


def test_what_a_dead_build_left_is_cleared_away_and_a_living_one_s_kept(model: str, folder: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    os.makedirs(folder)
    dead, living = Path(folder, f".building-{gone.pid}-abc"), Path(folder, f".building-{os.getppid()}-abc")
    dead.write_text("half")
    living.write_text("half")
    ensured(model, folder, Builder())
    assert (dead.exists(), living.exists()) == (False, True)


def test_engines_of_one_gpu_and_version_share_their_timing_cache(model: str, folder: str) -> None:
    key = engine_key(model, ORIN, (10, 3, 0), RECIPE)
    assert timing_cache(key, folder) == timing_cache(replace(key, model_sha256="0", precision="int8"), folder)
    assert timing_cache(key, folder) != timing_cache(replace(key, tensorrt="8.6.1"), folder)
    assert timing_cache(key, folder) != timing_cache(replace(key, gpu="Xavier"), folder)
    builder = Builder()
    ensured(model, folder, builder)
    assert builder.calls[0][2] == timing_cache(key, folder)


def test_the_key_holds_the_model_s_content(model: str) -> None:
    before = engine_key(model, ORIN, (8, 5, 3), RECIPE)
    Path(model).write_bytes(b"b model")
    after = engine_key(model, ORIN, (8, 5, 3), RECIPE)
    assert before.model_sha256 != after.model_sha256
    assert before.digest != after.digest
    assert before.gpu == "Orin, compute capability 8.7, 16 multiprocessors"


def test_a_discarded_engine_is_gone(model: str, folder: str) -> None:
    engine = ensured(model, folder, Builder())
    discard_engine(engine)
    discard_engine(engine)
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("config", "recipe"),
    [
        ({}, EngineRecipe("fp32")),
        ({"tensorrt.precision": "int8"}, EngineRecipe("int8")),
        ({"tensorrt.precision": "fp16", "tensorrt.float32_layers": "a,b"}, EngineRecipe("fp16", ("a", "b"))),
    ],
)
def test_the_manifest_says_how_the_engine_is_built(config: dict[str, str], recipe: Any) -> None:
    assert recipe_of(config) == recipe


def test_a_precision_that_is_not_known_is_refused() -> None:
    with pytest.raises(DeviceError, match="asks for an engine in 'fp4', which this agent does not build"):
        recipe_of({"tensorrt.precision": "fp4"})


def test_engines_are_kept_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert engine_folder() == "/elsewhere/edgevit/engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert engine_folder() == "/home/me/.cache/edgevit/engines"
