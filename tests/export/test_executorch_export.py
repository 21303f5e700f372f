"""Conversion to ExecuTorch in its child process, and linear layers as one node of a graph."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tiny_models import deit_graph, random_pixels, run_graph, vit_graph

from edgevit.errors import EdgevitError, MissingExtraError
from edgevit.export import executorch
from edgevit.export.executorch import export_executorch
from edgevit.export.linear_layers import with_linear_layers
from edgevit.export.torch_graph import GraphModule
from edgevit.runtimes import open_session

if find_spec("executorch") is None:
    pytest.skip("executorch is not installed", allow_module_level=True)


def write_graph(path: Path, operator: str, **attributes: Any) -> Path:
    """pixels (1, 3, 4, 4), flattened by the operator's attributes or not at all."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 4, 4])
    node = helper.make_node(operator, ["pixels"], ["y"], name="odd", **attributes)
    graph = helper.make_graph([node], "g", [pixels], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_a_child_writes_what_the_graph_says(tmp_path: Path) -> None:
    lowered = export_executorch(write_graph(tmp_path / "m.onnx", "Flatten", axis=1), tmp_path / "m.pte")
    assert (lowered.int8, sorted(path.name for path in tmp_path.iterdir())) == ((), ["m.onnx", "m.pte"])
    pixels = random_pixels((1, 3, 4, 4))
    np.testing.assert_array_equal(open_session(tmp_path / "m.pte", "executorch", 1).run(pixels), pixels.reshape(1, -1))


def test_a_graph_that_cannot_be_converted_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    words = r"^This model cannot be converted to ExecuTorch: The ONNX operator Hardmax \(odd\) is not known to .*\.$"
    with pytest.raises(EdgevitError, match=words):
        export_executorch(write_graph(tmp_path / "odd.onnx", "Hardmax"), tmp_path / "odd.pte")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


def test_a_child_that_is_killed_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    code = "import os, sys; open(sys.argv[-1], 'w').write('half'); os.kill(os.getpid(), 9)"

    def start(command: list[str], **options: Any) -> Any:
        return real([sys.executable, "-c", code, command[-1]], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(EdgevitError, match="cannot be converted to ExecuTorch: its process was killed, most likely"):
        export_executorch(tmp_path / "m.onnx", tmp_path / "m.pte")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["executorch", "torchao"])
def test_without_a_package_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(executorch, "find_spec", lambda package: None if package == missing else package)
    with pytest.raises(MissingExtraError, match=rf"'{missing}'. Install it with: pip install 'edgevit\[executorch\]'"):
        export_executorch(tmp_path / "m.onnx", tmp_path / "m.pte")


@pytest.mark.parametrize("make", [vit_graph, deit_graph])
def test_linear_layers_are_one_node_each_and_say_the_same(make: Any) -> None:
    graph = with_linear_layers(make())
    products = {"MatMul", "Gemm"}
    constants = {tensor.name for tensor in graph.graph.initializer}
    assert not [node for node in graph.graph.node if node.op_type in products and node.input[1] in constants]
    module = GraphModule(graph).eval()
    pixels = random_pixels(module.input_shape)
    with torch.inference_mode():
        logits = module(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(logits, run_graph(make(), pixels), atol=1e-5)


def linear_model(nodes: list[onnx.NodeProto], output: str = "y") -> onnx.ModelProto:
    """x (2, 3); w (3, 4), b (4,) and m (2, 4) are constants."""
    generator = np.random.default_rng(0)
    values = {"w": (3, 4), "b": (4,), "m": (2, 4)}
    constants = [
        numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
        for name, shape in values.items()
    ]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    target = helper.make_tensor_value_info(output, TensorProto.FLOAT, [2, 4])
    graph = helper.make_graph(nodes, "g", [source], [target], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        ([("MatMul", "xw", "p"), ("Add", "pb", "y")], ["Linear"]),
        ([("MatMul", "xw", "p"), ("Add", "bp", "y")], ["Linear"]),
        ([("MatMul", "xw", "p"), ("Add", "pm", "y")], ["Linear", "Add"]),  # another row for each picture is no bias
        ([("MatMul", "xw", "p"), ("Add", "pb", "q"), ("Mul", "pq", "y")], ["Linear", "Add", "Mul"]),
        ([("MatMul", "xw", "y")], ["Linear"]),
        ([("Gemm", "xwb", "y")], ["Linear"]),
        ([("Gemm", "xwm", "y")], ["Gemm"]),
    ],
)
def test_a_sum_is_a_bias_where_it_is_one_row_and_alone_reads_the_product(
    nodes: list[tuple[str, str, str]], kinds: list[str]
) -> None:
    made = [helper.make_node(kind, list(inputs), [output], name=kind) for kind, inputs, output in nodes]
    model = linear_model(made)
    graph = with_linear_layers(model)
    assert [node.op_type for node in graph.graph.node] == kinds
    x = random_pixels((2, 3))
    with torch.inference_mode():
        result = GraphModule(graph).eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(result, run_graph(model, x), atol=1e-5)
