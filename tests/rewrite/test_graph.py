from __future__ import annotations

import numpy as np
import onnx_ir as ir
from sketch import Sketch, kinds

from edgevit.rewrite.graph import (
    MICROSOFT,
    bypass,
    initializer,
    insert,
    only_reader,
    replace,
    rewritten,
    scalar,
    sizes,
    unique_name,
    with_constant,
)


def small() -> Sketch:
    sketch = Sketch((2, 3))
    sketch.op("Relu", sketch.op("Mul", sketch.constant([2.0]), "input"))
    return sketch


def test_an_edit_that_finds_nothing_gives_back_the_model_itself() -> None:
    model = small().model("Relu_1_0")
    assert rewritten(model, lambda graph: False) is model


def test_a_rewritten_model_has_no_dead_nodes_and_declares_onnx_runtime_s_operators() -> None:
    sketch = small()
    model = sketch.model("Relu_1_0")
    del model.opset_import[1:]

    def edit(graph: ir.Graph) -> bool:
        replace(graph, graph.outputs[0], "Gelu", [graph.inputs[0]], domain=MICROSOFT)
        return True

    result = rewritten(model, edit)
    assert kinds(result) == {"Gelu": 1}
    assert not result.graph.initializer
    assert [node.name for node in result.graph.node] == ["Relu_1_0"]
    assert {(entry.domain, entry.version) for entry in result.opset_import} == {("", 18), (MICROSOFT, 1)}
    assert kinds(model) == {"Mul": 1, "Relu": 1}


def test_new_nodes_and_constants_get_names_that_are_free() -> None:
    graph = ir.from_proto(small().model("Relu_1_0")).graph
    assert unique_name(graph, "new") == "new"
    assert unique_name(graph, "input") == "input_1"
    assert [initializer(graph, "gain", np.ones(1)).name for _ in range(3)] == ["gain", "gain_1", "gain_2"]
    assert insert(graph, graph.node(0), "Neg", [graph.inputs[0]], name="Mul_0_0").name == "Mul_0_0_1"


def test_a_new_node_comes_from_the_torch_module_of_its_place() -> None:
    graph = ir.from_proto(small().model("Relu_1_0")).graph
    graph.node(1).metadata_props["module"] = "blocks.0.act"
    value = insert(graph, graph.node(1), "Neg", [graph.node(1).inputs[0]], name="negative")
    replaced = replace(graph, graph.outputs[0], "Tanh", [value])
    assert [v.producer().metadata_props for v in (value, replaced)] == [{"module": "blocks.0.act"}] * 2


def test_a_bypassed_graph_output_keeps_its_name() -> None:
    model = small().model("Relu_1_0")
    result = rewritten(model, lambda graph: bypass(graph, graph.outputs[0], graph.inputs[0]) is None)
    assert kinds(result) == {"Identity": 1}
    assert result.graph.output[0].name == "Relu_1_0"


def test_what_is_asked_of_values() -> None:
    graph = ir.from_proto(small().model("Relu_1_0")).graph
    product, relu = graph
    assert sizes(graph.inputs[0]) == (2, 3)
    assert scalar(product.inputs[0]) == 2.0
    assert scalar(product.inputs[1]) is None
    other, array = with_constant(product) or (None, None)
    assert other is graph.inputs[0]
    assert array is not None
    assert only_reader(product.outputs[0]) is relu
    assert only_reader(relu.outputs[0]) is None  # a graph output


def test_a_size_by_name_is_unknown() -> None:
    sketch = Sketch(("batch", 3))
    graph = ir.from_proto(sketch.model(sketch.op("Relu", "input"))).graph
    assert sizes(graph.inputs[0]) is None
