from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from digits_shop import DIGITS, Told, device_here, digits_evidence, vit_subject
from qdq_nets import Net

from edgevit.catalog import load_device
from edgevit.errors import DeviceError, InputError
from edgevit.makers import build_artifacts
from edgevit.models.create import create_model, preprocess_for
from edgevit.models.fusion import fuse_for_inference
from edgevit.recipe import ExportSpec, ModelSpec, ParityThresholds
from edgevit.subject import Subject
from edgevit.tensorrt.check import check_graph
from edgevit.tensorrt.support import versions_of
from edgevit.workshop import Artifact, Workshop

Make = Callable[..., Workshop]
RESNET = ModelSpec(name="timm:resnet10t", image_size=32, channels=1, weights="random")


@functools.cache
def resnet() -> Subject:
    model = fuse_for_inference(create_model(RESNET, len(DIGITS))).requires_grad_(False)
    return vit_subject(name="resnet10t", model=model, preprocess=preprocess_for(model, RESNET), weights="random")


@pytest.fixture
def shop(tmp_path: Path) -> Make:
    def make(device: str = "jetson-orin-nano", subject: Subject | None = None, **spec: Any) -> Workshop:
        evidence = digits_evidence()
        return Workshop(
            subject or vit_subject(), load_device(device), ExportSpec(runtime="tensorrt", **spec), ParityThresholds(),
            evidence.calibration, evidence.probes, tmp_path, True, Told(),
        )  # fmt: skip

    return make


def graph_of(artifact: Artifact) -> onnx.ModelProto:
    return onnx.load(str(artifact.path))


def kinds_of(artifact: Artifact) -> set[str]:
    return {node.op_type for node in graph_of(artifact).graph.node}


@pytest.mark.parametrize("device", ["jetson-orin-nano", "jetson-xavier-nx"])
def test_a_vit_is_made_in_fp32_fp16_and_int8_that_keep_every_rule(device: str, shop: Make) -> None:
    workshop = shop(device)
    artifacts, kind = build_artifacts(workshop, ("tensorrt",))
    assert [artifact.name for artifact in artifacts] == ["fp32", "fp16", "int8-static"]
    assert [artifact.precision for artifact in artifacts] == ["fp32", "fp16", "int8-static"]
    assert all(artifact.is_sound for artifact in artifacts)
    assert kind == "transformer"
    versions = versions_of(workshop.device)
    for artifact in artifacts:
        assert check_graph(graph_of(artifact), versions, has_float16=artifact.name != "fp32") == ()
    assert artifacts[2].int8["linear layers"] == (9, 9)
    assert [artifact.session["tensorrt.precision"] for artifact in artifacts] == ["fp32", "fp16", "int8"]


def test_a_residual_net_is_made_in_int8_with_its_skips_quantized(shop: Make) -> None:
    artifacts, kind = build_artifacts(shop(subject=resnet()), ("tensorrt",))
    assert [(artifact.name, artifact.failed) for artifact in artifacts if not artifact.is_sound] == []
    assert len(artifacts) == 3
    assert kind == "cnn"
    graph = graph_of(artifacts[2]).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    sums = [node for node in graph.node if node.op_type == "Add"]
    assert sums
    assert all({makers[name] for name in node.input} == {"Conv", "DequantizeLinear"} for node in sums)


def test_jetpack_5_gets_its_layer_norms_written_out_and_held_in_fp32(shop: Make) -> None:
    artifacts, _ = build_artifacts(shop("jetson-xavier-nx"), ("tensorrt",))
    assert all("LayerNormalization" not in kinds_of(artifact) for artifact in artifacts)
    names = {node.name for node in graph_of(artifacts[1]).graph.node}
    held = artifacts[1].session["tensorrt.float32_layers"].split(",")
    assert len(held) == 5 * 7  # five norms: mean, centered, squared, variance, safe, deviation, normed
    assert set(held) <= names
    assert "tensorrt.float32_layers" not in artifacts[0].session


def test_jetpack_6_gets_layer_norms_as_one_operator_and_none_of_onnx_runtime_s_own(shop: Make) -> None:
    artifacts, _ = build_artifacts(shop(), ("tensorrt",))
    assert all("LayerNormalization" in kinds_of(artifact) for artifact in artifacts)
    assert all(node.domain == "" for artifact in artifacts for node in graph_of(artifact).graph.node)


def test_the_opset_is_the_newest_that_all_versions_read_and_a_note_says_so(shop: Make) -> None:
    workshop = shop(precision="fp32")
    (fp32,), _ = build_artifacts(workshop, ("tensorrt",))
    assert graph_of(fp32).opset_import[0].version == 17
    assert workshop.progress.notes == ["Exporting with opset 17, the newest that TensorRT 8.6 and 10.3 reads."]  # type: ignore[attr-defined]


def test_fp16_is_judged_by_a_stand_in_that_rounds(shop: Make) -> None:
    workshop = shop(precision="fp16")
    artifacts, _ = build_artifacts(workshop, ("tensorrt",))
    assert [artifact.name for artifact in artifacts] == ["fp32", "fp16"]
    fp16 = artifacts[1]
    assert fp16.path == artifacts[0].path
    assert fp16.stand_in is not None
    assert [hop.hop for hop in fp16.parity][-1] == "fp32 -> fp16"
    differs = np.abs(workshop.logits(fp16, workshop.probes) - workshop.logits(artifacts[0], workshop.probes)).max()
    assert 0 < differs < 0.05


def test_a_model_that_leaves_float16_s_range_is_built_in_fp32_and_its_fp16_says_why(shop: Make) -> None:
    net = Net((1, 1, 32, 32))
    loud = net.op("Mul", net.op("Flatten", "input"), net.constant(np.float32([7e4])))
    weight = net.constant(np.random.default_rng(0).normal(size=(1024, 10)).astype(np.float32) * 1e-4)
    graph = net.model(net.op("MatMul", loud, weight))
    subject = replace(vit_subject(), model=None, graph=onnx.shape_inference.infer_shapes(graph))
    fp32, fp16 = build_artifacts(shop(subject=subject, precision="fp16"), ("tensorrt",))[0]
    assert fp32.is_sound
    assert fp16.failed is not None
    assert "TensorRT rule 'half-range': constant 'constant_0' holds 7e+04" in fp16.failed


def test_a_graph_that_tensorrt_does_not_take_fails_with_the_rule_and_its_source(shop: Make) -> None:
    net = Net((1, 1, 32, 32), opset=17)
    flat = net.op("Flatten", "input")
    gelu = net.op("Gelu", flat, domain="com.microsoft")
    linear = net.op("MatMul", gelu, net.constant(np.ones((1024, 10), np.float32) * 1e-3))
    graph = net.model(linear)
    graph.graph.output[0].type.tensor_type.shape.CopyFrom(
        onnx.TensorShapeProto(dim=[{"dim_value": 1}, {"dim_value": 10}])
    )
    subject = replace(vit_subject(), model=None, graph=graph)
    (fp32,), _ = build_artifacts(shop(subject=subject), ("tensorrt",))
    assert fp32.failed is not None
    assert "TensorRT rule 'domain': 'Gelu_1' is com.microsoft.Gelu" in fp32.failed
    assert "https://github.com/onnx/onnx-tensorrt/" in fp32.failed


@pytest.mark.parametrize("precision", ["int8-dynamic", "mixed"])
def test_a_precision_that_engines_do_not_have_is_refused_before_anything_is_built(precision: str, shop: Make) -> None:
    with pytest.raises(InputError, match=f"tensorrt runs fp32, fp16 and int8-static, not {precision}"):
        build_artifacts(shop(precision=precision), ("tensorrt",))


def test_a_free_batch_is_refused(shop: Make) -> None:
    with pytest.raises(InputError, match="--dynamic-batch does not go with --runtime tensorrt"):
        build_artifacts(shop(dynamic_batch=True), ("tensorrt",))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_fp16_is_for_tensorrt_alone(runtime: Any, shop: Make) -> None:
    with pytest.raises(InputError, match=f"--precision fp16 is for --runtime tensorrt, not {runtime}"):
        build_artifacts(shop(precision="fp16"), (runtime,))


def test_a_device_without_jetpack_is_refused(shop: Make) -> None:
    with pytest.raises(DeviceError, match="--runtime tensorrt is for JetPack"):
        build_artifacts(replace(shop(), device=device_here()), ("tensorrt",))
