"""Weight-only INT8: weights stored in 8 bits and computed in float. Saves bytes, not time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

QMAX = 127


def store_weights_as_int8(model: onnx.ModelProto, nodes: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` whose named Conv nodes read their weights (O, I/groups, kH, kW) through a DequantizeLinear.

    Symmetric, one scale per output channel: scale = max|w| / 127; scale 1 where float32 has no normal number for it,
    as for an all-zero channel.
    """
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    graph = duplicate.graph
    wanted = set(nodes)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    used = {node.input[1] for node in graph.node if node.name in wanted}
    dequantizers = []
    for name in sorted(used):
        values = numpy_helper.to_array(weights[name])
        codes, scales = int8_per_channel(values)
        graph.initializer.remove(weights[name])
        graph.initializer.extend(
            [
                numpy_helper.from_array(codes, f"{name}_int8"),
                numpy_helper.from_array(scales, f"{name}_scale"),
                numpy_helper.from_array(np.zeros(len(scales), np.int8), f"{name}_zero_point"),
            ]
        )
        dequantizers.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}_int8", f"{name}_scale", f"{name}_zero_point"], [name],
                name=f"{name}_DequantizeLinear", axis=0,
            )
        )  # fmt: skip
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*dequantizers, *kept])
    return duplicate


def int8_per_channel(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """INT8 codes of the same shape and float32 scales (O,): weights ≈ codes · scales along axis 0."""
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    steps = largest.astype(np.float64) / QMAX
    scales = np.where(steps >= np.finfo(np.float32).tiny, steps, 1.0).astype(np.float32)
    shaped = scales.reshape(-1, *[1] * (weights.ndim - 1))
    return np.clip(np.rint(weights / shaped), -QMAX, QMAX).astype(np.int8), scales
