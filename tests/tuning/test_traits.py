from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from digits_shop import Told, device_here, digits_evidence, vit_subject
from onnx import numpy_helper
from tiny_models import mobilevit_graph, vit_graph

from edgevit import build
from edgevit.board.preprocess import Preprocess
from edgevit.build import Builder
from edgevit.cost.cores import load_costs
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.tuning.traits import Traits, find_traits
from edgevit.tuning.worth import estimated_costs
from edgevit.workshop import Workshop

COLORS = Preprocess(
    height=64, width=64, channels=3, resize=64, crop_mode="center", interpolation="bilinear", mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5), color="RGB",
)  # fmt: skip


@pytest.fixture
def builder_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Builder]:
    """builder_of(graph, …): of a subject that is this graph; of the tiny ViT itself without one."""

    def make(graph: onnx.ModelProto | None = None, **changes: Any) -> Builder:
        monkeypatch.setattr(build, "export_onnx", lambda *_: vit_graph())
        fields = {"model": None, "graph": graph, **changes} if graph is not None else changes
        evidence = digits_evidence()
        shop = Workshop(
            vit_subject(**fields),
            device_here(),
            ExportSpec(),
            ParityThresholds(),
            evidence.calibration,
            evidence.probes,
            tmp_path,
            is_foreign=False,
            progress=Told(),
        )  # fmt: skip
        return Builder(shop)

    return make


def traits_of(builder: Builder) -> Traits:
    """By what a Cortex-A76 is estimated to gain: the same on every machine."""
    return find_traits(builder, estimated_costs(load_costs()[0]), Told())


def test_of_a_vit_its_blocks_and_patches_are_found(builder_of: Callable[..., Builder]) -> None:
    found = traits_of(builder_of())
    assert (found.side, found.blocks, found.patches) == (32, 2, 16)
    assert found.approximations == {"gelu-tanh", "gelu-sigmoid", "gelu-piecewise"}
    assert len(found.nodes.linear) == 2 * 6 + 1  # by three products for queries, keys and values
    assert len(found.nodes.attention) == 2 * 2


def test_the_calibrator_is_the_one_that_diverges_least(builder_of: Callable[..., Builder]) -> None:
    builder = builder_of()
    builder.divergences = lambda policy, artifacts: [3.0, 1.0, 2.0][: len(list(artifacts))]  # type: ignore[method-assign]
    assert traits_of(builder).calibrator == "percentile"


def test_a_hybrid_has_no_blocks_to_drop_tokens_in(builder_of: Callable[..., Builder]) -> None:
    found = traits_of(builder_of(mobilevit_graph(), preprocess=COLORS))
    assert (found.side, found.blocks, found.patches) == (64, 0, 0)
    assert found.nodes.conv_kinds
    assert found.approximations == frozenset()  # SiLU is no GELU


def test_layers_behind_a_channel_that_stretches_the_range_are_outliers(builder_of: Callable[..., Builder]) -> None:
    """One channel of the last norm a hundred times as large: the head behind it, and nothing else, is hit."""
    assert traits_of(builder_of()).outliers == ()
    graph = vit_graph()
    *_, norm = (node for node in graph.graph.node if node.op_type == "LayerNormalization")
    stretched = np.where(np.arange(32) == 5, 100, 1).astype(np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(stretched, "stretched"))
    norm.input[1] = "stretched"
    (head,) = [node.name for node in graph.graph.node if "head.weight" in node.input]
    assert traits_of(builder_of(graph)).outliers == (head,)
