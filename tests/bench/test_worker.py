from __future__ import annotations

import gc
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.bench import worker
from edgevit.bench.worker import main, serve

TICK = 1 / 64


class FakeSession:
    """Takes one tick of its clock a run; the first run takes two."""

    version = "9.9"
    input_type = "float32"

    def __init__(self) -> None:
        self.now = 0.0
        self.inputs: list[np.ndarray] = []
        self.is_closed = False

    def clock(self) -> float:
        return self.now

    def run(self, pixels: np.ndarray) -> None:
        self.now += TICK if self.inputs else 2 * TICK
        self.inputs.append(pixels)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    fake = FakeSession()

    def opening(path: Path, runtime: str, threads: int, config: dict[str, str]) -> FakeSession:
        assert (path, runtime, threads, config) == (Path("m.onnx"), "onnxruntime", 2, {"a": "b"})
        fake.now += 0.5
        return fake

    monkeypatch.setattr(worker, "open_session", opening)
    return fake


def served(session: FakeSession, requests: list[str]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    serve(
        Path("m.onnx"), "onnxruntime", 2, config={"a": "b"}, shape=[1, 3, 4, 4],
        requests=requests, write=answers.append, clock=session.clock,
    )  # fmt: skip
    return answers


def test_the_first_answer_says_how_loading_and_warming_up_went(session: FakeSession) -> None:
    (ready,) = served(session, [])
    assert ready == {
        "load_ms": 500.0, "first_inference_ms": 31.25, "warmup_runs": 16, "is_steady": True, "typical_ms": 15.625,
        "version": "9.9",
    }  # fmt: skip
    assert session.is_closed


def test_each_request_is_answered_with_as_many_timings_after_one_untimed_run(session: FakeSession) -> None:
    _, first, second = served(session, ["3\n", "1\n"])
    assert first["samples_ms"] == [15.625] * 3
    assert second["samples_ms"] == [15.625]
    assert first["peak_rss_mib"] > 10
    assert len(session.inputs) == 1 + 16 + (1 + 5) + (1 + 3) + (1 + 1)


def test_the_input_is_the_same_seeded_float32_picture_each_time(session: FakeSession) -> None:
    served(session, ["2\n"])
    first = session.inputs[0]
    assert (first.shape, first.dtype) == ((1, 3, 4, 4), np.float32)
    assert all(pixels is first for pixels in session.inputs)
    np.testing.assert_array_equal(first, np.random.default_rng(0).standard_normal((1, 3, 4, 4), dtype=np.float32))


def test_garbage_collection_is_on_again_afterwards(session: FakeSession) -> None:
    served(session, ["1\n"])
    assert gc.isenabled()


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """run_main(path, requests, shape) -> exit code and answers, with this process's own output in a pipe."""

    def run(path: Path, requests: str = "", shape: str = "[1, 3, 8, 8]") -> tuple[int, list[dict[str, Any]]]:
        reader, writer = os.pipe()
        saved = os.dup(1)
        os.dup2(writer, 1)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(requests))
            patch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w"))
            patch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: SIM115
            words = ["--path", str(path), "--runtime", "onnxruntime", "--threads", "1", "--config", "{}"]
            code = main([*words, "--shape", shape])
            sys.stdout.close()
            sys.stderr.close()
        os.dup2(saved, 1)
        os.close(saved)
        os.close(writer)
        with os.fdopen(reader) as output:
            return code, [json.loads(line) for line in output.read().splitlines()]

    return run


def test_a_real_artifact_is_served_until_the_input_ends(
    make_onnx: Callable[..., Path], run_main: Callable[..., tuple[int, list[dict[str, Any]]]]
) -> None:
    code, (ready, answer) = run_main(make_onnx(), "4\n")
    assert code == 0
    assert ready["warmup_runs"] >= 16
    assert len(answer["samples_ms"]) == 4
    assert min(answer["samples_ms"]) > 0


def test_what_is_wrong_with_the_artifact_is_the_answer(
    tmp_path: Path, run_main: Callable[..., tuple[int, list[dict[str, Any]]]]
) -> None:
    code, (answer,) = run_main(tmp_path / "none.onnx")
    assert (code, answer) == (2, {"error": f"{tmp_path / 'none.onnx'}: there is no such file."})


def test_a_request_that_is_no_number_is_an_error_in_one_line(
    make_onnx: Callable[..., Path], run_main: Callable[..., tuple[int, list[dict[str, Any]]]]
) -> None:
    code, answers = run_main(make_onnx(), "many\n")
    assert code == 1
    assert answers[-1]["error"].startswith("ValueError: invalid literal")
