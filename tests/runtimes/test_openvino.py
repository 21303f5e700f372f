"""OpenVINO: what it is configured with, what it refuses, and that nothing is reported to its maker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_figures import SIDE

from edgevit.errors import BadFileError, ShapeMismatchError
from edgevit.runtimes import open_session
from edgevit.runtimes.openvino import import_runtime

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
openvino = import_runtime()


@pytest.fixture
def properties(monkeypatch: pytest.MonkeyPatch, make_onnx: Callable[..., Path]) -> Callable[..., dict[str, str]]:
    """properties(threads, config): what a session's model is compiled with."""

    def configured(threads: int, config: dict[str, str]) -> dict[str, str]:
        given: dict[str, str] = {}
        real = openvino.Core.compile_model

        def remember(core: Any, model: Any, device: str, entries: dict[str, str]) -> Any:
            given.update(entries, device=device)
            return real(core, model, device, entries)

        monkeypatch.setattr(openvino.Core, "compile_model", remember)
        open_session(make_onnx(), "openvino", threads, config)
        return given

    return configured


def test_one_picture_at_a_time_is_computed_in_float32_unless_the_session_says_otherwise(
    properties: Callable[..., dict[str, str]],
) -> None:
    usual = {"device": "CPU", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    assert properties(2, {}) == {**usual, "INFERENCE_NUM_THREADS": "2"}
    assert properties(0, {}) == usual  # OpenVINO's own number
    asked = {"INFERENCE_PRECISION_HINT": "bf16", "ENABLE_CPU_PINNING": "NO"}
    assert properties(1, asked) == {**usual, **asked, "INFERENCE_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [({"NO_SUCH": "1"}, "Unsupported property NO_SUCH"), ({"INFERENCE_PRECISION_HINT": "f8"}, "Wrong value f8")],
)
def test_a_property_that_it_cannot_take_is_refused_in_one_line(
    make_onnx: Callable[..., Path], entry: dict[str, str], reason: str
) -> None:
    with pytest.raises(BadFileError, match=rf"tiny\.onnx: is not a model that OpenVINO .* \(.*{reason}") as caught:
        open_session(make_onnx(), "openvino", 1, entry)
    assert "\n" not in str(caught.value)
    assert "Exception from" not in str(caught.value)


def test_models_that_are_no_classifiers_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def save(node: Any, inputs: list[str]) -> Path:
        infos = [helper.make_tensor_value_info(name, kind, [1, 3, 2, 2]) for name in inputs]
        graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", kind, [1, 3, 2, 2])])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    with pytest.raises(BadFileError, match="has 2 inputs, and a picture classifier has one"):
        open_session(save(helper.make_node("Add", ["a", "b"], ["y"]), ["a", "b"]), "openvino", 1)
    picture = open_session(save(helper.make_node("Relu", ["a"], ["y"]), ["a"]), "openvino", 1)
    with pytest.raises(ShapeMismatchError, match=r"gives \(1, 3, 2, 2\), not logits of \(N, classes\)"):
        picture.run(np.zeros((1, 3, 2, 2), np.float32))


def test_what_fails_while_running_is_translated(make_onnx: Callable[..., Path]) -> None:
    session = open_session(make_onnx(), "openvino", 1)
    object.__setattr__(session, "input_shape", (None, None, None, None))
    with pytest.raises(ShapeMismatchError, match=r"tiny.onnx: cannot run on \(1, 5, 8, 8\) \(.+\)\.$"):
        session.run(np.zeros((1, 5, SIDE, SIDE), np.float32))


def left_behind(code: str, home: Path) -> list[str]:
    """Files that `python -c CODE` leaves in a user's home; CI is the one variable that would silence it."""
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(home)}, check=True)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_nothing_is_kept_to_be_reported(make_onnx: Callable[..., Path], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys; from edgevit.runtimes import open_session; "
        f"open_session({str(make_onnx())!r}, 'openvino', 1); assert sys.modules['openvino_telemetry'] is None"
    )
    assert left_behind(code, home) == []


def test_a_reporter_that_is_imported_already_is_not_used_either() -> None:
    code = (
        "import sys, types; sys.modules['openvino_telemetry'] = types.ModuleType('openvino_telemetry'); "
        "from edgevit.runtimes.openvino import import_runtime; import_runtime(); "
        "assert 'openvino.tools.ovc.telemetry_stub' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SIGNALLED = """
import os, signal, sys
from edgevit.runtimes import open_session
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = (open_session(sys.argv[1], "openvino", 1) for _ in range(2))
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_does_no_harm_after_two_sessions_ended_in_the_order_in_which_they_began(
    make_onnx: Callable[..., Path],
) -> None:
    words = [sys.executable, "-X", "faulthandler", "-c", SIGNALLED, str(make_onnx())]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr
