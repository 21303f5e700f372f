"""The matrix of models, runtimes and precisions: its cells by hand, and a whole one of the tiny ViT."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from digits_shop import Told, device_elsewhere, device_here, digits_evidence, steady, vit_subject
from tiny_models import vit_graph

from edgevit import build, judge
from edgevit import matrix as matrix_module
from edgevit.benchreport import Latency
from edgevit.board.stats import summarize
from edgevit.errors import EdgevitError, InputError
from edgevit.matrix import LIMITS, KnownFailure, Limits, cells_of, growing_matrix, precisions_of, write_matrix
from edgevit.recipe import ExportSpec
from edgevit.report.matrix import matrix_rows, precisions, reasons, render_matrix, title
from edgevit.results import Candidate, CostEstimate, Matrix, MatrixCell, Parity
from edgevit.yamlfile import read_yaml

SAME = Parity(hop="torch -> onnx", cosine=1.0, sqnr_db=90.0, top1_agreement=1.0, max_abs=0.0, n=8, passed=True)
OTHER = SAME.model_copy(update={"hop": "fp32 -> int8-static", "cosine": 0.31, "top1_agreement": 0.1, "passed": False})


def candidate(runtime: str, precision: str, p50_ms: float | None = None, **changes: Any) -> Candidate:
    latency = Latency(**summarize([p50_ms] * 16)) if p50_ms else None
    fields = {"name": precision, "size_mib": 2.0, "latency_ms": latency, "parity": (SAME,), **changes}
    return Candidate(runtime=runtime, precision=precision, **fields)


def cell(candidates: list[Candidate], runtime: str, precision: str) -> MatrixCell:
    found = cells_of(candidates, (runtime,))
    return next(each for each in found if each.precision == precision)


def test_a_cell_is_the_fastest_artifact_that_says_the_same() -> None:
    tried = [
        candidate("onnxruntime", "int8-static", 3.0, name="slow"),
        candidate("onnxruntime", "int8-static", 2.0, name="fast"),
        candidate("onnxruntime", "int8-static", 1.0, name="wrong", parity=(SAME, OTHER)),
        candidate("openvino", "int8-static", 0.5),
    ]
    found = cell(tried, "onnxruntime", "int8-static")
    assert (found.outcome, found.candidate, found.p50_ms, found.reason) == ("number", "fast", 2.0, "")


def test_where_nothing_says_the_same_the_hop_that_fails_is_the_reason() -> None:
    found = cell([candidate("onnxruntime", "int8-static", 1.0, parity=(SAME, OTHER))], "onnxruntime", "int8-static")
    assert found.outcome == "parity"
    assert found.reason.startswith("fp32 -> int8-static: ")
    assert found.cosine == 0.31


def test_of_a_board_that_is_not_here_instructions_are_a_number_and_none_is_exported() -> None:
    estimate = CostEstimate(core="Cortex-A76", million_instructions=215.0, relative_error=0.09, not_calibrated={})
    assert (
        cell([candidate("onnxruntime", "fp32", estimate=estimate)], "onnxruntime", "fp32").million_instructions == 215
    )
    found = cell([candidate("litert", "fp32")], "litert", "fp32")
    assert (found.outcome, found.p50_ms) == ("exported", None)
    assert found.reason == "it cannot be timed here, and what its kernels cost there is not known"


def test_what_cannot_be_built_says_why_in_every_precision_of_that_runtime() -> None:
    failed = candidate("onnxruntime", "fp32", parity=(), failed="No kernel for Frob.")
    for found in cells_of([failed], ("onnxruntime",)):
        assert (found.outcome, found.reason) == ("nothing", "No kernel for Frob")


def test_what_a_runtime_lacks_has_its_reason_and_an_upstream_link() -> None:
    found = cell([candidate("openvino", "fp32", 1.0)], "openvino", "int8-dynamic")
    assert (found.outcome, found.reason) == (
        "nothing", "OpenVINO runs dynamic INT8 more slowly than fp32, and its makers do not support it",
    )  # fmt: skip
    assert found.link.startswith("https://github.com/openvinotoolkit/openvino/issues/")
    assert cell([candidate("onnxruntime", "fp32", 1.0)], "onnxruntime", "mixed").reason == (
        "the model has no operators that gain by it"
    )


def test_what_failed_for_one_precision_says_nothing_of_another() -> None:
    tried = [
        candidate("torchscript", "fp32", 1.0),
        candidate("torchscript", "int8-dynamic", parity=(), failed="No engine."),
    ]
    assert cell(tried, "torchscript", "int8-dynamic").reason == "No engine"
    assert cell(tried, "torchscript", "int8-static").reason.startswith("torch.ao's static quantization is deprecated")


def test_where_fp32_fails_its_parity_nothing_else_was_tried() -> None:
    broken = candidate("litert", "fp32", parity=(OTHER,))
    assert cell([broken], "litert", "fp32").outcome == "parity"
    assert cell([broken], "litert", "int8-static").reason == "not tried: fp32 fails its parity"


def test_a_failure_that_is_known_upstream_has_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Limits(limits=(), failures=(KnownFailure(pattern="No kernel for (Frob|Zap)", link="https://x.org/1"),))
    monkeypatch.setattr(matrix_module, "_limits", lambda: known)
    failed = candidate("onnxruntime", "fp32", parity=(), failed="No kernel for Frob.")
    assert [found.link for found in cells_of([failed], ("onnxruntime",))] == ["https://x.org/1"] * 4


@pytest.mark.parametrize(
    ("runtime", "asked"),
    [
        ("onnxruntime", ("fp32", "int8-dynamic", "int8-static", "mixed")),
        ("openvino", ("fp32", "int8-dynamic", "int8-static")),
        ("tensorrt", ("fp32", "fp16", "int8-dynamic", "int8-static")),
    ],
)
def test_a_runtime_is_asked_for_what_it_could_have(runtime: str, asked: tuple[str, ...]) -> None:
    assert precisions_of(runtime) == asked


def test_every_limit_has_an_upstream_link() -> None:
    known = read_yaml(LIMITS, Limits)
    assert all(each.link.startswith("https://") for each in (*known.limits, *known.failures))


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """Of two tiny ViTs, of which the second cannot be exported, in two runtimes."""
    broken = replace(vit_subject(), name="broken", model=copy.deepcopy(vit_subject().model))

    def export(model: object, *_: object) -> object:
        if model is broken.model:
            raise EdgevitError("This model cannot be exported: it has a loop.")
        return vit_graph()

    monkeypatch.setattr(build, "export_onnx", export)
    monkeypatch.setattr(judge, "measure_interleaved", lambda runs, **_: {name: steady(2.0) for name in runs})
    evidence = replace(digits_evidence(), judged=None, tested=None)
    first, found = growing_matrix(
        [(vit_subject(), evidence), (broken, evidence)], device_here(), ("onnxruntime", "openvino"),
        ExportSpec(), 1, Told(),
    )  # fmt: skip
    assert [row.model for row in found.models] == ["tiny-vit", "broken"]
    assert first.models == found.models[:1]
    return found


def test_a_whole_matrix_goes_on_where_one_model_fails(matrix: Matrix, tmp_path: Path) -> None:
    good, bad = matrix.models
    assert {each.outcome for each in bad.cells} == {"nothing"}
    assert bad.cells[0].reason == "This model cannot be exported: it has a loop"
    numbers = {(each.runtime, each.precision) for each in good.cells if each.outcome == "number"}
    assert numbers == {
        *(("onnxruntime", each) for each in ("fp32", "int8-dynamic", "int8-static", "mixed")),
        ("openvino", "fp32"), ("openvino", "int8-static"),
    }  # fmt: skip
    assert matrix.share_of_numbers == pytest.approx(6 / 14)
    assert matrix.measured_on is not None
    assert precisions(matrix) == ("fp32", "int8-dynamic", "int8-static", "mixed")
    first = matrix_rows(matrix)[0]
    assert (first.model, first.runtime) == ("tiny-vit", "onnxruntime")
    assert first.cells[0].text.endswith("ms")
    assert "agrees on 100.0 %" in first.cells[0].detail
    assert [reason for _, reason, _ in reasons(matrix)][-1] == "This model cannot be exported: it has a loop"
    page = render_matrix(matrix)
    assert page.count('<tr><th scope="row">') == 4
    assert "https://github.com/openvinotoolkit/openvino/issues/12964" in page
    write_matrix(matrix, tmp_path / "out")
    assert Matrix.model_validate_json((tmp_path / "out/matrix.json").read_bytes()) == matrix
    assert (tmp_path / "out/report.html").read_text() == page
    with pytest.raises(InputError):
        write_matrix(matrix, tmp_path / "out")


def test_a_board_that_is_not_here_is_not_said_to_have_been_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "export_onnx", lambda *_: vit_graph())
    evidence = replace(digits_evidence(), judged=None, tested=None)
    runtimes = ("onnxruntime",)
    (found,) = growing_matrix([(vit_subject(), evidence)], device_elsewhere(), runtimes, ExportSpec(), 1, Told())
    assert found.measured_on is None
    assert "nothing could be timed here" in title(found)
    assert all(each.p50_ms is None for each in found.models[0].cells)
