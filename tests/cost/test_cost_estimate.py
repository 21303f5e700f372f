"""Costs of small graphs by hand, and of small exported models against what an emulated Cortex-A76 counted."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_models import MOBILEVIT_SHAPE, VIT_SHAPE, mobilevit_graph, random_pixels, vit_graph

from edgevit.catalog import load_device
from edgevit.cost import cost_of, estimate
from edgevit.cost.armgraph import graph_on_arm
from edgevit.cost.cores import CoreCosts, KernelCosts, Method, WholeGraph, costs_for
from edgevit.device import QuantizationPreset
from edgevit.errors import EdgevitError
from edgevit.quantize.calibration import observe_activations, ranges_by
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.rewrite.class_token import compute_last_block_for_class_token

METHOD = Method(
    runtime="none", emulator="none", counter="none", measured_on=date(2026, 1, 1), graphs=1, median_error=0.01,
    p90_error=0.2,
)  # fmt: skip
KERNELS = {
    "MatMul f32": KernelCosts(per_mac=2, per_piece=100, per_call=1000),
    "Relu f32": KernelCosts(per_output=3, per_call=10),
}
CORE = CoreCosts(
    name="a core by hand", models=("By hand",), method=METHOD, whole_graphs=(), per_inference=50000,
    unknown=KernelCosts(per_output=7, per_call=1), kernels=KERNELS,
)  # fmt: skip


def matmul_relu(activation: str = "Relu") -> onnx.ModelProto:
    """(5, 6) x (6, 16), then one operator that works element by element."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node(activation, ["y"], ["z"], name="activation"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (5, 6))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, (5, 16))],
        [numpy_helper.from_array(np.ones((6, 16), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_the_total_is_the_sum_of_the_kernels_and_of_what_is_outside_them() -> None:
    found = estimate(graph_on_arm(matmul_relu()), CORE)
    product = 2 * (5 * 6 * 16) + 100 * 5 + 1000
    relu = 3 * (5 * 16) + 10
    assert found.by_operator == {"MatMul": product / 1e6, "Relu": relu / 1e6}
    assert found.total == pytest.approx((product + relu + 50000) / 1e6)
    assert found.not_calibrated == {}


def test_an_unknown_operator_counts_by_its_elements_and_is_named() -> None:
    found = estimate(graph_on_arm(matmul_relu("Softplus")), CORE)
    assert found.by_operator["Softplus"] == pytest.approx((7 * 80 + 1) / 1e6)
    assert found.not_calibrated == {"Softplus f32": 1}


def test_the_estimate_of_a_file_names_what_it_only_guesses(tmp_path: Path) -> None:
    for activation in ("Softplus", "Relu"):
        onnx.save(matmul_relu(activation), tmp_path / f"{activation}.onnx")
    assert cost_of(tmp_path / "Softplus.onnx", CORE).not_calibrated == {"Softplus f32": 1}
    assert cost_of(tmp_path / "Relu.onnx", CORE).not_calibrated == {}


def test_the_dearest_operator_comes_first() -> None:
    found = estimate(graph_on_arm(matmul_relu()), CORE)
    assert list(found.by_operator) == ["MatMul", "Relu"]


def test_the_stated_error_is_the_largest_on_a_whole_graph() -> None:
    counted = (
        WholeGraph(name="a", counted_million=100, estimated_million=104),
        WholeGraph(name="b", counted_million=200, estimated_million=180),
    )
    assert CORE.model_copy(update={"whole_graphs": counted}).relative_error == pytest.approx(0.1)
    assert CORE.relative_error == 0.2  # nothing whole was counted: the fit's own


def test_a_model_that_no_runtime_loads_is_one_line() -> None:
    broken = matmul_relu()
    broken.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(EdgevitError, match=r"ONNX Runtime cannot load this model: .*NoSuchOperator") as caught:
        graph_on_arm(broken)
    assert "\n" not in str(caught.value)


def test_free_dimensions_count_as_one() -> None:
    shapes = {info.name: info for info in graph_on_arm(vit_graph(dynamic_batch=True)).graph.value_info}
    sizes = [size.dim_value for info in shapes.values() for size in info.type.tensor_type.shape.dim]
    assert min(sizes) == 1
    # One picture: what the graph with a fixed batch has.
    fixed = estimate(graph_on_arm(vit_graph()), CORE).by_operator
    assert estimate(graph_on_arm(vit_graph(dynamic_batch=True)), CORE).by_operator["Softmax"] == fixed["Softmax"]


# Million instructions that an emulated Cortex-A76 counted for these files (qemu 7.2, ONNX Runtime 1.31.1).
COUNTED = {
    "vit static": 0.894,
    "vit dynamic": 0.791,
    "vit shorter dynamic": 0.650,
    "hybrid": 3.983,
    "hybrid static": 2.702,
}


def test_candidates_rank_as_an_emulated_core_counts_them(tmp_path: Path) -> None:
    rpi5 = load_device("rpi5")
    core = costs_for(rpi5)
    assert core is not None
    vit, hybrid = vit_graph(), mobilevit_graph()
    shorter = compute_last_block_for_class_token(vit)
    candidates = {
        "vit static": quantized(vit, VIT_SHAPE, rpi5.quantization),
        "vit dynamic": quantize_dynamic(vit, quantizable_nodes(vit).linear, rpi5.quantization),
        "vit shorter dynamic": quantize_dynamic(shorter, quantizable_nodes(shorter).linear, rpi5.quantization),
        "hybrid": hybrid,
        "hybrid static": quantized(hybrid, MOBILEVIT_SHAPE, rpi5.quantization),
    }
    estimates = {}
    for name, model in candidates.items():
        onnx.save(model, tmp_path / f"{name}.onnx")
        estimates[name] = cost_of(tmp_path / f"{name}.onnx", core).million_instructions
    assert sorted(estimates, key=lambda name: estimates[name]) == sorted(COUNTED, key=lambda name: COUNTED[name])
    assert estimates == pytest.approx(COUNTED, rel=0.1)


def quantized(model: onnx.ModelProto, shape: tuple[int, ...], preset: QuantizationPreset) -> onnx.ModelProto:
    found = quantizable_nodes(model)
    nodes = (*found.linear, *found.conv, *found.silu)
    return quantize_static(
        model, nodes, ranges_by("minmax", observe_activations(model, [random_pixels(shape)], nodes)), preset
    )
