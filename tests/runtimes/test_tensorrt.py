"""The runtime on a GPU of host memory: see tests/board/fake_gpu.py. No board was had."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_figures import BIAS, CLASSES, SIDE, WEIGHTS

sys.path.append(str(Path(__file__).parents[1] / "board"))
import fake_trtexec
from fake_gpu import GPU_KEY, FakeCuda, fake_tensorrt, spoken_in

from edgevit.board import cuda
from edgevit.board.ortgpu import GPU_PROVIDERS
from edgevit.errors import BadFileError, DeviceError, EdgevitError, ShapeMismatchError
from edgevit.runtimes import tensorrt as runtime

FP16 = {"tensorrt.precision": "fp16"}
Board = Callable[..., FakeCuda]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """board(package, trtexec, does) is a machine with TensorRT's Python package of one version and trtexec of another;
    '' stands for none."""

    def make(package: str = "10.3", trtexec: str = "10.3", does: str = "build") -> FakeCuda:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / "trtexec"
        path.unlink(missing_ok=True)
        if trtexec:
            path.write_text(f"#!{sys.executable}\n{Path(fake_trtexec.__file__).read_text(encoding='utf-8')}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("FAKE_TRTEXEC", trtexec)
        monkeypatch.setenv("FAKE_TRTEXEC_DOES", does)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        fake = FakeCuda()
        spoken_in.clear()
        cuda.find_gpu_apart.cache_clear()
        monkeypatch.setattr(cuda, "load_cuda", lambda: fake)
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(package) if package else None)
        return fake

    return make


@pytest.fixture
def model(make_onnx: Callable[..., Path]) -> str:
    return str(make_onnx("model.onnx", 1))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)


def engines(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/edgevit/engines").glob("*.engine"))


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_logits_are_those_of_the_model(version: str, board: Board, model: str, pixels: np.ndarray) -> None:
    fake = board(version, version)
    session = runtime.open_session(model, 1, FP16)
    expected = pixels.astype(np.float64).mean(axis=(2, 3)) @ WEIGHTS + BIAS
    np.testing.assert_allclose(session.run(pixels), expected, atol=1e-5)
    assert (session.runtime, session.input_type, session.input_shape) == ("tensorrt", "float32", (1, 3, SIDE, SIDE))
    assert session.version.startswith(version)
    assert session.notes[0].startswith(f"Engine in fp16 for {GPU_KEY}, built on this board by trtexec {version}")
    session.close()
    session.close()
    assert fake.buffers == {}


def test_two_runs_are_apart_and_the_engine_is_built_once(
    board: Board, model: str, pixels: np.ndarray, tmp_path: Path
) -> None:
    board()
    session = runtime.open_session(model, 1, FP16)
    first = session.run(pixels)
    second = session.run(-pixels)
    assert not np.array_equal(first, second)
    again = runtime.open_session(model, 1, FP16)
    np.testing.assert_array_equal(again.run(pixels), first)
    assert len(engines(tmp_path)) == 1
    assert again.run(pixels).shape == (1, CLASSES)


def test_another_version_of_tensorrt_builds_another_engine(board: Board, model: str, tmp_path: Path) -> None:
    for version in ("8.6", "10.3"):
        board(version, version)
        engine = runtime.prepare(model, FP16)
        assert engine is not None
        assert engine.was_built
    assert len(engines(tmp_path)) == 2


def test_a_trtexec_of_another_version_is_left_alone_and_the_package_builds(board: Board, model: str) -> None:
    board("10.3", "8.6")
    engine = runtime.prepare(model, FP16)
    assert engine is not None
    assert engine.built_by == "TensorRT's Python API 10.3.0"
    assert engine.key.tensorrt == "10.3.0"


def test_without_trtexec_the_package_builds(board: Board, model: str, pixels: np.ndarray) -> None:
    board("8.5", "")
    session = runtime.open_session(model, 1, FP16)
    assert session.run(pixels).shape == (1, CLASSES)
    assert session.notes[0].endswith("built on this board by TensorRT's Python API 8.5.3.")


def test_without_the_package_trtexec_builds(board: Board, model: str) -> None:
    board("", "8.5")
    engine = runtime.prepare(model, FP16)
    assert engine is not None
    assert engine.built_by == "trtexec 8.5.3"


def test_a_kept_engine_is_found_without_starting_trtexec(
    board: Board, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board()
    assert runtime.prepare(model, FP16) is not None
    monkeypatch.setattr(runtime, "trtexec_version", lambda path: pytest.fail("trtexec was started"))
    engine = runtime.prepare(model, FP16)
    assert engine is not None
    assert not engine.was_built


@pytest.mark.parametrize("damage", ["other size", "same size"])
def test_a_damaged_engine_is_built_anew(damage: str, board: Board, model: str, pixels: np.ndarray) -> None:
    board()
    engine = runtime.prepare(model, FP16)
    assert engine is not None
    path = Path(engine.path)
    path.write_bytes(b"x" if damage == "other size" else bytes(path.stat().st_size))
    assert runtime.open_session(model, 1, FP16).run(pixels).shape == (1, CLASSES)


def test_a_whole_engine_that_is_refused_is_removed_with_tensorrt_s_words(
    board: Board, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board()
    monkeypatch.setattr("fake_gpu.ENGINE_MARK", b"ANOTHER")
    with pytest.raises(BadFileError, match=r"cannot load \(.*magic tag does not match\).*try again, and it is built"):
        runtime.open_session(model, 1, FP16)
    assert engines(tmp_path) == []


def test_what_trtexec_refuses_is_told_and_leaves_no_engine(board: Board, model: str, tmp_path: Path) -> None:
    board(does="refuse-model")
    with pytest.raises(EdgevitError, match="Parsing model failed"):
        runtime.open_session(model, 1, FP16)
    assert engines(tmp_path) == []


def test_pixels_that_do_not_fit_are_refused(board: Board, model: str, pixels: np.ndarray) -> None:
    board()
    session = runtime.open_session(model, 1, FP16)
    with pytest.raises(ShapeMismatchError, match="takes float32"):
        session.run(pixels[:, :2])


def test_memory_that_is_not_to_be_had_is_told(board: Board, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    board()
    monkeypatch.setattr(cuda, "load_cuda", lambda: FakeCuda("cuMemAlloc_v2"))
    with pytest.raises(DeviceError, match=r"cuMemAlloc_v2 failed with code 2 \(out of memory\)"):
        runtime.open_session(model, 1, FP16)


def test_a_file_that_is_not_there_is_named(board: Board, tmp_path: Path) -> None:
    board()
    with pytest.raises(BadFileError, match="there is no such file"):
        runtime.open_session(str(tmp_path / "none.onnx"), 1, FP16)
    with pytest.raises(BadFileError, match="is a directory"):
        runtime.open_session(str(tmp_path), 1, FP16)


def test_a_machine_with_nothing_of_it_says_what_to_install(board: Board, model: str) -> None:
    board("", "")
    for act in (
        runtime.import_runtime,
        lambda: runtime.open_session(model, 1, FP16),
        lambda: runtime.prepare(model, FP16),
    ):
        with pytest.raises(DeviceError, match=r"This bundle runs on a Jetson; there: sudo apt install nvidia-jetpack"):
            act()


class FakeOrt:
    """ONNX Runtime with providers for a GPU; those of `broken` do not start."""

    def __init__(self, available: tuple[str, ...], broken: tuple[str, ...] = ()) -> None:
        import onnxruntime

        self.real = onnxruntime
        self.__version__ = "1.18.0"
        self.SessionOptions = onnxruntime.SessionOptions
        self.asked: list[Any] = []
        self._available, self._broken = available, broken

    def get_available_providers(self) -> list[str]:
        return [*self._available, "CPUExecutionProvider"]

    def InferenceSession(self, path: str, options: Any, providers: list[Any]) -> Any:  # noqa: N802
        self.asked = providers
        session = self.real.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        started = [name for name in names if name not in self._broken]
        session.get_providers = lambda: started
        return session


@pytest.mark.parametrize(
    ("available", "broken", "used", "name"),
    [
        (GPU_PROVIDERS, (), GPU_PROVIDERS[0], "onnxruntime-tensorrt"),
        (GPU_PROVIDERS, GPU_PROVIDERS[:1], GPU_PROVIDERS[1], "onnxruntime-cuda"),
        (GPU_PROVIDERS[1:], (), GPU_PROVIDERS[1], "onnxruntime-cuda"),
    ],
)
def test_without_the_package_onnx_runtime_runs_it_on_the_gpu_and_says_by_which_provider(
    available: tuple[str, ...], broken: tuple[str, ...], used: str, name: str, board: Board, model: str,
    pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    board("", "")
    ort = FakeOrt(available, broken)
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)  # type: ignore[arg-type]
    session = runtime.open_session(model, 2, {"tensorrt.precision": "int8"})
    assert (session.runtime, session.version) == (name, "1.18.0")
    assert f"ONNX Runtime's {used} ran the model instead" in session.notes[0]
    expected = pixels.astype(np.float64).mean(axis=(2, 3)) @ WEIGHTS + BIAS
    np.testing.assert_allclose(session.run(pixels), expected, atol=1e-5)
    with pytest.raises(ShapeMismatchError):
        session.run(pixels[:, :1])
    if available == GPU_PROVIDERS:
        options = dict(ort.asked[0][1])
        assert (options["trt_int8_enable"], options["trt_fp16_enable"]) == ("True", "True")
        assert options["trt_engine_cache_path"].endswith("edgevit/engines")
    assert runtime.prepare(model, FP16) is None
    session.close()


def test_providers_that_do_not_start_are_no_reason_to_run_it_on_the_cpu(
    board: Board, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board("", "")
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOrt(GPU_PROVIDERS, GPU_PROVIDERS))  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="did not start, and a bundle for TensorRT is not run on the CPU"):
        runtime.open_session(model, 1, FP16)
