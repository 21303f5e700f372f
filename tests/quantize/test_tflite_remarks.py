"""Remarks on INT8 files: operators written down by hand, tensors by their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.quantize.calibrators import Distribution
from edgevit.quantize.tflite import INT8, INT16, Operator, Scale
from edgevit.quantize.tflite_remarks import remarks_on

NAMES = {"n_soft": "blocks.0/Softmax", "n_move": "blocks.0/Reshape"}


def operator(kind: str, inputs: tuple[int, ...], output: int, node: str = "", is_int8: bool = False) -> Operator:
    shapes = tuple((1, 4) for _ in inputs)
    return Operator(kind, f"tensor {output};", node, inputs, (output,), shapes, None, is_int8)


def linear(source: int, output: int) -> Operator:
    return operator("FULLY_CONNECTED", (source,), output, is_int8=True)


def between(*middle: Operator, last: int) -> list[Operator]:
    """An INT8 product of the picture (0), tensor 3 by DEQUANTIZE, `middle`, and another product of tensor `last`."""
    return [
        operator("QUANTIZE", (0,), 1), linear(1, 2), operator("DEQUANTIZE", (2,), 3, is_int8=True), *middle,
        operator("QUANTIZE", (last,), 50), linear(50, 51), operator("DEQUANTIZE", (51,), 52, is_int8=True),
    ]  # fmt: skip


def seen(*values: float) -> dict[str, Distribution]:
    found = Distribution()
    found.observe(np.array(values, np.float32))
    return {"scores": found}


def test_float_between_int8_is_named_by_the_first_operator_that_computes() -> None:
    operators = between(operator("RESHAPE", (3,), 4, "n_move"), operator("SOFTMAX", (4,), 5, "n_soft"), last=5)
    assert remarks_on(operators, {}, {}, NAMES) == ("In float between INT8 operators: blocks.0/Softmax.",)
    moved = between(operator("RESHAPE", (3,), 4, "n_move"), last=4)
    assert remarks_on(moved, {}, {}, NAMES) == ("In float between INT8 operators: blocks.0/Reshape.",)


def test_only_the_first_few_are_named() -> None:
    middle = [operator("TANH", (3,), 10 + number, f"node{number}") for number in range(7)]
    operators = between(*middle, last=10)
    operators += [operator("QUANTIZE", (10 + number,), 60 + number) for number in range(1, 7)]
    words = "In float between INT8 operators: node0, node1, node2, node3, node4 and 2 more."
    assert remarks_on(operators, {}, {}, {}) == (words,)


@pytest.mark.parametrize(
    "operators",
    [
        [],
        between(last=3),
        [operator("TANH", (0,), 9, "early"), *between(operator("ADD", (3, 9), 4, "sum"), last=4)],  # of the picture
        [*between(operator("TANH", (3,), 4, "late"), last=4), operator("ADD", (4, 52), 60)],  # makes the logits, too
        [*between(operator("TANH", (3,), 4, "it"), last=4), linear(4, 70)],  # a dynamic product reads float
        [linear(0, 1), operator("SOFTMAX", (1,), 2, "n_soft"), linear(2, 3)],  # all dynamic
    ],
)
def test_what_float_computes_anyway_is_no_remark(operators: list[Operator]) -> None:
    assert remarks_on(operators, {}, {}, NAMES) == ()


@pytest.mark.parametrize(("kind", "step", "zero_point"), [(INT8, 1 / 256, -128), (INT16, 1 / 32768, 0)])
def test_softmax_in_int8_has_the_scale_that_its_kernel_writes_by(kind: int, step: float, zero_point: int) -> None:
    softmax = [operator("SOFTMAX", (1,), 2, "n_soft", is_int8=True)]
    assert remarks_on(softmax, {2: Scale("out", kind, step, zero_point)}, {}, NAMES) == ()
    (found,) = remarks_on(softmax, {2: Scale("out", kind, 2 * step, zero_point)}, {}, NAMES)
    assert found == (
        f"blocks.0/Softmax: its output has the scale {2 * step:.6g} and the zero point {zero_point}, and LiteRT's "
        f"kernel writes by {step:.6g} and {zero_point}."
    )
    assert remarks_on(softmax, {2: Scale("out", kind, step, zero_point + 1)}, {}, NAMES) != ()


# 0.1 for a step and a zero point of 27: the scores go up to 0.1 · (127 - 27) = 10
@pytest.mark.parametrize(("largest", "is_clipped"), [(10.0, False), (10.04, False), (12.5, True)])
def test_scores_that_int8_cuts_off_are_told_with_the_layer(largest: float, is_clipped: bool) -> None:
    operators = [
        operator("BATCH_MATMUL", (7, 8), 1, is_int8=True), operator("DEQUANTIZE", (1,), 2, is_int8=True),
        operator("RESHAPE", (2,), 3), operator("SOFTMAX", (3,), 4, "n_soft"),
    ]  # fmt: skip
    found = remarks_on(operators, {1: Scale("scores", INT8, 0.1, 27)}, seen(-300.0, largest), NAMES)
    words = (
        "INT8 cuts off the scores that a Softmax reads, most of all at blocks.0/Softmax: 12.5 on the calibration "
        "pictures, 10 at most in INT8."
    )
    assert found == ((words,) if is_clipped else ())


def test_scores_that_stay_in_float_are_not_cut_off() -> None:
    operators = [operator("BATCH_MATMUL", (7, 8), 1), operator("SOFTMAX", (1,), 4, "n_soft")]
    assert remarks_on(operators, {}, seen(99.0), NAMES) == ()
