"""An ONNX graph as a torch module: operator by operator, what ONNX Runtime says of the same graph."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import run_graph, vit_graph

from edgevit.errors import EdgevitError
from edgevit.export.names import fused_names, module_names
from edgevit.export.torch_graph import GraphModule
from edgevit.export.torch_operators import OPERATORS
from edgevit.policies import exact_policy
from edgevit.policy import Policy, TokenMethod, TokenReduction
from edgevit.rewrite.form import reformed

random = np.random.default_rng(0)
PIXELS = random.standard_normal((1, 4, 6, 6)).astype(np.float32)


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# (operator, constants after its first input, attributes)
CASES: list[tuple[str, tuple[np.ndarray | None, ...], dict[str, Any]]] = [
    ("Add", (floats(4, 1, 1),), {}),
    ("ArgMax", (), {"axis": 2, "keepdims": 0}),
    ("ArgMax", (), {}),
    ("AveragePool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("BatchNormalization", (floats(4), floats(4), floats(4), np.abs(floats(4)) + 1), {"epsilon": 1e-3}),
    ("Clip", (np.float32(-0.5), np.float32(0.5)), {}),
    ("Clip", (np.float32(0.0),), {}),
    ("Conv", (floats(8, 4, 3, 3), floats(8)), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("Conv", (floats(4, 1, 3, 3),), {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ("Conv", (floats(8, 4, 2, 2),), {"pads": [0, 0, 1, 1]}),
    ("DepthToSpace", (), {"blocksize": 2}),
    ("DepthToSpace", (), {"blocksize": 2, "mode": "CRD"}),
    ("Div", (np.float32(3.0),), {}),
    ("Expand", (whole(2, 4, 6, 6),), {}),
    ("Flatten", (), {}),
    ("Gather", (whole(1, 2),), {"axis": 1}),
    ("Gather", (whole(3, 0, -1),), {"axis": 2}),
    ("Gather", (np.array(-1),), {"axis": 3}),
    ("Gelu", (), {}),
    ("Gelu", (), {"approximate": "tanh"}),
    ("GlobalAveragePool", (), {}),
    ("HardSigmoid", (), {"alpha": 0.3}),
    ("HardSwish", (), {}),
    ("InstanceNormalization", (floats(4), floats(4)), {"epsilon": 1e-3}),
    ("LayerNormalization", (floats(6), floats(6)), {"epsilon": 1e-3}),
    ("LayerNormalization", (floats(6, 6),), {"axis": 2}),
    ("LeakyRelu", (), {"alpha": 0.2}),
    ("LpNormalization", (), {"axis": 2}),
    ("MatMul", (floats(6, 5),), {}),
    ("Max", (floats(6),), {}),
    ("MaxPool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("Pad", (whole(0, 0, 1, 2, 0, 0, 3, 4), np.float32(2.0)), {}),
    ("Pad", (whole(1, 2, 3, 4), None, whole(2, 3)), {"mode": "reflect"}),
    ("Pow", (np.float32(2.0),), {}),
    ("ReduceMax", (whole(-1),), {}),
    ("ReduceMean", (whole(2, 3),), {"keepdims": 0}),
    ("ReduceMean", (), {}),
    ("ReduceSum", (whole(1),), {}),
    ("Reshape", (whole(0, -1, 9),), {}),
    ("Slice", (whole(1, 0), whole(5, 1000), whole(2, 3), whole(2, 1)), {}),
    ("Slice", (whole(-1), whole(-100), whole(3), whole(-2)), {}),
    ("Softmax", (), {"axis": 1}),
    ("Split", (whole(1, 3),), {"axis": 1}),
    ("Split", (), {"axis": 3, "num_outputs": 2}),
    ("Sub", (floats(6),), {}),
    ("TopK", (whole(3),), {"axis": 2}),
    ("TopK", (whole(2),), {"largest": 0}),
    ("Transpose", (), {"perm": [0, 2, 3, 1]}),
    ("Unsqueeze", (whole(0, 2),), {}),
    *((name, (), {}) for name in ("Erf", "Exp", "Identity", "Neg", "Reciprocal", "Relu", "Sigmoid", "Tanh")),
]


def one_node(kind: str, constants: tuple[np.ndarray | None, ...], attributes: dict[str, Any]) -> onnx.ModelProto:
    tensors = [
        None if array is None else numpy_helper.from_array(np.asarray(array), f"c{i}")
        for i, array in enumerate(constants)
    ]
    names = ["pixels", *("" if tensor is None else tensor.name for tensor in tensors)]
    outputs = ["y", "z"] if kind in ("Split", "TopK") else ["y"]
    return helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, names, outputs, name="the node", **attributes)],
            "g",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, list(PIXELS.shape))],
            [helper.make_tensor_value_info("y", TensorProto.INT64 if kind == "ArgMax" else TensorProto.FLOAT, None)],
            [tensor for tensor in tensors if tensor is not None],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )


@pytest.mark.parametrize(
    ("kind", "constants", "attributes"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_an_operator_computes_what_onnxruntime_does(
    kind: str, constants: tuple[np.ndarray | None, ...], attributes: dict[str, Any]
) -> None:
    graph = one_node(kind, constants, attributes)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["y"], {"pixels": PIXELS})
    with torch.no_grad():
        found = GraphModule(graph)(torch.from_numpy(PIXELS)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_operator_of_one_tensor_is_in_a_test() -> None:
    others = {"Cast", "Concat", "Equal", "Gemm", "Log", "Mul", "Sqrt", "Squeeze"}
    assert {kind for domain, kind in OPERATORS if not domain} - others == {kind for kind, _, _ in CASES}


def test_a_whole_vit_computes_what_onnxruntime_does() -> None:
    graph = vit_graph()
    module = GraphModule(graph)
    assert (module.input_shape, module.input_type) == ((1, 1, 32, 32), torch.float32)
    pixels = random.standard_normal(module.input_shape).astype(np.float32)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": pixels})
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(pixels)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["merge", "prune", "fuse"])
@pytest.mark.parametrize("gelu", ["gelu-tanh", "gelu-sigmoid", "gelu-piecewise"])
def test_what_a_search_makes_of_a_vit_computes_what_onnxruntime_does(method: TokenMethod, gelu: str) -> None:
    tokens = TokenReduction(method=method, removed=(3, 4))
    graph, applied = reformed(vit_graph(), Policy(rewrites=(*exact_policy("litert").rewrites, gelu), tokens=tokens))
    assert gelu in applied
    module = GraphModule(graph)
    pixels = random.standard_normal(module.input_shape).astype(np.float32)
    with torch.no_grad():
        found = module(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, run_graph(graph, pixels), rtol=1e-4, atol=1e-5)


def test_an_unknown_operator_is_named() -> None:
    words = "The ONNX operator Hardmax (the node) is not known to what makes torch of a graph."
    with pytest.raises(EdgevitError, match=f"^{re.escape(words)}$"):
        GraphModule(one_node("Hardmax", (), {}))


def test_names_are_letters_digits_and_underscores_and_stay_apart() -> None:
    graph = one_node("Relu", (), {})
    graph.graph.node.add(op_type="Relu", name="the.node", input=["y"], output=["z"])
    assert list(module_names(graph)) == ["n_the_node", "n_the_node_1"]


def test_a_bias_and_an_activation_are_called_by_the_product_before_them() -> None:
    graph = one_node("Conv", (floats(8, 4, 3, 3),), {})
    graph.graph.node.add(op_type="Add", name="bias", input=["y", "c0"], output=["z"])
    graph.graph.node.add(op_type="Relu", name="relu", input=["z"], output=["a"])
    graph.graph.node.add(op_type="Relu", name="alone", input=["pixels"], output=["b"])
    assert fused_names(graph) == {
        "n_the_node": "the node", "n_bias": "the node", "n_relu": "the node", "n_alone": "alone",
    }  # fmt: skip
