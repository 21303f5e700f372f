"""GEMM: a matrix product that keeps the machine as busy as this runtime can, to hold a model's operators against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevit.profiling.document import Peak
from edgevit.store import write_bytes

# The large one keeps all threads busy; the small one stays in the cache, and ends before other work cuts in.
SIDES = (256, 1024)
SEED = 0
OPSET = 18
KINDS = {
    "fp32": ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT),
    "int8": ("MatMulInteger", TensorProto.UINT8, TensorProto.INT32),
}
IR_VERSION = 9


def write_gemms(folder: Path) -> dict[str, Path]:
    """Models of one node in `folder`, by name: 'fp32-256' multiplies (256, 256) float32 by a constant (256, 256).

    'int8-256' multiplies uint8 by int8 to int32.
    """
    return {
        f"{kind}-{side}": _write(_model(kind, side), folder / f"{kind}-{side}.onnx") for kind in KINDS for side in SIDES
    }


def peak_of(fastest_ms: Mapping[str, float]) -> Peak:
    """The best of all sides. fastest_ms: of each model that write_gemms names."""
    best = {kind: max(side**3 / fastest_ms[f"{kind}-{side}"] / 1e6 for side in SIDES) for kind in KINDS}
    return Peak(fp32_gmac_per_s=best["fp32"], int8_gmac_per_s=best["int8"])


def _model(kind: str, side: int) -> onnx.ModelProto:
    generator = np.random.default_rng(SEED)
    op_type, taken, made = KINDS[kind]
    weights = (
        generator.standard_normal((side, side), dtype=np.float32)
        if kind == "fp32"
        else generator.integers(-64, 64, (side, side), dtype=np.int8)
    )
    graph = helper.make_graph(
        [helper.make_node(op_type, ["a", "b"], ["c"], name="gemm")],
        "gemm",
        [helper.make_tensor_value_info("a", taken, (side, side))],
        [helper.make_tensor_value_info("c", made, (side, side))],
        [numpy_helper.from_array(weights, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _write(model: onnx.ModelProto, path: Path) -> Path:
    write_bytes(path, model.SerializeToString())
    return path
