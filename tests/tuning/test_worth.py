"""What INT8 costs and gains a layer: by arithmetic, and on the tiny ViT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from digits_shop import Told, device_here, digits_evidence, vit_subject
from tiny_models import vit_graph

from edgevit import build
from edgevit.build import Builder
from edgevit.cost.cores import load_costs
from edgevit.policies import exact_policy
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.tuning.worth import LayerWorth, estimated_costs, float_first, layer_worths, measured_costs
from edgevit.workshop import Artifact, Workshop

STATIC = exact_policy("onnxruntime").model_copy(update={"linear": "int8-static", "conv": "int8-static"})


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Builder, Artifact]:
    """The tiny ViT's builder, and its artifact with all weights' operators in static INT8."""
    monkeypatch.setattr(build, "export_onnx", lambda *_: vit_graph())
    evidence = digits_evidence()
    shop = Workshop(
        vit_subject(), device_here(), ExportSpec(), ParityThresholds(), evidence.calibration, evidence.probes, tmp_path,
        is_foreign=False, progress=Told(),
    )  # fmt: skip
    builder = Builder(shop)
    return builder, builder.build("static", STATIC)


def worth(module: str, sqnr_db: float, gain: float) -> LayerWorth:
    return LayerWorth(module, (f"{module} 1", f"{module} 2"), sqnr_db, gain)


def test_layers_that_int8_makes_slower_stay_in_float_first_and_then_those_with_most_noise_for_their_gain() -> None:
    layers = [
        worth("clean", 40.0, 1.0),  # 0.0001 of noise for each ms
        worth("noisy", 20.0, 2.0),  # 0.005
        worth("small", 30.0, 0.1),  # 0.01
        worth("slower", 60.0, -0.5),
        worth("slowest", math.inf, -1.0),
        worth("broken", math.nan, 5.0),
    ]
    order = [name.split()[0] for name in float_first(layers)[::2]]
    assert order == ["slowest", "slower", "broken", "small", "noisy", "clean"]
    assert float_first(layers)[:2] == ("slowest 1", "slowest 2")


def test_the_layers_of_a_vit_are_its_torch_modules_with_weights(built: tuple[Builder, Artifact]) -> None:
    builder, int8 = built
    found = layer_worths(builder, STATIC, int8, estimated_costs(load_costs()[0]), Told())
    graph = builder.form(STATIC).graph
    nodes = quantizable_nodes(graph)
    assert sorted(node for layer in found for node in layer.nodes) == sorted((*nodes.linear, *nodes.conv))
    names = {layer.module for layer in found}
    assert {"patch_embed.proj", "blocks.0.mlp.fc1", "blocks.1.attn.proj", "head"} <= names
    assert all(10.0 < layer.sqnr_db < 100.0 for layer in found)
    alone = next(layer for layer in found if layer.module == "blocks.0.mlp.fc1")
    others = {node for layer in found if layer is not alone for node in layer.nodes}
    only = onnx.load(builder.build("alone", STATIC.model_copy(update={"float_nodes": tuple(others)})).path)
    assert [node.op_type for node in only.graph.node].count("QuantizeLinear") <= 2


def test_what_a_layer_gains_is_the_difference_of_what_its_nodes_cost(built: tuple[Builder, Artifact]) -> None:
    """Each node of the fp32 graph costs 3, each of the INT8 one 2, whatever it is."""
    builder, int8 = built

    def costs(artifact: Artifact) -> tuple[onnx.ModelProto, Mapping[str, float]]:
        graph = onnx.load(artifact.path)
        weighted = (*quantizable_nodes(builder.form(STATIC).graph).linear,)
        price = 2.0 if artifact is int8 else 3.0
        return graph, {node.name: price for node in graph.graph.node if node.name in weighted}

    found = layer_worths(builder, STATIC, int8, costs, Told())
    gains = {layer.module: layer.gain for layer in found}
    assert gains["blocks.0.mlp.fc1"] == pytest.approx(1.0)
    assert gains["blocks.0.attn"] == pytest.approx(3.0)  # queries, keys and values are three products
    assert gains["patch_embed.proj"] == 0.0


@pytest.mark.parametrize("make", [lambda: measured_costs(1), lambda: estimated_costs(load_costs()[0])])
def test_costs_are_of_the_graph_that_the_runtime_executes(
    built: tuple[Builder, Artifact],
    make: Callable[[], Callable[[Artifact], tuple[onnx.ModelProto, Mapping[str, float]]]],
) -> None:
    builder, _ = built
    executed, costs = make()(builder.form(STATIC).artifact)
    assert set(costs) <= {node.name for node in executed.graph.node}
    assert sum(costs.values()) > 0
    assert np.isfinite(list(costs.values())).all()
