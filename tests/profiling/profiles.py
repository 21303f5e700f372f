"""Nodes, graphs and the profiler's events by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgevit.device import QuantizationPreset
from edgevit.profiling.document import NodeTime

PRESET = QuantizationPreset(
    precision="auto", activation="uint8", weight="int8", per_channel=True, reduce_range=False, symmetric=False,
    why="A test.",
)  # fmt: skip


def kernel(name: str, op_type: str, start_us: int, us: int, index: int = 0) -> dict[str, Any]:
    """One execution of a node, as ONNX Runtime 1.31 writes it, with (1, 2) float in and (1, 3) float out."""
    return {
        "cat": "Node", "ph": "X", "ts": start_us, "dur": us, "name": f"{name}_kernel_time",
        "args": {
            "op_name": op_type, "provider": "CPUExecutionProvider", "node_index": str(index),
            "input_type_shape": [{"float": [1, 2]}], "output_type_shape": [{"float": [1, 3]}],
        },
    }  # fmt: skip


def model_run(start_us: int, us: int) -> dict[str, Any]:
    return {"cat": "Session", "ph": "X", "ts": start_us, "dur": us, "name": "model_run", "args": {}}


def node_time(op_type: str, ms: float, **changes: Any) -> NodeTime:
    """A node of float without MACs or weights."""
    fields: dict[str, Any] = {
        "name": op_type.lower(), "op_type": op_type, "provider": "CPUExecutionProvider", "module": None,
        "part": "other", "arithmetic": "float", "has_weights": False, "median_ms": ms, "macs": None,
        "inputs": (), "outputs": (),
    }  # fmt: skip
    return NodeTime(**{**fields, **changes})


def names_of(nodes: Sequence[NodeTime]) -> list[str]:
    return [node.name for node in nodes]


def model_of(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], shape: Sequence[int] = (1, 1, 2, 2)
) -> onnx.ModelProto:
    """'input' of `shape` to 'logits'."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
