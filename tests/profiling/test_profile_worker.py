from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tiny_figures import SIDE

from edgevit.errors import InputError
from edgevit.profiling import worker
from edgevit.profiling.document import TensorType
from edgevit.profiling.trace import read_trace
from edgevit.profiling.worker import main, serve

MakeOnnx = Callable[..., Path]


class Clock:
    """A second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def served(path: Path, folder: Path, requests: list[str], **changes: Any) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    fields: dict[str, Any] = {
        "config": {}, "shape": [1, 3, SIDE, SIDE], "folder": folder, "gemms": {}, "requests": requests,
        "write": answers.append, "clock": Clock(),
    }  # fmt: skip
    serve(path, 1, **{**fields, **changes})
    return answers


def test_each_turn_runs_without_and_with_the_profiler_and_its_first_runs_do_not_count(
    make_onnx: MakeOnnx, tmp_path: Path
) -> None:
    ready, first, second, last = served(make_onnx(), tmp_path, ["3\n", "2\n", "0\n", "9\n"])
    assert (ready["typical_ms"], ready["is_steady"]) == (1000.0, False)  # its warm-up ended after 10 s
    for answer, runs in ((first, 3), (second, 2)):
        assert (answer["plain_ms"], answer["profiled_ms"]) == ([1000.0] * runs, [1000.0] * runs)
    assert last["is_counted"] == [*[False] * 5, False, True, True, True, False, True, True]
    trace = read_trace(json.loads(Path(last["trace"]).read_text()), last["is_counted"])
    assert [node.op_type for node in trace.nodes] == ["GlobalAveragePool", "Flatten", "Gemm"]


def test_each_turn_tells_for_how_much_of_it_other_work_had_the_core(
    make_onnx: MakeOnnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter((5.0, 7.5, 7.5, 8.0))
    monkeypatch.setattr(worker, "waited_s", lambda: next(looks))
    _, first, second, _ = served(make_onnx(), tmp_path, ["3\n", "2\n", "0\n"])
    # a look before and after each of 2 x 3 runs and of the turn, a second between any two
    assert (first["waited_s"], first["passed_s"]) == (2.5, 2 * 2 * 3 + 1)
    assert (second["waited_s"], second["passed_s"]) == (0.5, 2 * 2 * 2 + 1)


def test_waiting_for_a_core_is_the_second_figure_of_the_scheduler(tmp_path: Path) -> None:
    (tmp_path / "schedstat").write_text("9850476 2500000000 4\n")
    assert worker.waited_s(tmp_path / "schedstat") == 2.5


@pytest.mark.parametrize("text", ["", "9850476", "no figures here", None])
def test_a_kernel_that_does_not_count_it_knows_of_no_waiting(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "schedstat").write_text(text)
    assert worker.waited_s(tmp_path / "schedstat") == 0.0


def test_the_graph_that_is_executed_is_left_in_the_folder(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    ready, _ = served(make_onnx(), tmp_path, ["0\n"])
    assert len(onnx.load(ready["executed"]).graph.node) == 3


def test_products_are_timed_by_name_with_their_fastest_run(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    gemms = {"a": str(make_onnx("a.onnx")), "b": str(make_onnx("b.onnx"))}
    *_, last = served(make_onnx(), tmp_path, ["0\n"], gemms=gemms)
    assert last["gemm_ms"] == {"a": 1000.0, "b": 1000.0}


def write_mean(path: Path, kind: int, shape: list[int]) -> Path:
    """A model that takes pictures of a type and gives their mean."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["input"], ["pixels"], to=float32),
        helper.make_node("ReduceMean", ["pixels"], ["logits"]),
    ]
    taken, made = (
        helper.make_tensor_value_info(*value) for value in (("input", kind, shape), ("logits", float32, None))
    )
    graph = helper.make_graph(nodes, "mean", [taken], [made])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_model_that_takes_uint8_gets_pictures_with_their_channels_last(tmp_path: Path) -> None:
    path = write_mean(tmp_path / "uint8.onnx", onnx.TensorProto.UINT8, [1, 4, 5, 3])
    *_, last = served(path, tmp_path, ["1\n", "0\n"], shape=[1, 3, 4, 5])
    trace = read_trace(json.loads(Path(last["trace"]).read_text()), last["is_counted"])
    assert trace.nodes[0].inputs == (TensorType(dtype="uint8", shape=(1, 4, 5, 3)),)


def test_pictures_of_another_type_are_refused(tmp_path: Path) -> None:
    path = write_mean(tmp_path / "int64.onnx", onnx.TensorProto.INT64, [1, 3, 4, 5])
    with pytest.raises(InputError, match=r"^A model that takes tensor\(int64\) cannot be profiled: pictures are"):
        served(path, tmp_path, [], shape=[1, 3, 4, 5])


def test_a_model_that_cannot_be_loaded_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    words = ["--path", str(tmp_path / "broken.onnx"), "--threads", "1", "--config", "{}", "--shape", "[1]"]
    saved = os.dup(1)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(""))
            patch.setattr(sys, "stdout", os.fdopen(os.dup(1), "w"))
            patch.setattr(sys, "stderr", os.fdopen(os.dup(2), "w"))
            code = main([*words, "--folder", str(tmp_path), "--gemms", "{}"])
            sys.stdout.close()
            sys.stderr.close()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    answer = json.loads(capfd.readouterr().out)
    assert code == 2
    assert answer["refused"].startswith(f"{tmp_path / 'broken.onnx'}: ONNX Runtime ")
