from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from digits_shop import device_here

from edgevit.device import Device
from edgevit.errors import InputError
from edgevit.policies import NO_STEM, PAYING_REWRITES, POINTWISE
from edgevit.policy import ConvKind, Policy
from edgevit.quantize.nodes import QuantizableNodes
from edgevit.rewrite.token_schedule import schedule
from edgevit.runtimes.litert import DELEGATE
from edgevit.runtimes.onnxruntime import CPU_ARENA, GRAPH_LEVEL, PROVIDER
from edgevit.search.seeds import seeds
from edgevit.search.space import SearchSpace, policy_of
from edgevit.tuning import search_space as module
from edgevit.tuning.search_space import KEPT, search_space, searched_runtimes
from edgevit.tuning.traits import Traits

EVERY_KIND: tuple[ConvKind, ...] = ("stem", "pointwise", "dense", "depthwise")
NOTHING = QuantizableNodes(linear=(), conv=(), silu=(), attention=(), residual=(), passing=(), conv_kinds={})
VIT = replace(
    NOTHING, linear=("qkv",), conv=("patches",), attention=("scores",), residual=("skip",),
    conv_kinds={"patches": "stem"},
)  # fmt: skip
HYBRID = replace(VIT, conv=("a", "b"), conv_kinds={"a": "stem", "b": "pointwise"})


def traits(nodes: QuantizableNodes = VIT, **changes: Any) -> Traits:
    """A ViT of 12 blocks and 14 x 14 patches, unless said otherwise."""
    found = {
        "side": 224, "nodes": nodes, "outliers": (), "float_first": (), "blocks": 12, "patches": 196,
        "rewrites": frozenset({"gelu", "layout"}), "more_rewrites": frozenset({"attention"}),
        "approximations": frozenset({"gelu-tanh"}), "has_conv_pairs": False, "calibrator": "minmax",
    }  # fmt: skip
    return Traits(**{**found, **changes})


def board(isa: tuple[str, ...] = (), runtimes: tuple[str, ...] = ("onnxruntime", "openvino")) -> Device:
    device = device_here()
    return device.model_copy(update={"runtimes": runtimes, "cpu": device.cpu.model_copy(update={"isa": isa})})


def space_of(found: Traits, device: Device | None = None, sizes: tuple[int, ...] = (), is_foreign: bool = False) -> Any:
    return search_space(found, device or board(), sizes, is_foreign)


@pytest.fixture(autouse=True)
def _every_runtime_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: package)


def test_the_first_of_everything_is_fp32_as_the_model_came() -> None:
    space: SearchSpace = space_of(traits(HYBRID, outliers=("qkv",)), sizes=(160,))
    assert policy_of({}, space, schedule) == Policy(rewrites=PAYING_REWRITES["onnxruntime"])


def test_sizes_are_the_models_own_and_then_the_others_once_each_and_largest_first() -> None:
    space = space_of(traits(), sizes=(160, 256, 224, 160))
    assert space.image_sizes == (224, 256, 160)


def test_patches_are_counted_by_area_at_each_size() -> None:
    tokens = space_of(traits(), sizes=(112, 64)).tokens
    assert tokens.tokens == {224: 196, 112: 49, 64: 16}  # 14², 7², 4²: patches of 16 pixels
    assert (tokens.blocks, tokens.kept, tokens.starts) == (12, KEPT, (0, 1, 2, 4))


@pytest.mark.parametrize(("blocks", "starts"), [(6, (0, 1)), (7, (0, 1, 2, 4)), (3, (0, 1))])
def test_tokens_go_from_one_of_the_first_blocks_on(blocks: int, starts: tuple[int, ...]) -> None:
    tokens = space_of(traits(blocks=blocks)).tokens
    assert tokens.starts == starts
    for start in starts:
        assert len(schedule(blocks, tokens.tokens[224], KEPT[0], start)) == blocks


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_without_three_blocks_no_token_goes(blocks: int) -> None:
    assert space_of(traits(blocks=blocks, patches=0)).tokens is None


def test_operators_that_the_model_lacks_are_not_searched() -> None:
    space = space_of(traits(NOTHING, blocks=0, patches=0, approximations=frozenset()))
    assert (space.linear, space.conv, space.attention, space.residual) == (("fp32",),) * 4
    assert space.conv_kinds == (EVERY_KIND,)
    assert (space.approximations, space.sensitive_nodes, space.smooth_alphas) == ({}, (), (None,))


def test_a_vit_is_searched_in_every_precision_but_residual_sums() -> None:
    space = space_of(traits())
    assert space.linear == ("fp32", "int8-dynamic", "int8-static")
    assert space.conv == ("fp32", "int8-weights", "int8-static")
    assert (space.attention, space.residual) == (("fp32", "int8-static"), ("fp32",))
    assert space.conv_kinds == (EVERY_KIND,)


def test_the_search_begins_with_the_calibrator_that_suits_the_model() -> None:
    assert space_of(traits(HYBRID, calibrator="percentile")).calibrators == ("percentile", "minmax", "mse")
    assert seeds({"vit": space_of(traits(HYBRID, calibrator="mse"))}, schedule)[2].variant.policy.calibrator == "mse"


@pytest.mark.parametrize(("has_pairs", "tried"), [(True, (False, True)), (False, (False,))])
def test_convolutions_are_equalized_where_two_follow_each_other(has_pairs: bool, tried: tuple[bool, ...]) -> None:
    assert space_of(traits(HYBRID, has_conv_pairs=has_pairs)).equalize == tried


def test_with_several_kinds_of_convolutions_some_may_stay_in_float_and_sums_be_quantized() -> None:
    space = space_of(traits(HYBRID))
    assert space.conv_kinds == (EVERY_KIND, NO_STEM, POINTWISE)
    assert space.residual == ("fp32", "int8-static")


def test_only_approximations_that_change_the_graph_are_offered() -> None:
    assert space_of(traits()).approximations == {"gelu": ("gelu-tanh",)}


def test_outliers_may_be_smoothed() -> None:
    assert space_of(traits(outliers=("qkv",))).smooth_alphas == (None, 0.15, 0.5)


def test_layers_stay_in_float_in_the_order_of_their_worth() -> None:
    assert space_of(traits(float_first=("head", "qkv"))).sensitive_nodes == ("head", "qkv")


def test_any_rewrite_that_changed_the_graph_may_be_left_out_and_any_other_put_to_them() -> None:
    space = space_of(traits())
    assert (set(space.left_out), space.added) == ({"gelu", "layout"}, ("attention",))
    changed = policy_of({"left_out": "gelu", "added": "attention"}, space, schedule).rewrites
    assert set(changed) == {*PAYING_REWRITES["onnxruntime"], "attention"} - {"gelu"}


@pytest.mark.parametrize(
    ("device", "is_foreign", "runtimes"),
    [
        (board(), False, ("onnxruntime", "openvino")),
        (board(runtimes=("onnxruntime",)), False, ("onnxruntime",)),
        (board(), True, ("onnxruntime",)),
        (board(runtimes=("litert", "onnxruntime")), False, ("onnxruntime", "litert")),
        (board(runtimes=("litert", "onnxruntime")), True, ("onnxruntime",)),
        (board(runtimes=("onnxruntime", "openvino", "torchscript")), False, ("onnxruntime", "openvino")),
    ],
)
def test_runtimes_are_those_of_the_device_that_are_measured_here(
    device: Device, is_foreign: bool, runtimes: tuple[str, ...]
) -> None:
    space = space_of(traits(), device, is_foreign=is_foreign)
    assert space.runtimes == runtimes
    assert space.rewrites == {runtime: PAYING_REWRITES[runtime] for runtime in runtimes}  # type: ignore[index]


def test_a_runtime_that_is_not_installed_here_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: None if package == "openvino" else package)
    assert space_of(traits()).runtimes == ("onnxruntime",)


@pytest.mark.parametrize("package", ["ai_edge_litert", "ai_edge_quantizer", "litert_torch"])
def test_litert_is_searched_only_where_its_files_can_be_made(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == package else name)
    assert space_of(traits(), board(runtimes=("onnxruntime", "litert"))).runtimes == ("onnxruntime",)


@pytest.mark.parametrize(
    ("is_foreign", "why"),
    [
        (False, "only onnxruntime and openvino"),
        (True, "only onnxruntime: nothing is measured, and what other kernels cost there is not known"),
    ],
)
def test_a_runtime_that_cannot_be_searched_is_refused_with_those_that_can(is_foreign: bool, why: str) -> None:
    with pytest.raises(InputError) as caught:
        searched_runtimes(board(), is_foreign, "litert")
    assert str(caught.value) == f"--runtime litert: cannot be searched for device '{board().name}' here, {why}."


def test_litert_has_no_operators_of_onnx_runtimes_own_and_may_run_without_xnnpack() -> None:
    space = space_of(traits(), board(runtimes=("onnxruntime", "litert")))
    chosen = {"runtime": "litert", "added": "attention", "session": "no XNNPACK"}
    policy = policy_of(chosen, space, schedule)
    assert (policy.rewrites, policy.session) == (PAYING_REWRITES["litert"], {DELEGATE: "none"})
    assert policy_of({**chosen, "session": "no arena"}, space, schedule).session == {}
    assert "attention" in policy_of({"added": "attention"}, space, schedule).rewrites


def test_a_further_runtime_begins_with_every_precision_and_with_dynamic_int8_of_fewer_tokens() -> None:
    space = space_of(traits(), board(runtimes=("onnxruntime", "litert")))
    found = [seed.variant.policy for seed in seeds({"": space}, schedule) if seed.variant.policy.runtime == "litert"]
    whole = [(policy.linear, policy.conv) for policy in found if policy.tokens is None]
    assert whole == [
        ("fp32", "fp32"), ("int8-dynamic", "int8-dynamic"), ("int8-static", "int8-static"),
        ("int8-dynamic", "int8-static"),
    ]  # fmt: skip
    assert [policy.linear for policy in found if policy.tokens] == ["int8-dynamic"] * 2 + ["int8-static"] * 2


@pytest.mark.parametrize(
    ("isa", "session"),
    [
        (("avx2",), {}),
        (("avx512_bf16",), {"INFERENCE_PRECISION_HINT": "bf16"}),
        (("amx_bf16", "avx2"), {"INFERENCE_PRECISION_HINT": "bf16"}),
    ],
)
def test_openvino_computes_in_bfloat16_where_the_processor_has_it(
    isa: tuple[str, ...], session: dict[str, str]
) -> None:
    sessions = space_of(traits(), board(isa)).sessions
    assert sessions["openvino"] == {"default": session}


ALWAYS = {"default": {}, "extended": {GRAPH_LEVEL: "extended"}, "no arena": {CPU_ARENA: "0"},
          "no prepacking": {"session.disable_prepacking": "1"}}  # fmt: skip
YIELDING = {"no spinning": {"session.intra_op.allow_spinning": "0"}}


@pytest.mark.parametrize(("threads", "more"), [((), {}), ((2,), YIELDING)])
def test_threads_may_yield_instead_of_spinning_where_there_are_several(threads: tuple[int, ...], more: Any) -> None:
    space = search_space(traits(), board().model_copy(update={"threads": 1}), (), False, None, threads)
    assert space.sessions["onnxruntime"] == {**ALWAYS, **more}


def test_a_provider_is_searched_where_it_is_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "built_providers", lambda: ["XnnpackExecutionProvider", "CPUExecutionProvider"])
    found = space_of(traits()).sessions["onnxruntime"]
    assert found["XNNPACK"] == {PROVIDER: "XnnpackExecutionProvider"}
    assert "ACL" not in found


def test_a_cost_model_has_no_sessions_to_search() -> None:
    assert space_of(traits(), board(), is_foreign=True).sessions == {}
