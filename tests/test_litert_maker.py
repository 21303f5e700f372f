"""The maker of .tflite files: its artifacts, the parity of every hop that led to them, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from digits_shop import Told, device_here, digits, digits_evidence, vit_subject
from tiny_models import vit_graph

from edgevit import build
from edgevit.build import Builder
from edgevit.errors import EdgevitError, InputError
from edgevit.export.onnx import read_onnx
from edgevit.makers import build_artifacts, litert
from edgevit.makers import converted as converting
from edgevit.makers.litert import LiteRtMaker
from edgevit.policy import Policy, TokenReduction
from edgevit.quantize.litert import QuantizedFile
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.results import Parity
from edgevit.runtimes import open_session
from edgevit.workshop import Artifact, Workshop

if find_spec("litert_torch") is None:
    pytest.skip("litert_torch is not installed", allow_module_level=True)
from litert_files import converted

HOPS = ["torch -> onnx", "onnx -> rewritten", "torch -> litert"]


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workshop]:
    """make_shop(precision='auto', …): a workshop of the tiny ViT, exported and converted once for all tests."""

    def copy(graph: Path, path: Path, on_second: object) -> Path:
        ours = onnx.load(converted("vit").with_suffix(".onnx"))
        assert [node.name for node in onnx.load(graph).graph.node] == [node.name for node in ours.graph.node]
        return Path(shutil.copy(converted("vit"), path))

    monkeypatch.setattr(build, "export_onnx", lambda model, shape, opset, dynamic_batch: vit_graph(dynamic_batch))
    monkeypatch.setattr(litert, "export_litert", copy)

    def make(precision: str = "auto", dynamic_batch: bool = False, **changes: Any) -> Workshop:
        evidence = digits_evidence()
        spec = ExportSpec.model_validate({"precision": precision, "runtime": "litert", "dynamic_batch": dynamic_batch})
        shop = Workshop(
            subject=vit_subject(), device=device_here(), spec=spec, thresholds=ParityThresholds(),
            calibration=evidence.calibration, probes=evidence.probes, folder=tmp_path, is_foreign=False,
            progress=Told(),
        )  # fmt: skip
        return replace(shop, **changes)

    return make


def build_all(shop: Workshop) -> dict[str, Artifact]:
    return {artifact.name: artifact for artifact in build_artifacts(shop, ("litert",))[0]}


def hop_names(artifact: Artifact) -> list[str]:
    return [hop.hop for hop in artifact.parity]


def test_auto_tries_fp32_first_and_every_int8_that_the_model_has(make_shop: Callable[..., Workshop]) -> None:
    artifacts, kind = build_artifacts(make_shop(), ("litert",))
    assert (kind, [artifact.name for artifact in artifacts]) == ("transformer", ["fp32", "int8-dynamic", "int8-static"])
    for artifact in artifacts:
        own = [] if artifact.precision == "fp32" else [f"fp32 -> {artifact.name}"]
        assert hop_names(artifact) == [*HOPS, *own]
        assert all(hop.passed and hop.n == 16 for hop in artifact.parity)
        assert (artifact.failed, artifact.runtime, artifact.path.suffix) == (None, "litert", ".tflite")
        assert open_session(artifact.path, "litert", 1).input_shape == artifact.input_shape
    assert {artifact.name: artifact.int8.get("linear layers") for artifact in artifacts} == {
        "fp32": None, "int8-dynamic": (13, 13), "int8-static": (13, 13),
    }  # fmt: skip


def test_it_says_where_it_is_and_calibrates_once(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop()
    build_artifacts(shop, ("litert",))
    assert isinstance(shop.progress, Told)
    assert shop.progress.stages == [
        "Exporting to ONNX", "Rewriting", "Converting to LiteRT", "Quantizing: int8-static-minmax", "Calibrating",
        "Quantizing: int8-static-percentile", "Quantizing: int8-static-mse", "Quantizing: int8-dynamic",
        "Quantizing: int8-static",
    ]  # fmt: skip
    assert (8, 8, "") in shop.progress.updates


def test_one_precision_is_built_beside_fp32(make_shop: Callable[..., Workshop]) -> None:
    assert list(build_all(make_shop("int8-static"))) == ["fp32", "int8-static"]
    assert list(build_all(make_shop("fp32"))) == ["fp32"]


def test_an_onnx_file_is_converted_too(make_shop: Callable[..., Workshop]) -> None:
    subject = vit_subject(model=None, graph=vit_graph(), weights="unknown")  # type: ignore[arg-type]
    found = build_all(make_shop("fp32", subject=subject))
    assert hop_names(found["fp32"]) == ["onnx -> rewritten", "rewritten -> litert"]


def test_a_free_batch_is_refused(make_shop: Callable[..., Workshop]) -> None:
    with pytest.raises(
        InputError, match=r"^--runtime litert takes one picture at a time\. Leave --dynamic-batch out\.$"
    ):
        build_artifacts(make_shop(dynamic_batch=True), ("litert",))


def test_no_calibration_picture_ends_the_work(make_shop: Callable[..., Workshop]) -> None:
    with pytest.raises(InputError, match="Static INT8 needs pictures to calibrate on, and there is none"):
        build_artifacts(make_shop("int8-static", calibration=digits().train.subset([])), ("litert",))


def test_an_int8_that_cannot_be_built_is_there_with_its_reason_and_others_go_on(
    make_shop: Callable[..., Workshop],
) -> None:
    shop = make_shop()
    maker = LiteRtMaker(shop, Builder(shop))
    odd = maker.build(
        "odd", Policy(runtime="litert", linear="int8-dynamic", equalize=True, rewrites=maker._exact.rewrites)
    )
    assert (odd.failed, odd.parity) == (
        "LiteRT's INT8 has no equalize: it is made from a file, not from the ONNX graph.", (),
    )  # fmt: skip
    assert not odd.path.exists()


def test_an_int8_that_litert_cannot_open_is_there_with_its_reason(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(source: Path, target: Path, *rest: Any) -> QuantizedFile:
        target.write_bytes(b"odd")
        return QuantizedFile({}, ())

    monkeypatch.setattr(litert, "quantize_litert", ruin)
    found = build_all(make_shop("int8-dynamic"))["int8-dynamic"]
    assert found.failed is not None
    assert "is not a model that LiteRT" in found.failed


def test_what_stayed_in_float_is_told(make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(source: Path, target: Path, *rest: Any) -> QuantizedFile:
        shutil.copy(source, target)
        return QuantizedFile({"linear layers": (6, 13)}, tuple("abcdefg"))

    monkeypatch.setattr(litert, "quantize_litert", leave)
    shop = make_shop("int8-dynamic")
    assert build_all(shop)["int8-dynamic"].int8 == {"linear layers": (6, 13)}
    assert isinstance(shop.progress, Told)
    assert shop.progress.notes == ["int8-dynamic: LiteRT's quantizer left a, b, c, d, e and 2 more in float."]


def test_a_model_that_cannot_be_converted_ends_the_work(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Path:
        raise EdgevitError("This model cannot be converted to LiteRT: its process ended by SIGSEGV.")

    shop = make_shop()
    monkeypatch.setattr(litert, "export_litert", fail)
    with pytest.raises(EdgevitError, match="its process ended by SIGSEGV"):
        build_artifacts(shop, ("litert",))


def maker_of(shop: Workshop) -> tuple[LiteRtMaker, Builder]:
    builder = Builder(shop)
    return LiteRtMaker(shop, builder), builder


def test_a_form_is_converted_once_for_all_precisions_and_after_its_graph_was_forgotten(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop()
    maker, builder = maker_of(shop)
    fp32 = maker.build("fp32", maker._exact)
    monkeypatch.setattr(builder, "form", None)
    monkeypatch.setattr(litert, "export_litert", None)
    int8 = maker.build("int8", maker._exact.model_copy(update={"linear": "int8-dynamic"}))
    assert (int8.failed, fp32.path.name, int8.path.name) == (None, "form-1.tflite", "int8.tflite")
    assert fp32.path in maker.files
    assert int8.path not in maker.files


def test_a_form_that_cannot_be_converted_is_tried_once(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(graph: Path, *rest: object) -> Path:
        asked.append(graph)
        raise EdgevitError("It cannot be converted.")

    monkeypatch.setattr(litert, "export_litert", fail)
    maker, _ = maker_of(make_shop())
    for name in ("one", "two"):
        with pytest.raises(EdgevitError, match=r"^It cannot be converted\.$"):
            maker.build(name, maker._exact)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("change", "hop", "by"),
    [
        ({}, "torch -> litert", "exact"),
        ({"rewrites": ("gelu-tanh",)}, "rewritten -> litert", "exact"),
        ({"tokens": TokenReduction(method="merge", removed=(3, 4))}, "rewritten -> litert", "approximate"),
    ],
)
def test_a_form_is_held_to_what_it_was_made_of(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch, change: Any, hop: str, by: str
) -> None:
    asked = []

    def told(kind: str, measure: Callable[..., Parity]) -> Callable[..., Parity]:
        def measured(name: str, *rest: Any) -> Parity:
            asked.append((name, kind))
            return measure(name, *rest)

        return measured

    monkeypatch.setattr(litert, "export_litert", lambda graph, path, told: Path(shutil.copy(converted("vit"), path)))
    for kind in ("exact", "approximate"):
        monkeypatch.setattr(converting, f"{kind}_parity", told(kind, getattr(converting, f"{kind}_parity")))
    maker, _ = maker_of(make_shop())
    maker.build("it", maker._exact.model_copy(update=change))
    assert asked == [(hop, by)]


def test_the_fp32_logits_are_the_graphs(make_shop: Callable[..., Workshop], tmp_path: Path) -> None:
    shop = make_shop("fp32")
    fp32 = build_all(shop)["fp32"]
    assert read_onnx(next(tmp_path.glob("form-*.onnx"))).graph.output[0].name == "logits"
    exported = replace(fp32, path=tmp_path / "exported-32.onnx", policy=Policy())
    np.testing.assert_allclose(shop.logits(fp32, shop.probes), shop.logits(exported, shop.probes), atol=1e-4)


@pytest.mark.parametrize(("asked", "taken"), [("auto", "percentile"), ("minmax", "minmax")])
def test_static_int8_has_the_calibrator_that_keeps_nearest_to_fp32(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch, asked: str, taken: str
) -> None:
    monkeypatch.setattr(litert, "divergences", lambda reference, artifacts, shop: [3.0, 1.0, 2.0])
    spec = ExportSpec(precision="int8-static", runtime="litert", calibrator=asked)
    maker, _ = maker_of(make_shop(spec=spec))
    assert maker.usual()["int8-static"].calibrator == taken
