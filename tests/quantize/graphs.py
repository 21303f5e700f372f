"""Small graphs by hand, and the presets, for tests of what quantization makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import TensorsData

from edgevit.device import QuantizationPreset
from edgevit.quantize.calibration import observe_activations, ranges_by
from edgevit.recipe import Calibrator

Integer = Literal["uint8", "int8"]


def preset(
    activation: Integer = "uint8",
    weight: Integer = "int8",
    *,
    per_channel: bool = True,
    reduce_range: bool = False,
    symmetric: bool = False,
) -> QuantizationPreset:
    return QuantizationPreset(
        precision="auto", activation=activation, weight=weight, per_channel=per_channel, reduce_range=reduce_range,
        symmetric=symmetric, why="A test.",
    )  # fmt: skip


def activation_ranges(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[np.float32]],
    nodes: Sequence[str],
    calibrator: Calibrator = "minmax",
    on_picture: Callable[[int], None] = lambda done: None,
) -> TensorsData:
    return ranges_by(calibrator, observe_activations(model, batches, nodes, on_picture))


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    shape: Sequence[int] = (1, 1, 2, 2),
    output: str = "logits",
) -> onnx.ModelProto:
    """'input' of `shape` to `output`."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def linear_model(weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """Flatten, then 'linear': a MatMul, or with a bias a Gemm. weight: (pixels, classes)."""
    side = (1, 1, 1, len(weight))
    nodes = [helper.make_node("Flatten", ["input"], ["flat"], name="flatten", axis=1)]
    if bias is None:
        nodes.append(helper.make_node("MatMul", ["flat", "weight"], ["logits"], name="linear"))
        return model_of(nodes, {"weight": weight}, side)
    nodes.append(helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], name="linear"))
    return model_of(nodes, {"weight": weight, "bias": bias}, side)


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def makers_of(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value."""
    return {name: node for node in model.graph.node for name in node.output}
