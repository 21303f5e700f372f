from __future__ import annotations

from typing import Any

import pytest

from edgevit.errors import InputError
from edgevit.policies import (
    INT8_REWRITES,
    NO_STEM,
    PAYING_REWRITES,
    POINTWISE,
    default_policies,
    exact_policy,
)
from edgevit.policy import ConvKind, Policy
from edgevit.quantize.nodes import QuantizableNodes
from edgevit.recipe import ExportSpec, RuntimeName
from edgevit.rewrite import EXACT

EVERY_KIND: tuple[ConvKind, ...] = ("stem", "pointwise", "dense", "depthwise")
VIT_CONVS: tuple[ConvKind, ...] = ("stem",)
PAYING = PAYING_REWRITES["onnxruntime"]


def model(linear: int = 0, convs: tuple[ConvKind, ...] = (), attention: int = 0, residual: int = 0) -> QuantizableNodes:
    """So many nodes of each kind; each of `convs` is one convolution of that kind."""

    def names(kind: str, count: int) -> tuple[str, ...]:
        return tuple(f"{kind}_{index}" for index in range(count))

    return QuantizableNodes(
        linear=names("linear", linear), conv=names("conv", len(convs)), silu=(), passing=(),
        attention=names("product", attention), residual=names("sum", residual),
        conv_kinds=dict(zip(names("conv", len(convs)), convs, strict=True)),
    )  # fmt: skip


VIT = model(linear=9, convs=VIT_CONVS, attention=4, residual=4)
HYBRID = model(linear=9, convs=("stem", "pointwise", "dense", "depthwise"), attention=4, residual=4)
CNN = model(linear=1, convs=("stem", "pointwise", "depthwise"), residual=2)


def policies(nodes: QuantizableNodes, runtime: RuntimeName = "onnxruntime", **spec: Any) -> dict[str, Policy]:
    return default_policies(nodes, runtime, ExportSpec(**spec), "a-model")


def kinds(policy: Policy) -> tuple[str, str, str, str]:
    return policy.linear, policy.conv, policy.attention, policy.residual


def test_a_vit_is_tried_in_every_precision_and_with_attention_in_int8() -> None:
    found = policies(VIT)
    assert list(found) == ["fp32", "int8-dynamic", "int8-static", "mixed", "mixed-attention", "int8-static-attention"]
    assert {name: kinds(policy) for name, policy in found.items()} == {
        "fp32": ("fp32", "fp32", "fp32", "fp32"),
        "int8-dynamic": ("int8-dynamic", "int8-weights", "fp32", "fp32"),
        "int8-static": ("int8-static", "int8-static", "fp32", "fp32"),
        "mixed": ("int8-dynamic", "int8-static", "fp32", "fp32"),
        "mixed-attention": ("int8-dynamic", "int8-static", "int8-static", "fp32"),
        "int8-static-attention": ("int8-static", "int8-static", "int8-static", "fp32"),
    }
    assert {policy.conv_kinds for policy in found.values()} == {EVERY_KIND}


def test_with_several_kinds_of_convolutions_pointwise_ones_alone_are_tried_too() -> None:
    found = policies(HYBRID)
    assert list(found) == [
        "fp32", "int8-dynamic", "int8-static", "int8-static-pointwise", "mixed", "mixed-pointwise", "mixed-attention",
        "int8-static-attention",
    ]  # fmt: skip
    for name in ("int8-static", "mixed"):
        assert found[f"{name}-pointwise"] == found[name].model_copy(update={"conv_kinds": POINTWISE})
    assert found["mixed-attention"].conv_kinds == NO_STEM
    assert kinds(found["mixed-attention"]) == ("int8-dynamic", "int8-static", "int8-static", "int8-static")
    assert set(kinds(found["int8-static-attention"])) == {"int8-static"}
    assert found["int8-static-attention"].conv_kinds == EVERY_KIND


def test_rewrites_for_int8_kernels_are_made_only_where_all_is_static_int8() -> None:
    found = policies(HYBRID)
    extra = {name: set(policy.rewrites) & set(INT8_REWRITES["onnxruntime"]) for name, policy in found.items()}
    assert extra.pop("int8-static-attention") == set(INT8_REWRITES["onnxruntime"])
    assert not any(extra.values())


def test_residual_sums_of_a_network_without_attention_are_tried_in_int8_beside_static_convolutions() -> None:
    found = policies(model(linear=1, convs=("stem", "pointwise", "depthwise"), residual=3))
    assert kinds(found["int8-static-residual"]) == ("int8-static", "int8-static", "fp32", "int8-static")
    assert found["int8-static-residual"].conv_kinds == NO_STEM


def test_a_network_without_attention_has_no_candidate_for_it() -> None:
    assert [name for name in policies(CNN) if "attention" in name] == []


def test_without_linear_layers_int8_is_static() -> None:
    found = policies(model(convs=("stem", "stem")))
    assert list(found) == ["fp32", "int8-static"]
    assert kinds(found["int8-static"]) == ("fp32", "int8-static", "fp32", "fp32")


def test_without_convolutions_none_is_stored_or_quantized() -> None:
    found = policies(model(linear=4, attention=2))
    assert list(found) == ["fp32", "int8-dynamic", "int8-static", "mixed-attention", "int8-static-attention"]
    assert found["int8-dynamic"].conv == found["mixed-attention"].conv == "fp32"


def test_a_model_that_int8_is_not_offered_to_is_fp32() -> None:
    assert list(policies(model())) == ["fp32"]


def test_openvino_is_offered_static_int8_only_and_its_own_rewrites() -> None:
    found = policies(HYBRID, runtime="openvino")
    assert list(found) == ["fp32", "int8-static", "int8-static-pointwise"]
    assert {(policy.runtime, policy.rewrites) for policy in found.values()} == {
        ("openvino", PAYING_REWRITES["openvino"])
    }


def test_all_have_the_calibrator_that_was_asked_for_and_the_exact_rewrites() -> None:
    found = policies(VIT, calibrator="entropy")
    assert found.pop("fp32") == exact_policy("onnxruntime")
    assert {policy.calibrator for policy in found.values()} == {"entropy"}
    assert all(policy.rewrites[: len(PAYING)] == PAYING for policy in found.values())


@pytest.mark.parametrize(
    ("precision", "names"),
    [
        ("fp32", ["fp32"]),
        ("int8-dynamic", ["fp32", "int8-dynamic"]),
        ("int8-static", ["fp32", "int8-static", "int8-static-pointwise", "int8-static-attention"]),
        ("mixed", ["fp32", "mixed", "mixed-pointwise", "mixed-attention"]),
    ],
)
def test_a_precision_that_is_asked_for_is_built_in_all_its_variants_beside_fp32(
    precision: str, names: list[str]
) -> None:
    assert list(policies(HYBRID, precision=precision)) == names


@pytest.mark.parametrize(
    ("nodes", "spec", "lacking"),
    [
        (model(convs=VIT_CONVS), {"precision": "int8-dynamic"}, "no linear layers for --precision int8-dynamic"),
        (model(linear=1), {"precision": "mixed"}, "nothing that onnxruntime gains by mixing"),
        (model(), {"precision": "int8-static"}, "no linear layers or convolutions for --precision int8-static"),
    ],
)
def test_a_precision_that_the_model_cannot_have_is_refused(
    nodes: QuantizableNodes, spec: dict[str, Any], lacking: str
) -> None:
    with pytest.raises(InputError) as caught:
        policies(nodes, **spec)
    assert str(caught.value) == f"'a-model' has {lacking}. Take another."


@pytest.mark.parametrize("precision", ["int8-dynamic", "mixed"])
def test_openvino_is_not_blamed_on_the_model(precision: str) -> None:
    with pytest.raises(InputError) as caught:
        policies(VIT, runtime="openvino", precision=precision)
    assert str(caught.value) == (
        f"--runtime openvino runs fp32 and int8-static, not {precision}. Leave --precision out."
    )


def test_default_rewrites_are_known_and_exact() -> None:
    for names in (*PAYING_REWRITES.values(), *INT8_REWRITES.values()):
        assert set(names) <= set(EXACT)
        assert len(set(names)) == len(names)


def test_openvinos_int8_computes_its_floats_in_bfloat16_where_the_processor_has_it_but_fp32_does_not() -> None:
    for isa, session in (((), {}), (("avx512_bf16",), {"INFERENCE_PRECISION_HINT": "bf16"})):
        found = default_policies(VIT, "openvino", ExportSpec(), "a-model", isa)
        assert {name: policy.session for name, policy in found.items()} == {"fp32": {}, "int8-static": session}
    assert {
        policy.session == {}
        for policy in default_policies(VIT, "onnxruntime", ExportSpec(), "m", ("amx_bf16",)).values()
    } == {True}
