from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from digits_shop import DIGITS, Told, device_here, digits, digits_evidence, vit_subject
from tiny_models import op_types, vit_graph

from edgevit import build
from edgevit.build import Builder
from edgevit.export.onnx import input_shape
from edgevit.policies import exact_policy
from edgevit.policy import Policy, TokenReduction
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.workshop import Artifact, Workshop

STATIC = Policy(linear="int8-static", conv="int8-static")
TYPES = ("float32", "uint8")
FEWER = TokenReduction(method="prune", removed=(8, 0))
LOOSE = ParityThresholds(int8_cosine=0.5, int8_top1_agreement=0.0)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told) -> Builder:
    """Of the tiny ViT; its export at 32 px, and only that one, is done once for all tests."""
    export: Callable[..., onnx.ModelProto] = build.export_onnx

    def export_once(model: Any, shape: tuple[int, ...], *rest: Any) -> onnx.ModelProto:
        return vit_graph() if shape[2] == 32 else export(model, shape, *rest)

    monkeypatch.setattr(build, "export_onnx", export_once)
    evidence = digits_evidence()
    shop = Workshop(
        vit_subject(),
        device_here(),
        ExportSpec(),
        LOOSE,
        evidence.calibration,
        evidence.probes,
        tmp_path,
        is_foreign=False,
        progress=told,
    )  # fmt: skip
    return Builder(shop)


def hops(artifact: Artifact) -> list[str]:
    return [hop.hop for hop in artifact.parity]


def test_a_size_is_exported_once_whatever_is_made_of_it(builder: Builder, told: Told) -> None:
    for policy in (Policy(), exact_policy("onnxruntime"), STATIC, Policy(tokens=FEWER)):
        builder.build("any", policy)
    assert told.stages.count("Exporting to ONNX") == 1
    for policy in (Policy(image_size=64), Policy(image_size=64, linear="int8-dynamic")):
        artifact = builder.build("larger", policy)
        assert artifact.input_shape == (1, 1, 64, 64)
        assert artifact.is_sound
    assert told.stages.count("Exporting to ONNX") == 2


def test_one_form_serves_all_who_differ_in_precision_only(builder: Builder, told: Told) -> None:
    for index, policy in enumerate((Policy(), STATIC, Policy(linear="int8-dynamic"), Policy(threads=1))):
        builder.build(f"policy-{index}", policy)
    assert told.stages.count("Rewriting") == 1


def test_a_form_is_run_on_the_pictures_once_whatever_is_made_of_its_activations(builder: Builder, told: Told) -> None:
    variants: list[dict[str, Any]] = [
        {}, {"attention": "int8-static"}, {"residual": "int8-static"}, {"correct_bias": True}, {"conv": "fp32"},
        {"calibrator": "percentile"},
    ]  # fmt: skip
    for index, fields in enumerate(variants):
        builder.build(f"policy-{index}", STATIC.model_copy(update=fields))
    assert told.stages.count("Calibrating") == 1
    for count, fields in enumerate(({"smooth_alpha": 0.5}, {"rewrites": ("gelu",)}), 2):
        policy = STATIC.model_copy(update=fields)
        assert builder.build("again", policy).failed is builder.build("once more", policy).failed is None
        assert told.stages.count("Calibrating") == count


def test_an_artifact_does_not_depend_on_what_was_built_before_it(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smoothing leaves out the readers of a float node's input: another graph, with ranges of its own."""
    smoothed = STATIC.model_copy(update={"smooth_alpha": 0.5})
    product = builder.nodes(smoothed).linear[0]
    other = smoothed.model_copy(update={"float_nodes": (product,)})
    alone = builder.build("alone", other).path.read_bytes()
    monkeypatch.setattr(builder, "_distributions", {})
    builder.build("before", smoothed)
    assert builder.build("after", other).path.read_bytes() == alone


def test_the_forms_used_last_are_kept(builder: Builder, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEPT_FORMS", 2)
    first, second, third = (Policy(rewrites=names) for names in ((), ("gelu",), ("layout",)))
    made = [(first, 1), (second, 2), (first, 2), (third, 3), (first, 3), (second, 4)]
    for policy, count in made:
        builder.form(policy)
        assert told.stages.count("Rewriting") == count


def test_a_form_that_went_is_made_anew_in_a_file_of_its_own(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEPT_FORMS", 1)
    before = builder.form(Policy()).artifact.path
    builder.form(Policy(rewrites=("gelu",)))
    after = builder.form(Policy()).artifact.path
    assert before != after
    assert before.read_bytes() == after.read_bytes()


def test_exact_rewrites_are_held_to_the_export_and_approximations_to_them(builder: Builder) -> None:
    exact = builder.build("exact", Policy(rewrites=("gelu", "attention-split")))
    assert hops(exact) == ["torch -> onnx", "onnx -> rewritten"]
    policy = Policy(rewrites=("gelu", "attention-split", "gelu-tanh"), tokens=FEWER, linear="int8-dynamic")
    rough = builder.build("rough", policy)
    assert hops(rough) == [*hops(exact), "rewritten -> approximated", "fp32 -> rough"]
    assert rough.is_sound
    assert set(rough.rewrites) == set(policy.rewrites)
    assert rough.exported == exact.exported


def test_pixels_as_bytes_are_an_input_of_their_own(builder: Builder) -> None:
    plain, by_bytes = (builder.build(kind, STATIC.model_copy(update={"input_type": kind})) for kind in TYPES)
    types = [onnx.load(artifact.path).graph.input[0].type.tensor_type.elem_type for artifact in (plain, by_bytes)]
    assert types == [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8]
    assert by_bytes.is_sound
    assert hops(by_bytes)[-2:] == ["rewritten -> approximated", "fp32 -> uint8"]
    assert "Cast" not in op_types(onnx.load(by_bytes.path))[:1]


def test_an_artifact_says_how_much_of_it_is_int8(builder: Builder) -> None:
    policy = Policy(rewrites=("attention-split",), linear="int8-dynamic", conv="int8-weights")
    artifact = builder.build("ours", policy)
    assert (artifact.name, artifact.policy, artifact.rewrites) == ("ours", policy, ("attention-split",))
    assert artifact.int8 == {  # six in each of two blocks and the head; two products and two sums in each block
        "linear layers": (13, 13), "convolutions": (0, 1), "attention products": (0, 4), "residual sums": (0, 4),
    }  # fmt: skip
    assert builder.build("fp32", Policy()).int8 == {}
    assert builder.kind(policy) == "transformer"


def test_the_tiny_vit_is_what_these_tests_take_it_for() -> None:
    assert input_shape(vit_graph()) == vit_subject().input_shape == (1, 1, 32, 32)
    assert vit_subject().labels == digits().classes == DIGITS
