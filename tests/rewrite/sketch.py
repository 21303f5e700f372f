"""Sketch: a small graph drawn node by node, and the checks that every rewrite's result must pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_models import is_sorted

from edgevit.export.onnx import checked

Rewriting = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass
class Sketch:
    """A graph from 'input' of the given sizes; `op` and `constant` return the name of what they add."""

    shape: Sequence[int | str]
    opset: int = 18
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"{kind}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0]

    def constant(self, values: object, kind: type[np.generic] = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(values, kind)
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def noise(self, *shape: int) -> str:
        return self.constant(np.random.default_rng(len(self.constants)).normal(size=shape))

    def linear(self, x: str, width: int, out: int, bias: bool = True) -> str:
        y = self.op("MatMul", x, self.noise(width, out))
        return self.op("Add", y, self.noise(out)) if bias else y

    def model(self, *outputs: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            values,
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return checked(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def outputs_of(model: onnx.ModelProto, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """All outputs by ONNX Runtime, which changes nothing of the graph itself."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: x})
    return result


def normal(shape: Sequence[int | str], scale: float = 1.0) -> NDArray[np.float32]:
    known = [size if isinstance(size, int) else 3 for size in shape]
    return np.random.default_rng(7).normal(scale=scale, size=known).astype(np.float32)


def input_sizes(model: onnx.ModelProto) -> list[int]:
    return [dim.dim_value or 3 for dim in model.graph.input[0].type.tensor_type.shape.dim]


def rewritten_same(
    rewrite: Rewriting, model: onnx.ModelProto, tolerance: float = 2e-5, x: NDArray[np.float32] | None = None
) -> onnx.ModelProto:
    """What `rewrite` makes of the model: valid, pure, complete at once, and equal to it within `tolerance`.

    tolerance: of the largest output. No tolerance is needed for what comes back unchanged.
    """
    before = model.SerializeToString(deterministic=True)
    result = rewrite(model)
    assert model.SerializeToString(deterministic=True) == before, "the rewrite changed its input"
    if result is model:
        return result
    onnx.checker.check_model(result, full_check=True)
    assert is_sorted(result)
    names = [node.name for node in result.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert rewrite(result) is result, "a second run found more"
    x = normal(input_sizes(model)) if x is None else x
    for expected, found in zip(outputs_of(model, x), outputs_of(result, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max())))
    return result


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)
