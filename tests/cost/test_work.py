"""Multiply-accumulates, elements, pieces and forms of single operators, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.cost.work import Tensors, Work, transpose_form, work_of

KINDS = {"f32": TensorProto.FLOAT, "u8": TensorProto.UINT8, "s8": TensorProto.INT8}
Spec = tuple[str, tuple[int, ...]]  # type and shape


def work(op_type: str, inputs: list[Spec | np.ndarray], outputs: list[Spec], **attributes: Any) -> Work:
    """Of a node whose arrays are constants and whose (type, shape) inputs are activations."""
    names = [f"in{index}" for index in range(len(inputs))]
    results = [f"out{index}" for index in range(len(outputs))]
    node = helper.make_node(op_type, names, results, **attributes)

    def info(name: str, spec: Spec) -> Any:
        return helper.make_tensor_value_info(name, KINDS[spec[0]], spec[1])

    graph = helper.make_graph(
        [node],
        "graph",
        [info(name, value) for name, value in zip(names, inputs, strict=True) if isinstance(value, tuple)],
        [info(name, value) for name, value in zip(results, outputs, strict=True)],
        [numpy_helper.from_array(v, n) for n, v in zip(names, inputs, strict=True) if isinstance(v, np.ndarray)],
    )
    return work_of(node, Tensors(helper.make_model(graph)))


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def test_a_float_product_computes_whole_blocks_of_sixteen_columns() -> None:
    found = work("MatMul", [("f32", (1, 7, 5)), zeros(5, 20)], [("f32", (1, 7, 20))])
    assert found == Work("MatMul f32", macs=7 * 5 * 32, inputs=35, outputs=140, pieces=7)


def test_a_product_of_activations_is_another_kernel() -> None:
    found = work("FusedMatMul", [("f32", (3, 7, 4)), ("f32", (3, 4, 16))], [("f32", (3, 7, 16))])
    assert found == Work("MatMul f32 activations", macs=3 * 7 * 4 * 16, inputs=84 + 192, outputs=336, pieces=21)


def test_one_row_is_another_kernel() -> None:
    assert work("Gemm", [("f32", (1, 8)), zeros(8, 16), zeros(16)], [("f32", (1, 16))]).kernel == "MatMul f32 row"


def test_an_int8_product_is_named_by_both_types() -> None:
    scale, zero = zeros(1), zeros(1, dtype=np.int8)
    inputs = [("u8", (4, 8)), scale, zeros(1, dtype=np.uint8), zeros(8, 9, dtype=np.int8), scale, zero, scale, zero]
    found = work("QLinearMatMul", inputs, [("u8", (4, 9))])
    assert found == Work("QLinearMatMul u8s8", macs=4 * 8 * 16, inputs=32, outputs=36, pieces=4)


@pytest.mark.parametrize(
    ("weights", "attributes", "out", "form", "macs", "pieces"),
    [
        ((8, 6, 1, 1), {}, (1, 8, 10, 10), "pointwise", 8 * 100 * 6, 0),
        ((8, 6, 3, 3), {}, (1, 8, 10, 10), "dense", 8 * 100 * 54, 6 * 9 * 10),  # a row of each channel, per tap
        ((8, 6, 3, 3), {"strides": [2, 2]}, (1, 8, 5, 5), "dense strided", 8 * 25 * 54, 6 * 9 * 25),
        ((6, 1, 3, 3), {"group": 6}, (1, 6, 10, 10), "depthwise 3x3", 6 * 100 * 9, 6 * 9 * 10),
        ((6, 1, 5, 5), {"group": 6}, (1, 6, 10, 10), "depthwise", 6 * 100 * 25, 6 * 25 * 10),
        ((12, 1, 3, 3), {"group": 6}, (1, 12, 10, 10), "grouped", 12 * 100 * 9, 6 * 9 * 10),
    ],
)
def test_a_float_convolution(
    weights: tuple[int, ...], attributes: dict[str, Any], out: tuple[int, ...], form: str, macs: int, pieces: int
) -> None:
    found = work("Conv", [("f32", (1, 6, 10, 10)), zeros(*weights)], [("f32", out)], **attributes)
    assert found == Work(f"Conv f32 {form}", macs=macs, inputs=600, outputs=int(np.prod(out)), pieces=pieces)


@pytest.mark.parametrize(
    ("weights", "groups", "form", "pieces"),
    [((8, 6, 3, 3), 1, "dense", 900), ((6, 1, 3, 3), 6, "depthwise", 900), ((12, 1, 3, 3), 6, "grouped", 5400)],
)
def test_an_int8_convolution_gathers_runs_of_channels_per_tap(
    weights: tuple[int, ...], groups: int, form: str, pieces: int
) -> None:
    scale, zero = zeros(1), zeros(1, dtype=np.int8)
    inputs = [("s8", (1, 10, 10, 6)), scale, zero, zeros(*weights, dtype=np.int8), scale, zero, scale, zero]
    found = work("QLinearConv", inputs, [("s8", (1, 10, 10, weights[0]))], group=groups)
    assert (found.kernel, found.pieces) == (f"QLinearConv s8s8 {form}", pieces)


@pytest.mark.parametrize(
    ("shape", "order", "expected"),
    [
        ((1, 1, 5, 32), (0, 2, 1, 3), ("copy", 1)),  # only an axis of one moves
        ((2, 3, 4), (0, 1, 2), ("copy", 1)),
        ((1, 197, 3, 64), (0, 2, 1, 3), ("blocks", 591)),
        ((8, 2, 16, 2), (0, 2, 1, 3), ("short blocks", 256)),
        ((2, 3, 4, 8), (1, 0, 2, 3), ("blocks", 6)),  # the last two stay together: runs of 32
        ((1, 192, 196), (0, 2, 1), ("swap", 0)),
        ((1, 64, 8, 8), (0, 2, 3, 1), ("swap", 0)),
        ((1, 144, 256, 4), (0, 3, 2, 1), ("general", 0)),  # MobileViT's: three axes reversed
    ],
)
def test_how_a_transpose_moves_its_elements(
    shape: tuple[int, ...], order: tuple[int, ...], expected: tuple[str, int]
) -> None:
    assert transpose_form(shape, order) == expected


def test_rows_of_a_softmax() -> None:
    assert work("Softmax", [("f32", (3, 5, 7))], [("f32", (3, 5, 7))]) == Work("Softmax f32", 0, 105, 105, 15)


def test_rows_of_an_instance_norm_are_its_channels() -> None:
    inputs = [("f32", (2, 5, 7, 3)), zeros(5), zeros(5)]
    assert work("InstanceNormalization", inputs, [("f32", (2, 5, 7, 3))]) == Work(
        "InstanceNormalization f32", 0, 210, 210, 10
    )


def test_runs_that_a_split_copies() -> None:
    halves = [("f32", (1, 5, 4)), ("f32", (1, 5, 4))]
    assert work("Split", [("f32", (1, 5, 8))], halves, axis=2) == Work("Split f32", 0, 40, 40, 10)


@pytest.mark.parametrize(
    ("other", "kernel", "pieces"),
    [
        ((1, 6, 4, 4), "Mul f32", 0),
        ((), "Mul f32", 0),
        ((4,), "Mul f32 broadcast", 24),  # each row of 4 meets the vector
        ((6, 1, 1), "Mul f32 broadcast", 6),  # each channel of 16 meets one number
    ],
)
def test_runs_of_a_broadcast(other: tuple[int, ...], kernel: str, pieces: int) -> None:
    found = work("Mul", [("f32", (1, 6, 4, 4)), zeros(*other)], [("f32", (1, 6, 4, 4))])
    assert found == Work(kernel, inputs=96, outputs=96, pieces=pieces)


def test_quantizing_is_named_by_its_result() -> None:
    inputs = [("f32", (2, 3)), zeros(), zeros(dtype=np.int8)]
    assert work("QuantizeLinear", inputs, [("s8", (2, 3))]).kernel == "QuantizeLinear s8"


def test_a_reshape_moves_nothing() -> None:
    found = work("Reshape", [("f32", (2, 3)), zeros(1, dtype=np.int64)], [("f32", (6,))])
    assert found == Work("view")
