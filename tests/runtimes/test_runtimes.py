"""Every runtime of the table keeps the same contract; a new one is tested by being in it and in make_artifact.

A runtime whose package is not installed is skipped, with its name.
"""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_figures import BIAS, CLASSES, SIDE, WEIGHTS

from edgevit.errors import BadFileError, InputError, MissingExtraError, ShapeMismatchError, UnknownNameError
from edgevit.runtimes import RUNTIMES, open_session, runtime_for, runtime_module
from edgevit.units import MIB

Make = Callable[[str, Any], Path]


def write_torchscript(path: Path, batch: int | None = 1, shape_file: str | None = None) -> Path:
    torch = pytest.importorskip("torch")

    class Tiny(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, CLASSES)
            self.linear.weight.data = torch.from_numpy(WEIGHTS.T.copy())
            self.linear.bias.data = torch.from_numpy(BIAS.copy())

        def forward(self, pixels: Any) -> Any:
            return self.linear(pixels.mean(dim=(2, 3)))

    text = shape_file or str([batch, 3, SIDE, SIDE]).replace("None", "null")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; see edgevit/runtimes/torchscript.py
        traced = torch.jit.freeze(torch.jit.trace(Tiny().eval(), torch.zeros(batch or 1, 3, SIDE, SIDE)))
        torch.jit.save(traced, str(path), _extra_files={} if text == "none" else {"input_shape.json": text})
    return path


@pytest.fixture
def make_artifact(tmp_path: Path, make_onnx: Callable[..., Path]) -> Make:
    """make_artifact(runtime, batch): the tiny model of conftest; batch None leaves it free."""

    def make(runtime: str, batch: int | None = 1) -> Path:
        if RUNTIMES[runtime].suffix == ".onnx":
            return make_onnx("artifact.onnx", "N" if batch is None else batch)
        if runtime == "litert":
            from tiny_tflite import write_tflite

            return write_tflite(tmp_path / "artifact.tflite", batch=batch)
        if runtime == "executorch":
            if batch is None:
                pytest.skip("a .pte file says how large its tensors may become, not that they may")
            from tiny_pte import write_pte

            return write_pte(tmp_path / "artifact.pte")
        assert runtime == "torchscript", f"this test knows no artifact for {runtime} yet"
        return write_torchscript(tmp_path / "artifact.ts", batch)

    return make


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)


def _skip_unless_installed(runtime: str) -> Any:
    package = RUNTIMES[runtime].package
    reason = f"{package} is not installed"
    return pytest.param(runtime, marks=pytest.mark.skipif(find_spec(package) is None, reason=reason))


every_runtime = pytest.mark.parametrize("runtime", [_skip_unless_installed(name) for name in sorted(RUNTIMES)])


@every_runtime
def test_logits_are_those_of_the_model(runtime: str, make_artifact: Make, pixels: np.ndarray) -> None:
    session = open_session(make_artifact(runtime, 1), runtime, 1)
    logits = session.run(pixels)
    expected = pixels.astype(np.float64).mean(axis=(2, 3)) @ WEIGHTS + BIAS
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert (logits.dtype, logits.shape) == (np.float32, (1, CLASSES))


@every_runtime
def test_a_session_says_what_it_is(runtime: str, make_artifact: Make) -> None:
    session = open_session(make_artifact(runtime, 1), runtime, 1)
    package = sys.modules[RUNTIMES[runtime].package]
    if runtime == "executorch":  # its package is a namespace
        package = package.version
    assert (session.runtime, session.version) == (runtime, package.__version__)
    assert session.input_shape == (1, 3, SIDE, SIDE)


@every_runtime
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_the_same_each_time(runtime: str, threads: int, make_artifact: Make, pixels: np.ndarray) -> None:
    session = open_session(make_artifact(runtime, 1), runtime, threads)
    first = session.run(pixels)
    for _ in range(3):
        np.testing.assert_array_equal(session.run(pixels), first)


@every_runtime
def test_a_free_batch_takes_any_number_of_pictures(runtime: str, make_artifact: Make, pixels: np.ndarray) -> None:
    session = open_session(make_artifact(runtime, None), runtime, 1)
    assert session.input_shape == (None, 3, SIDE, SIDE)
    batch = np.concatenate([pixels, -pixels, 2 * pixels])
    np.testing.assert_allclose(session.run(batch)[:1], session.run(pixels), atol=1e-6)
    assert session.run(batch).shape == (3, CLASSES)


@every_runtime
@pytest.mark.parametrize(
    ("shape", "kind"),
    [((1, 3, SIDE, SIDE + 1), "float32"), ((2, 3, SIDE, SIDE), "float32"), ((1, 3, SIDE, SIDE), "f8")],
)
def test_pixels_that_do_not_fit_are_refused(
    runtime: str, make_artifact: Make, shape: tuple[int, ...], kind: str
) -> None:
    session = open_session(make_artifact(runtime, 1), runtime, 1)
    with pytest.raises(ShapeMismatchError, match=r"artifact\.\w+: takes float32 \(1, 3, 8, 8\), and was given"):
        session.run(np.zeros(shape, kind))


@every_runtime
def test_a_file_that_is_not_there_is_refused(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"none: there is no such file"):
        open_session(tmp_path / "none", runtime, 1)


@every_runtime
def test_a_directory_is_no_model(runtime: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="is a directory, not a model"):
        open_session(tmp_path, runtime, 1)


@every_runtime
@pytest.mark.parametrize("damage", ["empty", "text", "truncated"])
def test_a_damaged_model_is_refused_in_one_line(runtime: str, damage: str, make_artifact: Make) -> None:
    path = make_artifact(runtime, 1)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"hello", "truncated": content[: len(content) // 2]}[damage])
    with pytest.raises(
        BadFileError, match=r"artifact\.\w+: is not a model that .* can load \(.+\)\. Export it"
    ) as caught:
        open_session(path, runtime, 1)
    assert "\n" not in str(caught.value)


@every_runtime
def test_a_closed_session_does_not_run_and_closes_twice(runtime: str, make_artifact: Make, pixels: np.ndarray) -> None:
    session = open_session(make_artifact(runtime, 1), runtime, 1)
    session.close()
    session.close()
    with pytest.raises(AssertionError, match="the session is closed"):
        session.run(pixels)


@every_runtime
def test_neither_runs_nor_sessions_pile_up_in_memory(runtime: str, make_artifact: Make, pixels: np.ndarray) -> None:
    path = make_artifact(runtime, 1)

    def use(sessions: int, runs: int) -> int:
        for _ in range(sessions):
            session = open_session(path, runtime, 1)
            for _ in range(runs):
                session.run(pixels)
            session.close()
        return resident_bytes()

    before = use(sessions=20, runs=50)
    assert use(sessions=50, runs=50) - before < 4 * MIB


@every_runtime
def test_a_missing_package_is_named_with_its_installation(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = RUNTIMES[runtime].package
    roots = {package, "tflite_runtime"}  # LiteRT takes either
    for name in {*roots, *(each for each in sys.modules if each.partition(".")[0] in roots)}:
        monkeypatch.setitem(sys.modules, name, None)
    words = f"This needs the package '{package}'. Install it with: pip install {package}, or in a bundle's directory"
    with pytest.raises(MissingExtraError, match=words):
        open_session("model", runtime, 1)


def test_a_runtime_is_known_by_its_files_suffix_and_onnx_files_are_usually_for_onnxruntime() -> None:
    found = [runtime_for(name) for name in ("x/model.onnx", "m.ts", "m.tflite", "m.pte")]
    assert found == ["onnxruntime", "torchscript", "litert", "executorch"]
    assert runtime_for(Path("MODEL.ONNX")) == "onnxruntime"


def test_an_unknown_suffix_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        BadFileError,
        match=r"model.bin: has the suffix '.bin', and no runtime opens that. Known are: .onnx, .tflite, .pte, .ts\.",
    ):
        runtime_for("model.bin")


def test_an_unknown_runtime_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown runtime 'onnxruntimes'. Did you mean 'onnxruntime'"):
        runtime_module("onnxruntimes")


def test_onnxruntime_takes_its_threads_and_session_entries(
    make_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    opened = {}
    real = onnxruntime.InferenceSession

    def remember(path: str, options: Any, providers: list[str]) -> Any:
        opened.update(options=options, providers=providers)
        return real(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", remember)
    open_session(make_onnx(), "onnxruntime", 3, {"session.set_denormal_as_zero": "1"})
    options = opened["options"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level) == (3, 1, 3)
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert opened["providers"] == ["CPUExecutionProvider"]


def test_onnxruntime_refuses_an_entry_that_it_cannot_take(make_onnx: Callable[..., Path]) -> None:
    with pytest.raises(BadFileError, match="Config key is empty or longer"):
        open_session(make_onnx(), "onnxruntime", 1, {"k" * 5000: "1"})


def test_onnxruntime_refuses_models_that_are_no_classifiers(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def save(node: Any, inputs: list[str]) -> Path:
        infos = [helper.make_tensor_value_info(name, kind, [1, 3, 2, 2]) for name in inputs]
        graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", kind, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    two = save(helper.make_node("Add", ["a", "b"], ["y"]), ["a", "b"])
    with pytest.raises(BadFileError, match="has 2 inputs, and a picture classifier has one"):
        open_session(two, "onnxruntime", 1)
    picture = open_session(save(helper.make_node("Relu", ["a"], ["y"]), ["a"]), "onnxruntime", 1)
    with pytest.raises(ShapeMismatchError, match=r"gives \(1, 3, 2, 2\), not logits of \(N, classes\)"):
        picture.run(np.zeros((1, 3, 2, 2), np.float32))


def test_onnxruntime_that_fails_while_running_is_translated(make_onnx: Callable[..., Path]) -> None:
    session = open_session(make_onnx(), "onnxruntime", 1)
    object.__setattr__(session, "input_shape", (None, None, None, None))
    with pytest.raises(ShapeMismatchError, match=r"tiny.onnx: cannot run on \(1, 5, 8, 8\) \("):
        session.run(np.zeros((1, 5, SIDE, SIDE), np.float32))


def test_torchscript_takes_no_session_entries(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="TorchScript takes no session entries, and was given a, b"):
        open_session(tmp_path / "x.ts", "torchscript", 1, {"b": "1", "a": "1"})


def test_torchscript_without_a_stated_shape_leaves_it_to_torch(tmp_path: Path) -> None:
    session = open_session(write_torchscript(tmp_path / "m.ts", shape_file="none"), "torchscript", 1)
    assert session.input_shape == (None, None, None, None)
    assert session.run(np.zeros((1, 3, 5, 5), np.float32)).shape == (1, CLASSES)
    with pytest.raises(ShapeMismatchError, match=r"m.ts: cannot run on \(1, 4, 8, 8\) \(.+\)"):
        session.run(np.zeros((1, 4, SIDE, SIDE), np.float32))


@pytest.mark.parametrize("text", ["{", "[1, 3, 8]", '["1", 3, 8, 8]', "3"])
def test_torchscript_with_a_shape_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    path = write_torchscript(tmp_path / "m.ts", shape_file=text)
    with pytest.raises(BadFileError, match=r"m.ts: input_shape.json: .* is not a list of four sizes"):
        open_session(path, "torchscript", 1)


def test_torchscript_that_gives_no_logits_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 3, 2, 2)), str(tmp_path / "m.ts"))
    session = open_session(tmp_path / "m.ts", "torchscript", 1)
    with pytest.raises(ShapeMismatchError, match=r"gives \(1, 3, 2, 2\), not logits"):
        session.run(np.zeros((1, 3, 2, 2), np.float32))
