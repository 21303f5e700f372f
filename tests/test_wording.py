from __future__ import annotations

from typing import Any

from edgevit import wording
from edgevit.results import Candidate, LatencyRatio

REAL = LatencyRatio(ratio=1.25, ci95=(1.2, 1.3))
CHANCE = LatencyRatio(ratio=1.01, ci95=(0.98, 1.04))
COUNTS = {"linear layers": (48, 49), "attention products": (0, 24)}


def candidate(precision: str = "fp32", **fields: Any) -> Candidate:
    return Candidate(name=precision, precision=precision, runtime="onnxruntime", size_mib=1.0, **fields)


def test_a_step_that_was_not_taken_is_not_told() -> None:
    assert wording.steps(candidate(), None) == ()
    assert wording.steps(candidate(int8=COUNTS), candidate(vs_exported=REAL)) == ()


def test_what_the_rewrites_bought_is_measured_on_fp32() -> None:
    winner = candidate("int8-dynamic", rewrites=("gelu", "layout"), vs_exported=LatencyRatio(ratio=3.0, ci95=(2, 4)))
    assert wording.steps(winner, candidate(vs_exported=REAL)) == (
        "The graph was rewritten (gelu, layout): fp32 is 1.25× as fast as before (95 % interval 1.20–1.30).",
    )


def test_rewrites_that_bought_nothing_beyond_chance_say_so() -> None:
    assert wording.steps(candidate(rewrites=("gelu",)), candidate(vs_exported=CHANCE)) == (
        "The graph was rewritten (gelu): fp32 is no faster for it beyond chance "
        "(1.01× as fast, 95 % interval 0.98–1.04).",
    )


def test_where_nothing_was_measured_the_rewrites_are_named_only() -> None:
    sentence = ("The graph was rewritten (gelu).",)
    assert wording.steps(candidate(rewrites=("gelu",)), candidate()) == sentence
    assert wording.steps(candidate(rewrites=("gelu",)), None) == sentence


def test_what_computes_in_int8_is_counted() -> None:
    assert wording.steps(candidate("mixed", int8=COUNTS), None) == (
        "In INT8: 48 of 49 linear layers, 0 of 24 attention products. "
        "LayerNorm, Softmax and GELU stay in float, where they are exact.",
    )
