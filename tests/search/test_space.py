from __future__ import annotations

import pytest
from arithmetic_bench import SPACE, constant_schedule
from pydantic import ValidationError

from edgevit.policy import Policy, TokenReduction
from edgevit.rewrite.token_schedule import schedule
from edgevit.search.seeds import seeds
from edgevit.search.space import SearchSpace, TokenSpace, dimensions, policy_of
from edgevit.search.trials import canonical


def test_the_plain_values_are_fp32_with_the_exact_rewrites():
    assert policy_of({}, SPACE, constant_schedule) == Policy(rewrites=("class-token",))


def test_every_parameter_arrives_in_the_policy():
    parameters = {
        "image_size": 192, "gelu": "quick-gelu", "kept": 0.5, "start": 3, "token_method": "merge",
        "linear": "int8-static", "conv": "int8-static", "attention": "int8-static", "float_nodes": 2,
        "calibrator": "percentile", "smooth_alpha": 0.5, "session": "no arena",
    }  # fmt: skip
    assert policy_of(parameters, SPACE, constant_schedule) == Policy(
        image_size=192,
        rewrites=("class-token", "quick-gelu"),
        tokens=TokenReduction(method="merge", removed=(0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8)),  # 145 / 2 in 9 blocks
        linear="int8-static",
        conv="int8-static",
        attention="int8-static",
        float_nodes=("node 0", "node 1"),
        calibrator="percentile",
        smooth_alpha=0.5,
        session={"session.enable_cpu_mem_arena": "0"},
    )


@pytest.mark.parametrize(
    "without_effect",
    [
        {"float_nodes": 4},
        {"calibrator": "percentile"},
        {"smooth_alpha": 0.5},
        {"start": 3},
        {"token_method": "merge"},
        {"image_size": 224},
    ],
)
def test_what_has_no_effect_does_not_make_another_policy(without_effect):
    assert policy_of(without_effect, SPACE, constant_schedule) == policy_of({}, SPACE, constant_schedule)


def test_a_dimension_with_one_value_is_not_searched():
    space = SearchSpace(image_sizes=(224,), linear=("fp32", "int8-dynamic"))
    assert [dimension.name for dimension in dimensions(space)] == ["linear"]


def test_float_nodes_are_tried_in_doubling_numbers_up_to_all():
    space = SearchSpace(image_sizes=(224,), sensitive_nodes=("a", "b", "c", "d", "e", "f"))
    assert dimensions(space)[0].choices == (0, 1, 2, 4, 6)


@pytest.mark.parametrize(("conv", "is_equalized"), [("fp32", False), ("int8-weights", False), ("int8-static", True)])
def test_only_convolutions_with_quantized_activations_are_equalized(conv, is_equalized):
    space = SearchSpace(image_sizes=(224,), conv=("fp32", "int8-weights", "int8-static"), equalize=(False, True))
    assert policy_of({"conv": conv, "equalize": True}, space, constant_schedule).equalize is is_equalized


LITERT = SearchSpace(
    image_sizes=(224,), runtimes=("litert",), linear=("fp32", "int8-dynamic", "int8-static"),
    conv=("fp32", "int8-weights", "int8-static"), attention=("fp32", "int8-static"),
    residual=("fp32", "int8-static"), smooth_alphas=(None, 0.5), equalize=(False, True), correct_bias=(False, True),
    conv_kinds=(("stem", "pointwise", "depthwise"), ("pointwise", "depthwise")),
)  # fmt: skip


def test_what_litert_has_no_kernels_for_is_in_none_of_its_policies():
    everything = {"attention": "int8-static", "residual": "int8-static", "smooth_alpha": 0.5, "equalize": True,
                  "correct_bias": True}  # fmt: skip
    plain, dynamic, static = (
        policy_of({**everything, "linear": linear, "conv": conv}, LITERT, constant_schedule)
        for linear, conv in (("fp32", "fp32"), ("int8-dynamic", "int8-weights"), ("int8-static", "int8-static"))
    )
    assert plain == Policy(runtime="litert")
    assert dynamic == Policy(
        runtime="litert", linear="int8-dynamic", conv="int8-dynamic", conv_kinds=("stem", "pointwise")
    )
    assert static == Policy(
        runtime="litert", linear="int8-static", conv="int8-static", residual="int8-static",
        conv_kinds=("stem", "pointwise", "depthwise"),
    )  # fmt: skip


def test_threads_are_the_policys_own():
    space = SearchSpace(image_sizes=(224,), threads=(None, 2, 1))
    assert [policy_of({"threads": count}, space, constant_schedule).threads for count in (None, 2, 1)] == [None, 2, 1]


def test_the_schedule_of_the_rewrites_fits():
    tokens = TokenSpace(methods=("prune",), blocks=12, tokens={224: 196}, kept=(0.5,))
    space = SearchSpace(image_sizes=(224,), tokens=tokens)
    policy = policy_of({"kept": 0.5}, space, schedule)
    assert policy.tokens is not None
    assert sum(policy.tokens.removed) == 98


def test_seeds_begin_with_each_precision_and_repeat_nothing():
    found = [seed.variant.policy for seed in seeds({"": SPACE}, constant_schedule)]
    assert [policy.precision for policy in found[:5]] == ["fp32", "int8-dynamic", "int8-static", "mixed", "mixed"]
    assert [policy.attention for policy in found[3:5]] == ["fp32", "int8-static"]
    assert [policy.image_size for policy in found].count(192) == 5
    shares = [sum(policy.tokens.removed) for policy in found if policy.tokens]
    assert shares == [12 * 4, 12 * 8] * 5  # kept 0.7 and 0.5 of 197 in 12 blocks
    assert len({canonical(policy) for policy in found}) == len(found) == 5 * 4


def test_seeds_leave_out_what_the_space_does_not_have():
    space = SearchSpace(image_sizes=(224,), linear=("fp32", "int8-dynamic"))
    found = [seed.variant.policy.precision for seed in seeds({"": space}, constant_schedule)]
    assert found == ["fp32", "int8-dynamic"]


def test_a_size_without_its_number_of_tokens_is_refused():
    tokens = TokenSpace(methods=("prune",), blocks=12, tokens={224: 196})
    with pytest.raises(ValidationError, match="how many there are at 160 px is not said"):
        SearchSpace(image_sizes=(224, 160), tokens=tokens)


def test_the_order_of_rewrites_and_entries_is_no_difference():
    one = Policy(rewrites=("a", "b"), session={"x": "1", "y": "2"}, float_nodes=("n", "m"))
    other = Policy(rewrites=("b", "a"), session={"y": "2", "x": "1"}, float_nodes=("m", "n"))
    assert canonical(one) == canonical(other)
    assert canonical(one) != canonical(Policy())


def test_rewrites_for_static_int8_are_in_no_other_policy():
    space = SPACE.model_copy(update={"int8_rewrites": {"onnxruntime": ("linear-conv",)}})
    chosen = {"int8_rewrites": True}
    assert policy_of(chosen, space, constant_schedule) == policy_of({}, space, constant_schedule)
    static = policy_of({**chosen, "linear": "int8-static"}, space, constant_schedule)
    assert static.rewrites == ("class-token", "linear-conv")
    rewritten = [
        seed.variant.policy for seed in seeds({"": space}, constant_schedule) if "int8_rewrites" in seed.parameters
    ]
    assert {policy.linear for policy in rewritten} == {"int8-static"}
