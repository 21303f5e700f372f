"""Traits: what of a model can be varied, looked up in its graph and in its activations on real pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.build import Builder, nearest_calibrator
from edgevit.policies import exact_policy
from edgevit.quantize.equalization import has_pairs
from edgevit.quantize.nodes import QuantizableNodes, quantizable_nodes
from edgevit.quantize.sensitivity import activation_kurtosis, outlier_layers
from edgevit.quantize.smoothquant import channel_maxima
from edgevit.recipe import Calibrator
from edgevit.rewrite import REWRITES, apply_rewrites
from edgevit.rewrite.token_blocks import token_blocks

PICTURES = 8
APPROXIMATE = tuple(rewrite.name for rewrite in REWRITES if not rewrite.is_exact)


@dataclass(frozen=True)
class Traits:
    """What there is to vary in a model of pictures of side x side pixels.

    outliers: linear layers whose inputs have a few channels that stretch the range of all others. blocks, patches: of a
    plain ViT, 0 for others. approximations: rewrites that change its graph. has_conv_pairs: whether it has convolutions
    that can be equalized. calibrator: by which static INT8 of all convolutions and linear layers is nearest to fp32.
    """

    side: int
    nodes: QuantizableNodes
    outliers: tuple[str, ...]
    blocks: int
    patches: int
    approximations: frozenset[str]
    has_conv_pairs: bool
    calibrator: Calibrator


def find_traits(builder: Builder) -> Traits:
    """Of the model in its exact form for ONNX Runtime, which other forms share their nodes' names with."""
    policy = exact_policy("onnxruntime")
    form = builder.form(policy)
    nodes, blocks = quantizable_nodes(form.graph), token_blocks(builder.exported(policy).graph)
    static = policy.model_copy(update={"linear": "int8-static", "conv": "int8-static"})
    batches = list(itertools.islice(builder.calibration(policy).batches(), PICTURES))
    return Traits(
        side=form.artifact.preprocess.height,
        nodes=nodes,
        outliers=_outliers(form.graph, nodes.linear, batches),
        blocks=len(blocks),
        patches=blocks[0].tokens - blocks[0].prefix if blocks else 0,
        approximations=frozenset(name for name in APPROXIMATE if apply_rewrites(form.graph, [name])[1]),
        has_conv_pairs=has_pairs(form.graph),
        calibrator=nearest_calibrator(builder, "trait", static) if nodes.conv or nodes.linear else "minmax",
    )


def _outliers(graph: onnx.ModelProto, linear: Sequence[str], batches: Sequence[NDArray[np.float32]]) -> tuple[str, ...]:
    inputs = sorted({node.input[0] for node in graph.graph.node if node.name in set(linear)})
    kurtosis = activation_kurtosis(graph, inputs, batches)
    return outlier_layers(graph, linear, kurtosis, channel_maxima(graph, batches, inputs))
