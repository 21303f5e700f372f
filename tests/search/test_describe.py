from __future__ import annotations

import pytest

from edgevit.policy import Policy, TokenReduction
from edgevit.search.describe import describe, details


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(rewrites=("class-token",)), "fp32"),
        (
            Policy(
                linear="int8-dynamic", conv="int8-static", image_size=192,
                tokens=TokenReduction(method="prune", removed=(12,) * 11),
            ),
            "linear layers INT8 dynamic, convolutions INT8 static, 12 tokens dropped in each of 11 blocks, 192 px",
        ),
        (
            Policy(conv="int8-static", conv_kinds=("pointwise",), float_nodes=("a", "b"), input_type="uint8"),
            "pointwise convolutions INT8 static, 2 nodes in float, pictures as bytes",
        ),
        (
            Policy(attention="int8-static", tokens=TokenReduction(method="merge", removed=(0, 8, 5, 0)), threads=2),
            "attention INT8 static, 13 tokens merged over 2 blocks, 2 threads",
        ),
        (Policy(tokens=TokenReduction(method="fuse", removed=(0, 1))), "fp32, 1 token fused into one after one block"),
        (Policy(runtime="openvino", threads=1), "fp32, 1 thread, on openvino"),
    ],
)  # fmt: skip
def test_a_policy_in_plain_words(policy, words):
    assert describe(policy) == words


def test_details_say_what_the_words_leave_out():
    policy = Policy(
        linear="int8-static", rewrites=("gelu", "layout"), calibrator="entropy", smooth_alpha=0.5, equalize=True,
        correct_bias=True, session={"session.enable_cpu_mem_arena": "0"},
    )  # fmt: skip
    assert details(policy) == (
        "rewrites gelu, layout, calibrated by entropy, SmoothQuant 0.5, equalized, bias corrected, "
        "session.enable_cpu_mem_arena=0"
    )
    assert details(Policy()) == ""
