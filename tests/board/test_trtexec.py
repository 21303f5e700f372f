from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_trtexec
import pytest

from edgevit.board.trtexec import (
    EngineRecipe,
    banner_version,
    build_words,
    find_trtexec,
    parse_version,
    run_trtexec,
    tail_of,
    trtexec_version,
)
from edgevit.errors import DeviceError, EdgevitError

RECIPES = [EngineRecipe("fp32"), EngineRecipe("fp16"), EngineRecipe("int8"), EngineRecipe("fp16", ("mean", "root"))]
HELD = EngineRecipe("fp16", ("a", "b"))
NUMBERS = {"8.4": (8, 4, 0), "8.5": (8, 5, 3), "8.6": (8, 6, 1), "10.3": (10, 3, 0), "11.1": (11, 1, 0)}
Board = Callable[..., str]


@pytest.fixture
def trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """trtexec(version, does) puts a fake one at the head of PATH and returns its path."""

    def make(version: str = "10.3", does: str = "build") -> str:
        path = tmp_path / "bin" / "trtexec"
        path.parent.mkdir(exist_ok=True)
        source = Path(fake_trtexec.__file__).read_text(encoding="utf-8")
        path.write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_TRTEXEC", version)
        monkeypatch.setenv("FAKE_TRTEXEC_DOES", does)
        monkeypatch.setenv("FAKE_TRTEXEC_LOG", str(tmp_path / "calls"))
        return str(path)

    return make


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    return str(path)


def words_for(path: str, version: str, recipe: EngineRecipe, model: str, engine: Path) -> list[str]:
    return build_words(path, NUMBERS[version], recipe, model, str(engine), str(engine.with_suffix(".cache")))


@pytest.mark.parametrize("version", list(NUMBERS))
def test_each_version_says_which_it_is(version: str, trtexec: Board) -> None:
    assert trtexec_version(trtexec(version)) == NUMBERS[version]


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("[TensorRT v8503]", (8, 5, 3)),
        ("[TensorRT v8400]", (8, 4, 0)),
        ("[TensorRT v100300]", (10, 3, 0)),
        ("[TensorRT v101303]", (10, 13, 3)),
        ("[TensorRT v110100]", (11, 1, 0)),
        ("[TensorRT v12]", None),
        ("", None),
    ],
)
def test_a_banner_s_number_is_read_as_nvidia_writes_it(banner: str, version: Any) -> None:
    assert banner_version(f"&&&& RUNNING TensorRT.trtexec {banner} # trtexec --help") == version


@pytest.mark.parametrize(
    ("text", "version"), [("8.5.2.2", (8, 5, 2)), ("10.3.0", (10, 3, 0)), ("10.3", None), ("dev", None)]
)
def test_a_package_s_version_is_read(text: str, version: Any) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.precision}-{len(recipe.float32_layers)}")
@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_every_version_takes_the_words_that_are_made_for_it(
    version: str, recipe: EngineRecipe, trtexec: Board, model: str, tmp_path: Path
) -> None:
    engine = tmp_path / "an.engine"
    said = run_trtexec(words_for(trtexec(version), version, recipe, model, engine), 60.0)
    assert "&&&& PASSED" in said
    assert "deprecated" not in said
    assert engine.read_bytes() == b"FAKE ENGINE\na model"


@pytest.mark.parametrize("recipe", [EngineRecipe("fp32"), EngineRecipe("int8")])
def test_tensorrt_11_takes_the_precision_from_the_graph(
    recipe: EngineRecipe, trtexec: Board, model: str, tmp_path: Path
) -> None:
    engine = tmp_path / "an.engine"
    assert "PASSED" in run_trtexec(words_for(trtexec("11.1"), "11.1", recipe, model, engine), 60.0)


@pytest.mark.parametrize(("made_for", "given_to"), [("8.5", "10.3"), ("8.6", "8.5"), ("10.3", "8.5"), ("8.5", "11.1")])
def test_words_of_another_version_are_refused_in_trtexec_s_own_words(
    made_for: str, given_to: str, trtexec: Board, model: str, tmp_path: Path
) -> None:
    words = words_for(trtexec(given_to), made_for, EngineRecipe("fp16"), model, tmp_path / "an.engine")
    with pytest.raises(EdgevitError, match=r"trtexec ended with code 1: .*Unknown option: --"):
        run_trtexec(words, 60.0)


def test_workspace_is_an_option_that_10_has_no_longer(trtexec: Board, model: str, tmp_path: Path) -> None:
    words = [trtexec("10.3"), f"--onnx={model}", f"--saveEngine={tmp_path / 'e'}", "--workspace=1024"]
    with pytest.raises(EdgevitError, match=r"^trtexec ended with code 1: Unknown option: --workspace 1024$"):
        run_trtexec(words, 60.0)


@pytest.mark.parametrize(
    ("version", "recipe", "has", "lacks"),
    [
        ("8.5", EngineRecipe("fp16"), {"--buildOnly", "--fp16"}, {"--skipInference", "--int8"}),
        ("8.6", EngineRecipe("int8"), {"--skipInference", "--int8", "--fp16"}, {"--buildOnly"}),
        ("10.3", EngineRecipe("fp32"), {"--skipInference", "--builderOptimizationLevel=3"}, {"--fp16", "--int8"}),
        ("8.5", EngineRecipe("fp32"), {"--memPoolSize=workspace:1024"}, {"--builderOptimizationLevel=3"}),
        ("8.5", HELD, {"--precisionConstraints=obey", "--layerPrecisions=a:fp32,b:fp32"}, set()),
    ],
)  # fmt: skip
def test_the_options_are_those_of_the_version(
    version: str, recipe: EngineRecipe, has: set[str], lacks: set[str]
) -> None:
    words = build_words("trtexec", NUMBERS[version], recipe, "m", "e", "c")
    assert has <= set(words)
    assert not lacks & set(words)
    assert {"--onnx=m", "--saveEngine=e", "--timingCacheFile=c"} <= set(words)


def test_a_tensorrt_older_than_8_5_is_refused_with_the_way_out() -> None:
    with pytest.raises(DeviceError, match=r"TensorRT 8\.4\.0 is older than 8\.5\.0.*--runtime onnxruntime"):
        build_words("trtexec", (8, 4, 0), EngineRecipe("fp16"), "m", "e", "c")


def test_fp16_is_refused_where_the_graph_alone_says_the_precision() -> None:
    with pytest.raises(DeviceError, match=r"TensorRT 11\.1\.0 takes its precisions from the graph alone"):
        build_words("trtexec", (11, 1, 0), EngineRecipe("fp16"), "m", "e", "c")


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("refuse-model", r"ended with code 1: Parsing model failed \| Failed to create .* \| Engine set up failed"),
        ("full-disk", r"ended with code 1: Saving engine to file failed\. \| Engine set up failed"),
        ("killed", r"killed by signal 9 \(9: probably out of memory; close other programs or add swap\)"),
        ("crash", r"killed by signal 11\. Its last words: .*Compute Capability: 8\.7"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_trtexec_s_own_words(
    does: str, words: str, trtexec: Board, model: str, tmp_path: Path
) -> None:
    command = words_for(trtexec("10.3", does), "10.3", EngineRecipe("fp16"), model, tmp_path / "an.engine")
    with pytest.raises(EdgevitError, match=words):
        run_trtexec(command, 60.0)


def running_in_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_that_hangs_is_ended_with_its_children_when_the_time_is_over(
    trtexec: Board, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.board.trtexec.POLL_SECONDS", 0.5)
    seen: list[float] = []
    ticks = iter([0.0, 1.0, 2.0, 500.0])
    groups: list[int] = []
    real_killpg = os.killpg

    def killpg(group: int, number: int) -> None:
        groups.append(group)
        real_killpg(group, number)

    monkeypatch.setattr("os.killpg", killpg)
    command = words_for(trtexec("10.3", "hang"), "10.3", EngineRecipe("fp16"), model, tmp_path / "an.engine")
    with pytest.raises(EdgevitError, match=r"not built within 60 s\. Give it longer with: agent\.py build --timeout"):
        run_trtexec(command, 60.0, lambda seconds, limit: seen.append(seconds), clock=lambda: next(ticks))
    assert seen == [1.0, 2.0]
    assert groups
    assert gone_soon(groups[0])


def gone_soon(group: int) -> bool:
    """Whether the killed ones are reaped: those of a group whose leader is gone become init's."""
    for _ in range(200):
        if not running_in_group(group):
            return True
        time.sleep(0.02)
    return False


def test_an_interrupt_ends_it_too(trtexec: Board, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.board.trtexec.POLL_SECONDS", 0.5)

    def interrupt(seconds: float, limit_s: float) -> None:
        raise KeyboardInterrupt

    groups: list[tuple[int, int]] = []
    real_killpg = os.killpg
    monkeypatch.setattr("os.killpg", lambda group, number: (groups.append((group, number)), real_killpg(group, number)))
    command = words_for(trtexec("10.3", "hang"), "10.3", EngineRecipe("fp16"), model, tmp_path / "an.engine")
    with pytest.raises(KeyboardInterrupt):
        run_trtexec(command, 60.0, interrupt)
    assert [number for _, number in groups] == [signal.SIGKILL]
    assert gone_soon(groups[0][0])


def test_one_that_is_not_there_or_says_nothing_is_refused(trtexec: Board, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="does not start"):
        trtexec_version(str(tmp_path / "none"))
    with pytest.raises(DeviceError, match="does not start"):
        run_trtexec([str(tmp_path / "none")], 1.0)
    with pytest.raises(DeviceError, match=r"does not say its version \(it said nothing\)"):
        trtexec_version(trtexec("10.3", "silent"))


def test_it_is_found_in_path_first_and_then_where_jetpack_puts_it(
    trtexec: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trtexec()
    assert find_trtexec(()) == path
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert find_trtexec(()) is None
    assert find_trtexec((str(tmp_path / "none"), path)) == path


def test_the_tail_is_the_last_errors_without_their_times() -> None:
    lines = ["&&&& RUNNING x", *(f"[01/02/2026-00:00:00] [E] error {n}" for n in range(5)), "&&&& FAILED x"]
    assert tail_of("\n".join(lines)) == "error 2 | error 3 | error 4"
    assert tail_of("one\n\ntwo\n") == "one | two"
    assert tail_of("") == "it said nothing"
    assert len(tail_of("x" * 10_000)) == 600


def test_the_fake_writes_down_what_it_was_asked(trtexec: Board, model: str, tmp_path: Path) -> None:
    run_trtexec(words_for(trtexec(), "10.3", EngineRecipe("fp16"), model, tmp_path / "an.engine"), 60.0)
    (call,) = (json.loads(line) for line in (tmp_path / "calls").read_text().splitlines())
    assert call[1:3] == [f"--onnx={model}", f"--saveEngine={tmp_path / 'an.engine'}"]
