"""The maker of .pte files: its artifacts, the parity of every hop, and what it says and refuses.

A conversion runs in this process here, which imports the exporter once; tests/export has one in a child.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits_shop import Told, device_here, digits, digits_evidence, vit_subject
from onnx import ModelProto
from tiny_models import vit_graph

from edgevit import build
from edgevit.errors import InputError
from edgevit.export import executorch as export
from edgevit.export.child import exit_code
from edgevit.makers import build_artifacts
from edgevit.makers.executorch import ExecuTorchMaker
from edgevit.makers.executorch_child import convert
from edgevit.policy import Policy
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.runtimes import open_session
from edgevit.workshop import Artifact, Workshop

if find_spec("executorch") is None:
    pytest.skip("executorch is not installed", allow_module_level=True)

HOPS = ["torch -> onnx", "onnx -> rewritten", "torch -> executorch"]


@functools.cache
def _converted(graph: bytes, plan: str, pictures: tuple[bytes, ...]) -> tuple[bytes, str]:
    """(the .pte file, the report): each conversion once for all tests."""
    import tempfile

    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        folder = Path(name)
        (folder / "g.onnx").write_bytes(graph)
        (folder / "plan").write_text(plan)
        (folder / "pictures").mkdir()
        for number, content in enumerate(pictures):
            (folder / "pictures" / f"{number:06}.npy").write_bytes(content)
        convert(folder / "g.onnx", folder / "plan", folder / "report", folder / "o.pte", folder / "pictures")
        return (folder / "o.pte").read_bytes(), (folder / "report").read_text()


def convert_here(module: str, words: list[str], path: Path, what: str, on_second: Callable[[int], None]) -> Path:
    graph, plan, report, *pictures = map(Path, words)
    contents = tuple(each.read_bytes() for folder in pictures for each in sorted(folder.iterdir()))
    content, text = _converted(graph.read_bytes(), plan.read_text(), contents)
    path.write_bytes(content)
    report.write_text(text)
    on_second(1)
    return path


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workshop]:
    """make_shop(precision='auto', …): a workshop of the tiny ViT."""
    monkeypatch.setattr(build, "export_onnx", lambda model, shape, opset, dynamic_batch: vit_graph(dynamic_batch))
    monkeypatch.setattr(export, "convert_in_child", convert_here)

    def make(precision: str = "auto", dynamic_batch: bool = False, **changes: Any) -> Workshop:
        evidence = digits_evidence()
        fields = {"precision": precision, "runtime": "executorch", "dynamic_batch": dynamic_batch}
        shop = Workshop(
            subject=vit_subject(), device=device_here(), spec=ExportSpec.model_validate(fields),
            thresholds=ParityThresholds(), calibration=evidence.calibration, probes=evidence.probes, folder=tmp_path,
            is_foreign=False, progress=Told(),
        )  # fmt: skip
        return replace(shop, **changes)

    return make


def linear_bytes(graph: ModelProto) -> int:
    """What the weights of the linear layers take in fp32."""
    return sum(4 * math.prod(tensor.dims) for tensor in graph.graph.initializer if len(tensor.dims) == 2)


def maker_of(shop: Workshop) -> ExecuTorchMaker:
    return ExecuTorchMaker(shop, build.Builder(shop))


def build_all(shop: Workshop) -> dict[str, Artifact]:
    return {artifact.name: artifact for artifact in build_artifacts(shop, ("executorch",))[0]}


def test_auto_tries_fp32_dynamic_and_static_int8_with_the_patch_embedding_in_float(
    make_shop: Callable[..., Workshop], tmp_path: Path
) -> None:
    shop = make_shop()
    found = build_all(shop)
    assert list(found) == ["fp32", "int8-dynamic", "int8-static"]
    for artifact in found.values():
        own = [] if artifact.precision == "fp32" else [f"fp32 -> {artifact.name}"]
        assert [hop.hop for hop in artifact.parity] == [*HOPS, *own]
        assert all(hop.passed and hop.n == 16 for hop in artifact.parity)
        assert (artifact.failed, artifact.runtime, artifact.path.suffix) == (None, "executorch", ".pte")
        assert open_session(artifact.path, "executorch", 1).input_shape == artifact.input_shape
    for name in ("int8-dynamic", "int8-static"):
        counts = found[name].int8
        assert (counts["linear layers"], counts["convolutions"]) == ((13, 13), (0, 1))
        saved = found["fp32"].path.stat().st_size - found[name].path.stat().st_size
        assert saved > linear_bytes(vit_graph()) / 2  # 3/4 less the scales
    assert isinstance(shop.progress, Told)
    assert shop.progress.stages == [
        "Exporting to ONNX", "Rewriting", "Converting to ExecuTorch", "Quantizing: int8-dynamic",
        "Quantizing: int8-static",
    ]  # fmt: skip
    (note,) = shop.progress.notes
    assert note.startswith("ExecuTorch: XNNPACK runs 6 parts; between them its own kernels run, in float: 5 native_lay")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_an_onnx_file_is_converted_too(make_shop: Callable[..., Workshop]) -> None:
    subject = vit_subject(model=None, graph=vit_graph(), weights="unknown")  # type: ignore[arg-type]
    (found,) = build_all(make_shop("fp32", subject=subject)).values()
    assert [hop.hop for hop in found.parity] == ["onnx -> rewritten", "rewritten -> executorch"]


def test_a_node_that_a_policy_keeps_in_float_stays_there_beside_static_and_dynamic_ones(
    make_shop: Callable[..., Workshop],
) -> None:
    maker = maker_of(make_shop())
    kept = quantizable_nodes(vit_graph()).linear[-1:]  # the classifier
    policy = maker._exact.model_copy(update={"linear": "int8-dynamic", "conv": "int8-static", "float_nodes": kept})
    artifact = maker.build("odd", policy)
    assert artifact.failed is None
    assert (artifact.int8["linear layers"], artifact.int8["convolutions"]) == ((12, 13), (1, 1))
    assert artifact.parity[-1].passed


def test_what_onnx_alone_has_is_refused_and_the_reason_is_kept(make_shop: Callable[..., Workshop]) -> None:
    maker = maker_of(make_shop())
    odd = maker.build(
        "odd", Policy(runtime="executorch", linear="int8-dynamic", equalize=True, rewrites=maker._exact.rewrites)
    )
    assert (odd.failed, odd.parity) == (
        "ExecuTorch's INT8 has no equalize: it is made of a torch graph, not of ONNX.", (),
    )  # fmt: skip


def test_a_free_batch_is_refused(make_shop: Callable[..., Workshop]) -> None:
    words = r"^--runtime executorch takes one picture at a time\. Leave --dynamic-batch out\.$"
    with pytest.raises(InputError, match=words):
        build_artifacts(make_shop(dynamic_batch=True), ("executorch",))


def test_no_calibration_picture_ends_the_work(make_shop: Callable[..., Workshop]) -> None:
    with pytest.raises(InputError, match="Static INT8 needs pictures to calibrate on, and there is none"):
        build_artifacts(make_shop("int8-static", calibration=digits().train.subset([])), ("executorch",))


def test_nan_on_a_calibration_picture_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_shop: Callable[..., Workshop]
) -> None:
    (tmp_path / "g.onnx").write_bytes(vit_graph().SerializeToString())
    plan = {"static": quantizable_nodes(vit_graph()).linear[:1], "dynamic": [], "calibrator": "minmax"}
    (tmp_path / "plan").write_text(json.dumps(plan))
    (tmp_path / "pictures").mkdir()
    shape = tuple(size.dim_value for size in vit_graph().graph.input[0].type.tensor_type.shape.dim)
    np.save(tmp_path / "pictures" / "1.npy", np.full(shape, np.nan, np.float32))
    paths = [tmp_path / name for name in ("g.onnx", "plan", "report", "o.pte", "pictures")]
    with warnings.catch_warnings():
        assert exit_code(lambda: convert(*paths)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "edgevit: A tensor holds NaN or infinity on a calibration picture."
    )
    assert not (tmp_path / "o.pte").exists()
