from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edgevit.policy import Policy, TokenReduction

STATIC, DYNAMIC = "int8-static", "int8-dynamic"


@pytest.mark.parametrize(
    ("fields", "precision"),
    [
        ({}, "fp32"),
        ({"linear": DYNAMIC}, "int8-dynamic"),
        ({"conv": "int8-weights"}, "int8-dynamic"),
        ({"linear": DYNAMIC, "conv": "int8-weights"}, "int8-dynamic"),
        ({"linear": STATIC}, "int8-static"),
        ({"conv": STATIC}, "int8-static"),
        ({"attention": STATIC}, "int8-static"),
        ({"residual": STATIC}, "int8-static"),
        ({"linear": STATIC, "conv": "int8-weights"}, "int8-static"),
        ({"linear": DYNAMIC, "conv": STATIC}, "mixed"),
        ({"linear": DYNAMIC, "attention": STATIC}, "mixed"),
        ({"linear": DYNAMIC, "residual": STATIC}, "mixed"),
    ],
)
def test_the_precision_is_named_after_what_the_kinds_of_operators_do(fields: dict[str, Any], precision: str) -> None:
    assert Policy(**fields).precision == precision


def test_the_form_of_the_graph_and_the_session_do_not_change_the_precision() -> None:
    policy = Policy(
        image_size=64, rewrites=("gelu-tanh",), tokens=TokenReduction(method="prune", removed=(1,)), input_type="uint8",
        session={"session.intra_op.allow_spinning": "0"}, threads=2,
    )  # fmt: skip
    assert policy.precision == "fp32"


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, False),
        ({"linear": DYNAMIC, "conv": "int8-weights"}, False),
        ({"linear": DYNAMIC, "equalize": True}, False),
        ({"linear": STATIC}, True),
        ({"conv": STATIC}, True),
        ({"attention": STATIC}, True),
        ({"residual": STATIC}, True),
        ({"linear": DYNAMIC, "smooth_alpha": 0.0}, True),
        ({"linear": DYNAMIC, "correct_bias": True}, True),
    ],
)
def test_whatever_looks_at_activations_needs_calibration(fields: dict[str, Any], needs: bool) -> None:
    assert Policy(**fields).needs_calibration is needs


def test_what_only_litert_has_is_a_policy_of_litert() -> None:
    policy = Policy(runtime="litert", conv="int8-dynamic")
    assert (policy.precision, policy.needs_calibration) == ("int8-dynamic", False)
    with pytest.raises(ValidationError, match="are for the runtime litert"):
        Policy(activations="int16")


@pytest.mark.parametrize(
    "fields",
    [
        {"linear": "int4"}, {"conv": "int8-dynamic"}, {"smooth_alpha": 1.1}, {"image_size": 0}, {"threads": 0},
        {"conv_kinds": ("grouped",)}, {"unknown": 1}, {"tokens": {"method": "prune", "removed": (-1,)}},
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Policy(**fields)


def test_a_policy_comes_back_from_its_json() -> None:
    policy = Policy(linear=DYNAMIC, conv_kinds=("pointwise",), tokens=TokenReduction(method="merge", removed=(2, 0)))
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
