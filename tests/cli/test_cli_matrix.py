"""edgevit matrix on the tiny ViT: its table, its page and its document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ended
from digits_shop import steady, vit_subject
from tiny_models import vit_graph

import edgevit.matrix
from edgevit import build, judge
from edgevit.results import Matrix


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Callable[..., Ended]) -> Callable[..., Ended]:
    """matrix(*words) of the tiny ViT as an .onnx file, in ONNX Runtime and OpenVINO."""
    monkeypatch.setattr(build, "export_onnx", lambda *_: vit_graph())
    monkeypatch.setattr(judge, "measure_interleaved", lambda runs, **_: {name: steady(2.0) for name in runs})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit.onnx").write_bytes(vit_graph().SerializeToString())
    (tmp_path / "preprocess.json").write_text(json.dumps(vit_subject().preprocess.to_json()))
    two = ("--runtime", "onnxruntime", "--runtime", "openvino")
    return lambda *words: command("matrix", "vit.onnx", *two, "--threads", "1", *words)


def test_the_table_the_reasons_and_the_next_command(matrix: Callable[..., Ended], tmp_path: Path) -> None:
    ended = matrix("-o", "out")
    assert ended.code == 0, ended.err
    assert "onnxruntime" in ended.out
    assert "openvino" in ended.out
    assert "[1] OpenVINO runs dynamic INT8 more slowly than fp32" in ended.out
    assert "86 % of the cells are figures." in ended.out
    assert "Page: out/report.html" in ended.out
    assert ended.out.splitlines()[-1] == "Next: edgevit export vit.onnx --device local -o bundle"
    found = Matrix.model_validate_json((tmp_path / "out/matrix.json").read_bytes())
    assert found.share_of_numbers == pytest.approx(6 / 7)


def test_the_document_is_the_matrix(matrix: Callable[..., Ended]) -> None:
    ended = matrix("--json")
    assert ended.code == 0, ended.err
    assert Matrix.model_validate(ended.document).models[0].cells[0].outcome == "number"


def test_an_end_by_ctrl_c_leaves_the_rows_of_the_models_that_were_done(
    matrix: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []

    def interrupted(*words: object) -> object:
        judged.append("")
        if len(judged) == 2:
            raise KeyboardInterrupt
        return judge.judge(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(edgevit.matrix, "judge", interrupted)
    ended = matrix("vit.onnx", "-o", "out")
    assert ended.code == 130
    assert len(Matrix.model_validate_json((tmp_path / "out/matrix.json").read_bytes()).models) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["matrix.json", "report.html"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "rpi6"), "Unknown device 'rpi6'."),
        (("--runtime", "ncnn"), "Invalid value for '--runtime'"),
        (("-o", "vit.onnx"), "vit.onnx: exists already"),
        (("--threads", "0"), "Invalid value for '--threads'"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(
    matrix: Callable[..., Ended], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ended = matrix(*words)
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preprocess.json", "vit.onnx"]


def test_a_runtime_that_the_device_lacks_is_refused(matrix: Callable[..., Ended]) -> None:
    ended = matrix("--device", "rpi5")
    assert ended.code == 5
    assert ended.err.startswith("Error: Device 'rpi5' has no openvino.")
