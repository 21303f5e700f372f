from __future__ import annotations

import numpy as np
from onnx import helper
from profiles import model_of

from edgevit.profiling.weights import Weights, weights_of_nodes


def test_a_product_has_the_shape_of_its_constant_and_none_of_two_activations() -> None:
    model = model_of(
        [
            helper.make_node("MatMul", ["input", "w"], ["a"], name="linear"),
            helper.make_node("MatMul", ["a", "a"], ["b"], name="attention"),
            helper.make_node("Add", ["b", "w"], ["logits"], name="add"),
        ],
        {"w": np.ones((2, 2), np.float32)},
    )
    assert weights_of_nodes(model) == {"linear": Weights((2, 2)), "attention": Weights(None)}


def test_int8_weights_that_are_dequantized_first_are_weights() -> None:
    model = model_of(
        [
            helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"], name="dequantize"),
            helper.make_node("Conv", ["input", "w"], ["logits"], name="conv"),
        ],
        {"codes": np.ones((4, 1, 1, 1), np.int8), "scale": np.float32(0.5)},
    )
    assert weights_of_nodes(model) == {"conv": Weights((4, 1, 1, 1))}


def test_a_gemm_says_when_it_reads_its_first_input_transposed() -> None:
    nodes = [helper.make_node("Gemm", ["input", "w"], ["logits"], name="gemm", transA=1)]
    model = model_of(nodes, {"w": np.ones((2, 3), np.float32)}, (2, 1))
    assert weights_of_nodes(model) == {"gemm": Weights((2, 3), is_first_transposed=True)}
