from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from profiles import PRESET, model_of, node_time
from tiny_models import mobilevit_graph, vit_graph

from edgevit.export.onnx import MODULES_KEY
from edgevit.profiling.layers import kind_of, layer_of, module_rows, modules_of_nodes
from edgevit.quantize.calibration import observe_activations, ranges_by
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.static import quantize_static
from edgevit.rewrite.class_token import compute_last_block_for_class_token


@pytest.mark.parametrize(
    ("module", "layer", "kind"),
    [
        ("blocks.3.attn.qkv", "blocks.3.attn", "blocks.*.attn"),
        ("blocks.11.mlp.0", "blocks.11.mlp", "blocks.*.mlp"),
        ("blocks.3", "blocks.3", "blocks.*"),
        ("patch_embed.proj", "patch_embed", "patch_embed"),
        ("stages.2.1.transformer.0.attn.qkv", "stages.2.1.transformer.0.attn", "stages.*.*.transformer.*.attn"),
        ("stages.0.blocks.0.mixer.m.attn.qkvs.0.c", "stages.0.blocks.0.mixer", "stages.*.blocks.*.mixer"),
        ("stages.0.0.conv1_1x1.conv", "stages.0.0.conv1_1x1", "stages.*.*.conv1_1x1"),
        ("norm1", "norm1", "norm1"),
        ("", "", ""),
    ],
)
def test_a_path_is_cut_where_a_line_is_worth_it(module: str, layer: str, kind: str) -> None:
    assert layer_of(module) == layer
    assert kind_of(module) == kind


def test_rows_follow_the_model_and_add_up_what_belongs_together() -> None:
    nodes = [
        node_time("Conv", 1.0, module="patch_embed.proj", macs=100),
        node_time("Add", 0.5, module=""),
        node_time("MatMul", 2.0, module="blocks.0.attn.qkv", macs=30),
        node_time("Softmax", 4.0, module="blocks.0.attn"),
        node_time("Cast", 0.5),
    ]
    found = [(row.module, row.nodes, row.ms, row.share, row.macs) for row in module_rows(nodes)]
    assert found == [
        ("patch_embed", 1, 1.0, 12.5, 100),
        ("(the model itself)", 1, 0.5, 6.25, 0),
        ("blocks.0.attn", 2, 6.0, 75.0, 30),
        ("(not known)", 1, 0.5, 6.25, 0),
    ]


def node_of(op_type: str, inputs: list[str], output: str, scopes: str = "", name: str = "") -> onnx.NodeProto:
    node = helper.make_node(op_type, inputs, [output], name=name or f"node_{output}")
    if scopes:
        node.metadata_props.add(key=MODULES_KEY, value=scopes)
    return node


ATTENTION = "['', 'blocks', 'blocks.0', 'blocks.0.attn', 'softmax']"
FC = "['', 'blocks', 'blocks.0', 'blocks.0.mlp', 'blocks.0.mlp.fc1', 'linear']"


def test_what_was_quantized_for_a_layer_belongs_to_it_and_what_follows_the_last_one_to_the_last() -> None:
    model = model_of(
        [
            node_of("Softmax", ["input"], "chances", ATTENTION),
            node_of("Abs", ["chances"], "quantized"),
            node_of("Neg", ["quantized"], "product"),
            node_of("Add", ["product", "one"], "linear", FC),
            node_of("Abs", ["linear"], "logits"),
        ],
        {"one": np.ones(1, np.float32)},
    )
    fc1 = "blocks.0.mlp.fc1"
    assert modules_of_nodes(model, model) == {
        "node_chances": "blocks.0.attn", "node_quantized": fc1, "node_product": fc1, "node_linear": fc1,
        "node_logits": fc1,
    }  # fmt: skip


def test_a_fused_node_is_found_by_what_it_makes_and_by_the_name_that_its_own_begins_with() -> None:
    bundled = model_of(
        [node_of("Softmax", ["input"], "chances", ATTENTION), node_of("Abs", ["chances"], "logits", FC)], {}
    )
    executed = model_of(
        [
            node_of("Softmax", ["input"], "blocked", name="node_chances_nchwc"),
            node_of("Abs", ["blocked"], "logits", name="of the runtime"),
        ],
        {},
    )
    assert modules_of_nodes(bundled, executed) == {
        "node_chances_nchwc": "blocks.0.attn",
        "of the runtime": "blocks.0.mlp.fc1",
    }


def test_a_parameter_names_its_layer_unless_two_nodes_read_it() -> None:
    nodes = [node_of("Add", ["input", "norm.bias"], "a"), node_of("Mul", ["a", "head.weight_quantized"], "logits")]
    constants = {name: np.ones(1, np.float32) for name in ("norm.bias", "head.weight_quantized")}
    model = model_of(nodes, constants)
    assert modules_of_nodes(model, model) == {"node_a": "norm", "node_logits": "head"}
    shared = model_of([*nodes[:1], node_of("Mul", ["a", "norm.bias"], "logits")], constants)
    assert modules_of_nodes(shared, shared) == {}


def executed_graph(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "executed.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def test_each_fused_node_of_a_dynamic_int8_vit_finds_its_module(tmp_path: Path) -> None:
    graph = compute_last_block_for_class_token(vit_graph())
    bundled = quantize_dynamic(graph, quantizable_nodes(graph).linear, PRESET)
    executed = executed_graph(bundled, tmp_path)
    modules = modules_of_nodes(bundled, executed)
    fused = [node for node in executed.graph.node if node.op_type == "DynamicQuantizeMatMul"]
    blocks = [f"blocks.{i}.{layer}" for i in (0, 1) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    expected = {*blocks, "head"}
    assert {modules[node.name] for node in fused} == expected
    assert all(node.name in modules for node in executed.graph.node)
    layers = {layer_of(module) for module in modules.values()}
    assert {f"blocks.{i}.{layer}" for i in (0, 1) for layer in ("norm1", "attn", "norm2", "mlp")} <= layers
    convolution = next(node for node in executed.graph.node if node.op_type == "Conv")
    assert modules[convolution.name] == "patch_embed.proj"


def test_each_node_of_a_static_int8_mobilevit_finds_its_module(tmp_path: Path) -> None:
    graph = mobilevit_graph()
    nodes = quantizable_nodes(graph)
    chosen = (*nodes.linear, *nodes.conv, *nodes.silu)
    pixels = [np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)]
    bundled = quantize_static(graph, chosen, ranges_by("minmax", observe_activations(graph, pixels, chosen)), PRESET)
    executed = executed_graph(bundled, tmp_path)
    modules = modules_of_nodes(bundled, executed)
    assert {node.name for node in executed.graph.node} == modules.keys()
    convolutions = [node for node in executed.graph.node if node.op_type == "QLinearConv"]
    assert len(convolutions) == len(nodes.conv)
    for node in convolutions:  # its weight says where it comes from; a merged norm is in the same layer
        module = node.input[3].removesuffix(".weight_quantized")
        assert layer_of(modules[node.name]) == layer_of(module)
