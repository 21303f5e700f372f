from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from qdq_nets import Net

from edgevit.tensorrt.half import float32_layers, in_half


def run(model: onnx.ModelProto, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"input": pixels})[0]
    return result


def test_weights_and_activations_are_rounded_to_float16_and_sums_are_not() -> None:
    weights = np.array([[1.0005], [3e-5], [-2.7182818]], np.float32)
    net = Net((1, 3))
    model = net.model(
        net.op("Add", net.op("MatMul", "input", net.constant(weights)), net.constant(np.float32([[0.1]])))
    )
    pixels = np.array([[0.33333334, 1000.1, 2.2]], np.float32)
    half = np.float16
    product = pixels.astype(half).astype(np.float64) @ weights.astype(half).astype(np.float64)
    expected = (product.astype(half).astype(np.float64) + np.float64(half(0.1))).astype(half)
    np.testing.assert_array_equal(run(in_half(model), pixels), expected.astype(np.float32))
    assert not np.array_equal(run(model, pixels), expected)


def test_what_float16_cannot_hold_becomes_infinite() -> None:
    net = Net((1, 1))
    model = net.model(net.op("Mul", "input", "input"))
    assert run(in_half(model), np.array([[300.0]], np.float32))[0, 0] == np.inf
    assert run(in_half(model), np.array([[200.0]], np.float32))[0, 0] == 40000


def test_parts_of_a_layer_norm_keep_float32_s_range() -> None:
    net = Net((1, 1))
    squared = net.op("Mul", "input", "input")
    model = net.model(net.op("Sqrt", squared))
    model.graph.node[0].name = "norm_1_norm_part_squared"
    assert float32_layers(model) == ("norm_1_norm_part_squared",)
    assert run(in_half(model), np.array([[300.0]], np.float32))[0, 0] == 300


def test_the_model_itself_stays_as_it_is() -> None:
    net = Net((1, 1))
    model = net.model(net.op("Add", "input", net.constant(np.float32([[0.1]]))))
    before = model.SerializeToString()
    in_half(model)
    assert model.SerializeToString() == before
