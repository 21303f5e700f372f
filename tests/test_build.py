from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from digits_shop import Told, device_elsewhere, device_here, digits, digits_evidence, vit_subject
from onnx import numpy_helper
from tiny_models import is_sorted, op_types, vit_graph

from edgevit import build, makers, workshop
from edgevit.board.preprocess import to_input
from edgevit.build import AUTO_CALIBRATORS
from edgevit.data.batches import prepared
from edgevit.errors import BadFileError, DeviceError, EdgevitError, InputError
from edgevit.export.onnx import read_onnx
from edgevit.makers import build_artifacts, runtimes_to_try
from edgevit.policy import Policy
from edgevit.quantize import apply
from edgevit.quantize.apply import FOLD_WEIGHTS, KEEP_FLOAT_WEIGHTS
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.runtimes import EXACT_INTEGER_SUMS, open_session
from edgevit.verify import divergence
from edgevit.workshop import Artifact, Workshop

EXPORT_HOPS = ["torch -> onnx", "onnx -> rewritten"]
PRECISIONS = ["int8-dynamic", "int8-static", "mixed"]
INT8 = [*PRECISIONS, "mixed-attention", "int8-static-attention"]


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workshop]:
    """make_shop(precision='auto', …): a workshop of the tiny ViT, exported once for all tests; `changes` are fields."""
    monkeypatch.setattr(build, "export_onnx", lambda model, shape, opset, dynamic_batch: vit_graph(dynamic_batch))

    def make(
        precision: str = "auto",
        runtime: str = "onnxruntime",
        dynamic_batch: bool = False,
        calibrator: str = "auto",
        **changes: Any,
    ) -> Workshop:
        evidence = digits_evidence()
        asked = {"precision": precision, "runtime": runtime, "dynamic_batch": dynamic_batch, "calibrator": calibrator}
        shop = Workshop(
            subject=vit_subject(),
            device=device_here(),
            spec=ExportSpec.model_validate(asked),
            thresholds=ParityThresholds(),
            calibration=evidence.calibration,
            probes=evidence.probes,
            folder=tmp_path,
            is_foreign=False,
            progress=Told(),
        )
        return replace(shop, **changes)

    return make


def build_all(shop: Workshop) -> dict[str, Artifact]:
    artifacts, _ = build_artifacts(shop, (shop.spec.runtime,))
    return {artifact.name: artifact for artifact in artifacts}


def damaged(model: onnx.ModelProto, parameter: str) -> onnx.ModelProto:
    """The model with the MatMul before the Add of this bias turned to zeros."""
    add = next(node for node in model.graph.node if parameter in node.input)
    product = next(node for node in model.graph.node if node.output[0] in add.input)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name in product.input)
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), weight.name))
    return model


def hop_names(artifact: Artifact) -> list[str]:
    return [hop.hop for hop in artifact.parity]


def test_auto_tries_fp32_first_and_every_int8_that_the_model_has(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop()
    artifacts, kind = build_artifacts(shop, ("onnxruntime",))
    assert kind == "transformer"
    assert [artifact.name for artifact in artifacts] == ["fp32", *INT8]
    for artifact in artifacts:
        own = [] if artifact.precision == "fp32" else [f"fp32 -> {artifact.name}"]
        assert hop_names(artifact) == [*EXPORT_HOPS, *own]
        assert all(hop.passed and hop.n == 16 for hop in artifact.parity)
        assert (artifact.failed, artifact.runtime) == (None, "onnxruntime")
        onnx.checker.check_model(read_onnx(artifact.path))
        assert is_sorted(onnx.load(artifact.path))


def test_what_each_precision_computes_in_int8(make_shop: Callable[..., Workshop]) -> None:
    types = {name: op_types(onnx.load(artifact.path)) for name, artifact in build_all(make_shop()).items()}
    assert "MatMulInteger" not in types["fp32"] + types["int8-static"]
    assert "QuantizeLinear" not in types["fp32"] + types["int8-dynamic"]
    # queries, keys, values, projection and two of the MLP, in two blocks; and the head
    assert types["int8-dynamic"].count("MatMulInteger") == types["mixed"].count("MatMulInteger") == 2 * 6 + 1
    assert types["int8-dynamic"].count("DequantizeLinear") == 1  # the patch embedding's weights
    assert "QuantizeLinear" in types["mixed"]


def test_weights_that_are_stored_only_are_unfolded_once_when_the_session_is_made(
    make_shop: Callable[..., Workshop],
) -> None:
    sessions = {name: artifact.session for name, artifact in build_all(make_shop()).items()}
    static = dict.fromkeys(("int8-static", "mixed", "mixed-attention", "int8-static-attention"), KEEP_FLOAT_WEIGHTS)
    assert sessions == {"fp32": {}, "int8-dynamic": FOLD_WEIGHTS, **static}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_precision_is_built_beside_fp32(make_shop: Callable[..., Workshop], precision: str) -> None:
    built = build_all(make_shop(precision))
    assert list(built)[:2] == ["fp32", precision]
    assert {artifact.precision for artifact in built.values()} == {"fp32", precision}


def test_fp32_alone_needs_no_calibration(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop("fp32")
    assert list(build_all(shop)) == ["fp32"]
    assert isinstance(shop.progress, Told)
    assert shop.progress.stages == ["Exporting to ONNX", "Rewriting"]


def test_calibration_runs_once_for_all_who_need_it(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop()
    build_artifacts(shop, ("onnxruntime",))
    assert isinstance(shop.progress, Told)
    assert shop.progress.stages == [
        "Exporting to ONNX", "Rewriting", "Quantizing: int8-static-minmax", "Calibrating",
        "Quantizing: int8-static-percentile", "Quantizing: int8-static-mse", "Quantizing: int8-dynamic",
        "Quantizing: int8-static", "Quantizing: mixed", "Quantizing: mixed-attention",
        "Rewriting", "Quantizing: int8-static-attention", "Calibrating",  # a graph of its own, with other tensors
    ]  # fmt: skip
    assert (8, 8, "") in shop.progress.updates


def test_the_calibrator_whose_classes_diverge_least_is_taken(make_shop: Callable[..., Workshop]) -> None:
    def static(calibrator: str) -> tuple[Artifact, float]:
        shop = make_shop("int8-static", calibrator=calibrator)
        built = build_all(shop)
        reference, found = (shop.logits(built[name], shop.calibration) for name in ("fp32", "int8-static"))
        return built["int8-static"], divergence(reference, found)

    diverging = {name: static(name)[1] for name in AUTO_CALIBRATORS}
    assert len(set(diverging.values())) == 3
    chosen, least = static("auto")
    assert least == min(diverging.values())
    assert diverging[chosen.policy.calibrator] == least


def test_a_dynamic_batch_reaches_every_artifact(make_shop: Callable[..., Workshop]) -> None:
    for artifact in build_all(make_shop(dynamic_batch=True)).values():
        session = open_session(artifact.path, "onnxruntime", 1)
        assert session.run(np.zeros((3, 1, 32, 32), np.float32)).shape == (3, 10)


def test_the_workshops_logits_are_the_models(make_shop: Callable[..., Workshop]) -> None:
    import torch

    shop = make_shop("fp32")
    assert shop.subject.model is not None
    pixels = to_input(prepared(digits().test, shop.subject.preprocess), shop.subject.preprocess)
    with torch.no_grad():
        expected = shop.subject.model(torch.from_numpy(pixels)).numpy()
    logits = shop.logits(build_all(shop)["fp32"], digits().test)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert isinstance(shop.progress, Told)
    assert shop.progress.updates[-1] == (40, 40, "")


def test_an_onnx_file_is_not_exported_again(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop(subject=vit_subject(model=None, graph=vit_graph(), weights="unknown"))  # type: ignore[arg-type]
    found = build_all(shop)
    assert hop_names(found["fp32"]) == ["onnx -> rewritten"]
    assert list(found) == ["fp32", *INT8]


@pytest.mark.parametrize(
    ("dropped", "precision", "lacking"),
    [
        (("Gemm", "MatMul"), "int8-dynamic", "no linear layers for --precision int8-dynamic"),
        (("Gemm", "MatMul"), "mixed", "nothing that onnxruntime gains by mixing"),
        (("Gemm", "MatMul", "Conv"), "int8-static", "no linear layers or convolutions for --precision int8-static"),
    ],
)
def test_a_precision_that_the_model_cannot_have_is_refused(
    make_shop: Callable[..., Workshop],
    monkeypatch: pytest.MonkeyPatch,
    dropped: tuple[str, ...],
    precision: str,
    lacking: str,
) -> None:
    find = build.quantizable_nodes

    def without(model: onnx.ModelProto) -> Any:
        found = find(model)
        return replace(found, linear=(), conv=() if "Conv" in dropped else found.conv)

    monkeypatch.setattr(build, "quantizable_nodes", without)
    with pytest.raises(InputError) as caught:
        build_artifacts(make_shop(precision), ("onnxruntime",))
    assert str(caught.value) == f"'tiny-vit' has {lacking}. Take another."
    assert set(build_all(make_shop())) == ({"fp32"} if "Conv" in dropped else {"fp32", "int8-static"})


def test_an_int8_that_cannot_be_built_is_there_with_its_reason_and_others_go_on(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> onnx.ModelProto:
        raise EdgevitError("ONNX Runtime cannot quantize this model: ValueError no.")

    monkeypatch.setattr(apply, "quantize_dynamic", fail)
    found = build_all(make_shop())
    for precision in ("int8-dynamic", "mixed", "mixed-attention"):
        assert found[precision].failed == "ONNX Runtime cannot quantize this model: ValueError no."
        assert found[precision].parity == ()
        assert not found[precision].path.exists()
    assert found["int8-static"].failed is None
    assert hop_names(found["int8-static"])[-1] == "fp32 -> int8-static"


def test_an_int8_that_the_runtime_cannot_open_is_there_with_its_reason(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, runtime: str, threads: int, config: Mapping[str, str]) -> Any:
        if path.name == "int8-static.onnx":
            raise BadFileError(path, "is not a model that ONNX Runtime can load.")
        return open_session(path, runtime, threads, config)

    monkeypatch.setattr(workshop, "open_session", refuse)
    found = build_all(make_shop())
    assert found["int8-static"].failed is not None
    assert "is not a model that ONNX Runtime can load" in found["int8-static"].failed
    assert found["mixed"].failed is None


def test_no_calibration_picture_ends_the_work(make_shop: Callable[..., Workshop]) -> None:
    with pytest.raises(InputError, match="Static INT8 needs pictures to calibrate on, and there is none"):
        build_artifacts(make_shop("int8-static", calibration=digits().train.subset([])), ("onnxruntime",))


def test_an_int8_that_fails_its_parity_names_the_first_diverging_layer(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize = apply.quantize_dynamic

    def ruin(model: onnx.ModelProto, *rest: Any) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return quantize(damaged(copy, "blocks.0.mlp.fc1.bias"), *rest)

    monkeypatch.setattr(apply, "quantize_dynamic", ruin)
    shop = make_shop("int8-dynamic", thresholds=ParityThresholds(int8_cosine=0.99999))
    *before, last = build_all(shop)["int8-dynamic"].parity
    assert all(hop.passed for hop in before)
    assert (last.passed, last.first_diverging_layer) == (False, "blocks.0.mlp.fc1")


def test_an_fp32_that_fails_its_parity_is_alone_and_names_the_layer(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    reform = build.reformed

    def ruin(graph: onnx.ModelProto, policy: Policy) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        rewritten, names = reform(graph, policy)
        return damaged(rewritten, "blocks.1.mlp.fc2.bias"), names

    monkeypatch.setattr(build, "reformed", ruin)
    (fp32,), _ = build_artifacts(make_shop(thresholds=ParityThresholds(exact_cosine=0.999999)), ("onnxruntime",))
    exported, rewritten = fp32.parity
    assert exported.passed
    assert (rewritten.passed, rewritten.first_diverging_layer) == (False, "blocks.1.mlp.fc2")


def test_random_weights_have_no_classes_to_agree_on(make_shop: Callable[..., Workshop]) -> None:
    strict = ParityThresholds(int8_cosine=1.0)
    assert not build_all(make_shop("int8-dynamic", thresholds=strict))["int8-dynamic"].parity[-1].passed
    random = make_shop("int8-dynamic", thresholds=strict, subject=vit_subject("random"))
    assert build_all(random)["int8-dynamic"].parity[-1].passed


def test_what_is_meant_for_another_architecture_is_judged_without_saturation(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, str]] = []

    def remember(path: Path, runtime: str, threads: int, config: Mapping[str, str]) -> Any:
        asked.append(dict(config))
        return open_session(path, runtime, threads, config)

    monkeypatch.setattr(workshop, "open_session", remember)
    build_artifacts(make_shop("int8-dynamic"), ("onnxruntime",))
    assert asked
    assert not any(EXACT_INTEGER_SUMS.items() <= config.items() for config in asked)
    asked.clear()
    found = build_all(make_shop("int8-dynamic", device=device_elsewhere(), is_foreign=True))
    assert all(EXACT_INTEGER_SUMS.items() <= config.items() for config in asked)
    assert found["int8-dynamic"].session == FOLD_WEIGHTS  # the device's own, without what only this machine needs


@pytest.mark.parametrize("is_foreign", [False, True])
def test_torchscript_is_fp32_and_dynamic_with_one_hop_each(
    make_shop: Callable[..., Workshop], is_foreign: bool
) -> None:
    shop = make_shop(runtime="torchscript", is_foreign=is_foreign)
    artifacts, _ = build_artifacts(shop, ("torchscript",))
    script, dynamic = artifacts
    assert (dynamic.name, dynamic.precision, dynamic.failed) == ("int8-dynamic", "int8-dynamic", None)
    assert dynamic.int8 == {"linear layers": (2 * 4 + 1, 2 * 4 + 1)}
    assert hop_names(dynamic) == ["torch -> int8-dynamic"]
    assert dynamic.parity[0].passed
    assert dynamic.parity[0].cosine < 1.0
    assert open_session(dynamic.path, "torchscript", 1).input_shape == shop.subject.input_shape
    assert (script.precision, script.runtime, script.path.suffix) == ("fp32", "torchscript", ".ts")
    assert hop_names(script) == ["torch -> torchscript"]
    assert script.parity[0].passed
    assert open_session(script.path, "torchscript", 1).input_shape == shop.subject.input_shape


def test_torchscript_has_no_static_int8_and_needs_a_torch_model(make_shop: Callable[..., Workshop]) -> None:
    with pytest.raises(
        InputError, match=r"^--runtime torchscript runs fp32 and int8-dynamic, not mixed\. Leave --precision out\.$"
    ):
        build_artifacts(make_shop("mixed"), ("torchscript",))
    graph = vit_subject(model=None, graph=vit_graph())
    with pytest.raises(InputError, match=r"^'tiny-vit' is an ONNX file, and --runtime torchscript needs a checkpoint"):
        build_artifacts(make_shop(subject=graph), ("torchscript",))


def test_what_further_runtimes_make_bears_their_names(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop("int8-static")
    artifacts, kind = build_artifacts(shop, ("onnxruntime", "openvino", "torchscript"))
    assert kind == "transformer"
    assert [artifact.name for artifact in artifacts] == [
        "fp32", "int8-static", "int8-static-attention", "openvino-fp32", "openvino-int8-static", "torchscript-fp32",
    ]  # fmt: skip
    assert len({artifact.path for artifact in artifacts}) == len(artifacts)
    assert [artifact.runtime for artifact in artifacts[-3:]] == ["openvino", "openvino", "torchscript"]
    assert [artifact.failed for artifact in artifacts[:-1]] == [None] * 5
    assert (
        artifacts[-1].failed
        == "--runtime torchscript runs fp32 and int8-dynamic, not int8-static. Leave --precision out."
    )
    assert not artifacts[-1].path.exists()


def test_all_runtimes_share_one_export(make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def export(*arguments: Any) -> onnx.ModelProto:
        asked.append(arguments[1:])
        return vit_graph()

    shop = make_shop("fp32")
    monkeypatch.setattr(build, "export_onnx", export)
    build_artifacts(shop, ("onnxruntime", "openvino"))
    assert asked == [(shop.subject.input_shape, 18, False)]


def test_where_no_runtimes_fp32_is_exact_the_first_one_s_is_alone(make_shop: Callable[..., Workshop]) -> None:
    shop = make_shop(thresholds=ParityThresholds(exact_cosine=1.0, exact_top1_agreement=1.0))
    artifacts, _ = build_artifacts(shop, ("onnxruntime", "openvino"))
    assert [(artifact.name, artifact.runtime) for artifact in artifacts] == [("fp32", "onnxruntime")]


def test_a_first_runtime_that_fails_does_not_stop_the_others(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> onnx.ModelProto:
        raise EdgevitError("It has a loop.")

    monkeypatch.setattr(build, "export_onnx", fail)
    artifacts, kind = build_artifacts(make_shop("fp32"), ("onnxruntime", "torchscript"))
    assert [(artifact.name, artifact.failed) for artifact in artifacts] == [
        ("fp32", None), ("onnxruntime-fp32", "It has a loop."),
    ]  # fmt: skip
    assert (artifacts[0].runtime, kind) == ("torchscript", "transformer")


def test_where_every_runtime_fails_the_first_one_says_why(
    make_shop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> onnx.ModelProto:
        raise EdgevitError("It has a loop.")

    monkeypatch.setattr(build, "export_onnx", fail)
    with pytest.raises(EdgevitError, match=r"^It has a loop\.$"):
        build_artifacts(make_shop("fp32"), ("onnxruntime", "openvino"))


@pytest.mark.parametrize(
    ("asked", "is_foreign", "missing", "tried"),
    [
        ("auto", False, "", ("openvino", "torchscript", "onnxruntime")),
        ("auto", False, "openvino", ("torchscript", "onnxruntime")),
        ("auto", True, "", ("tensorrt",)),
        ("openvino", True, "", ("openvino",)),
    ],
)
def test_auto_is_every_runtime_that_can_be_timed_here_in_the_devices_order(
    monkeypatch: pytest.MonkeyPatch, asked: Any, is_foreign: bool, missing: str, tried: tuple[str, ...]
) -> None:
    monkeypatch.setattr(makers, "find_spec", lambda package: None if package == missing else package)
    device = device_here().model_copy(update={"runtimes": ("tensorrt", "openvino", "torchscript", "onnxruntime")})
    assert runtimes_to_try(device, asked, is_foreign) == tried


def test_a_runtime_that_the_device_lacks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(makers.MAKERS, "executorch")
    device = device_here().model_copy(update={"runtimes": ("executorch",)})
    with pytest.raises(DeviceError, match=r"has no openvino\. It has: executorch\.$"):
        runtimes_to_try(device, "openvino", is_foreign=False)
    with pytest.raises(DeviceError, match=r"makes no artifacts yet for what '.*' has: executorch\.$"):
        runtimes_to_try(device, "auto", is_foreign=False)
