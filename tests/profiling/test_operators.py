from __future__ import annotations

import pytest
from profiles import names_of, node_time

from edgevit.profiling.document import Peak, TensorType
from edgevit.profiling.operators import (
    arithmetic_of,
    count_macs,
    float_weights,
    operator_rows,
    part_of,
    percent_of,
    weight_index,
)

PEAK = Peak(fp32_gmac_per_s=50.0, int8_gmac_per_s=200.0)


def macs(
    op_type: str,
    first: tuple[int, ...],
    out: tuple[int, ...],
    weight: tuple[int, ...] | None = None,
    turned: bool = False,
) -> int | None:
    taken, made = TensorType(dtype="float", shape=first), TensorType(dtype="float", shape=out)
    return count_macs(op_type, [taken], [made], weight_shape=weight, is_first_transposed=turned)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # DeiT-Ti's queries, keys and values: 197 tokens, 192 to 576 channels
        (macs("MatMul", (1, 197, 192), (1, 197, 576)), 197 * 192 * 576),
        (macs("DynamicQuantizeMatMul", (1, 197, 192), (1, 197, 576)), 197 * 192 * 576),
        # 3 heads of 64 channels: queries by keys
        (macs("FusedMatMul", (1, 3, 197, 64), (1, 3, 197, 197)), 3 * 197 * 64 * 197),
        (macs("Gemm", (192, 1), (1, 1000), turned=True), 192 * 1000),
        (macs("QGemm", (1, 192), (1, 1000)), 192 * 1000),
        (macs("MatMul", (192,), (1000,)), 192 * 1000),
        # 16 x 16 patches of 224 x 224 RGB
        (macs("Conv", (1, 3, 224, 224), (1, 192, 14, 14), (192, 3, 16, 16)), 192 * 14 * 14 * 3 * 16 * 16),
        # depthwise, channels last: each output value sees one channel
        (macs("QLinearConv", (1, 28, 28, 64), (1, 28, 28, 64), (64, 1, 3, 3)), 28 * 28 * 64 * 9),
        (macs("Conv", (1, 3, 8, 8), (1, 4, 8, 8), None), None),
        (macs("Softmax", (1, 3, 197, 197), (1, 3, 197, 197)), None),
    ],
)
def test_multiply_accumulates_follow_from_shapes(found: int | None, expected: int | None) -> None:
    assert found == expected


def test_nothing_is_counted_where_the_profiler_gives_no_shapes() -> None:
    assert count_macs("MatMul", [], [], weight_shape=None, is_first_transposed=False) is None


@pytest.mark.parametrize(
    ("op_type", "has_weights", "part"),
    [
        ("DynamicQuantizeMatMul", True, "linear layers"),
        ("MatMul", False, "attention products"),
        ("QLinearConv", True, "convolutions"),
        ("ReorderInput", False, "layout"),
        ("Cast", False, "quantize, dequantize, cast"),
        ("SkipLayerNormalization", False, "normalization"),
        ("QuickGelu", False, "activations"),
        ("Einsum", False, "other"),
    ],
)
def test_an_operator_belongs_to_a_part(op_type: str, has_weights: bool, part: str) -> None:
    assert part_of(op_type, has_weights) == part


def test_weights_are_the_fourth_input_where_each_tensor_has_a_scale_and_a_zero_point() -> None:
    assert [weight_index(op) for op in ("MatMul", "Conv", "QLinearMatMul", "QLinearConv", "Add")] == [1, 1, 3, 3, None]


@pytest.mark.parametrize(
    ("op_type", "dtype", "arithmetic"),
    [
        ("MatMul", "float", "float"),
        ("DynamicQuantizeMatMul", "float", "int8"),  # it quantizes its input itself
        ("QLinearMatMul", "uint8", "int8"),
        ("QLinearConv", "int8", "int8"),
        ("Gather", "int64", "float"),
    ],
)
def test_arithmetic_is_that_of_the_first_input(op_type: str, dtype: str, arithmetic: str) -> None:
    assert arithmetic_of(op_type, [TensorType(dtype=dtype, shape=(1,))]) == arithmetic


def test_a_row_has_its_share_its_rate_and_what_it_reaches_of_its_own_peak() -> None:
    nodes = [
        node_time("MatMul", 1.0, part="linear layers", macs=20_000_000),
        node_time("DynamicQuantizeMatMul", 2.0, part="linear layers", arithmetic="int8", macs=100_000_000),
        node_time("DynamicQuantizeMatMul", 1.0, part="linear layers", arithmetic="int8", macs=80_000_000),
        node_time("Softmax", 4.0, part="softmax"),
    ]
    softmax, int8, fp32 = operator_rows(nodes, PEAK)
    assert (softmax.operator, softmax.share, softmax.macs, softmax.share_of_peak) == ("Softmax", 50.0, None, None)
    assert (int8.nodes, int8.ms, int8.share, int8.macs) == (2, 3.0, 37.5, 180_000_000)
    assert int8.gmac_per_s == pytest.approx(60.0)  # 180 million in 3 ms
    assert int8.share_of_peak == pytest.approx(30.0)
    assert (fp32.gmac_per_s, fp32.share_of_peak) == (pytest.approx(20.0), pytest.approx(40.0))


def test_conversions_and_layout_are_one_line_each_whatever_does_them() -> None:
    nodes = [
        node_time("QuantizeLinear", 1.0, part="quantize, dequantize, cast"),
        node_time("Cast", 0.5, part="quantize, dequantize, cast", arithmetic="int8"),
        node_time("Transpose", 0.2, part="layout"),
        node_time("Reshape", 0.1, part="layout"),
    ]
    rows = operator_rows(nodes, PEAK)
    assert [(row.operator, row.nodes, row.arithmetic) for row in rows] == [
        ("quantize, dequantize, cast", 2, None),
        ("layout", 2, None),
    ]
    assert [row.ms for row in rows] == pytest.approx([1.5, 0.3])


def test_products_with_weights_and_of_activations_are_two_rows() -> None:
    nodes = [node_time("MatMul", 2.0, part="linear layers"), node_time("MatMul", 1.0, part="attention products")]
    assert [row.part for row in operator_rows(nodes, PEAK)] == ["linear layers", "attention products"]


def test_kernels_below_the_clocks_step_have_no_rate() -> None:
    (row,) = operator_rows([node_time("MatMul", 0.0, macs=10)], PEAK)
    assert (row.share, row.gmac_per_s, row.share_of_peak) == (0.0, None, None)


def test_float_weights_are_named_only_beside_int8_ones() -> None:
    head = node_time("Gemm", 0.1, has_weights=True)
    stem = node_time("Conv", 0.4, has_weights=True)
    product = node_time("MatMul", 9.0)
    int8 = node_time("QLinearMatMul", 1.0, has_weights=True, arithmetic="int8")
    assert float_weights([head, stem, product]) == ()
    assert names_of(float_weights([head, stem, product, int8])) == ["conv", "gemm"]
    assert float_weights([]) == ()


def test_a_part_of_nothing_is_nothing() -> None:
    assert percent_of(0.0, 0.0) == 0.0
