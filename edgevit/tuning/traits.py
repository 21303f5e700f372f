"""Traits: what of a model can be varied, looked up in its graph and in its activations on real pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.build import Builder, best_calibrated
from edgevit.policies import INT8_REWRITES, exact_policy
from edgevit.progress import Progress
from edgevit.quantize.equalization import has_pairs
from edgevit.quantize.nodes import QuantizableNodes, quantizable_nodes
from edgevit.quantize.sensitivity import activation_kurtosis, outlier_layers
from edgevit.quantize.smoothquant import channel_maxima
from edgevit.recipe import Calibrator
from edgevit.rewrite import EXACT, REWRITES, apply_rewrites
from edgevit.rewrite.token_blocks import token_blocks
from edgevit.tuning.worth import NodeCosts, float_first, layer_worths

PICTURES = 8
FLOAT_SHARE = 0.5  # with more of the weights' operators in float, it is no INT8 artifact any more
FURTHER = tuple(
    name for name in EXACT if name not in (*exact_policy("onnxruntime").rewrites, *INT8_REWRITES["onnxruntime"])
)
APPROXIMATE = tuple(rewrite.name for rewrite in REWRITES if not rewrite.is_exact)


@dataclass(frozen=True)
class Traits:
    """What there is to vary in a model of pictures of side x side pixels.

    outliers: linear layers whose inputs have a few channels that stretch the range of all others. float_first:
    operators with weights in the order in which they are better left in float, half of them (see worth). blocks,
    patches: of a plain ViT, 0 for others. rewrites: those of the exact form that changed its graph; more_rewrites,
    approximations: further ones, exact and not, that would. has_conv_pairs: whether it has convolutions that can be
    equalized. calibrator: by which static INT8 of all weights' operators is nearest to fp32.
    """

    side: int
    nodes: QuantizableNodes
    outliers: tuple[str, ...]
    float_first: tuple[str, ...]
    blocks: int
    patches: int
    rewrites: frozenset[str]
    more_rewrites: frozenset[str]
    approximations: frozenset[str]
    has_conv_pairs: bool
    calibrator: Calibrator


def find_traits(builder: Builder, costs: NodeCosts, progress: Progress) -> Traits:
    """Of the model in its exact form for ONNX Runtime, which other forms share their nodes' names with."""
    policy = exact_policy("onnxruntime")
    form = builder.form(policy)
    nodes, blocks = quantizable_nodes(form.graph), token_blocks(builder.exported(policy).graph)
    batches = list(itertools.islice(builder.calibration(policy).batches(), PICTURES))
    static = policy.model_copy(update={"linear": "int8-static", "conv": "int8-static"})
    first: tuple[str, ...] = ()
    if nodes.conv or nodes.linear:
        int8 = best_calibrated(builder, "trait", static)
        static = int8.policy
        if not int8.failed:
            first = float_first(layer_worths(builder, static, int8, costs, progress))
    return Traits(
        side=form.artifact.preprocess.height,
        nodes=nodes,
        outliers=_outliers(form.graph, nodes.linear, batches),
        float_first=first[: int(FLOAT_SHARE * len(first))],
        blocks=len(blocks),
        patches=blocks[0].tokens - blocks[0].prefix if blocks else 0,
        rewrites=frozenset(form.artifact.rewrites),
        more_rewrites=_changing(FURTHER, form.graph),
        approximations=_changing(APPROXIMATE, form.graph),
        has_conv_pairs=has_pairs(form.graph),
        calibrator=static.calibrator,
    )


def _changing(rewrites: Sequence[str], graph: onnx.ModelProto) -> frozenset[str]:
    return frozenset(name for name in rewrites if apply_rewrites(graph, [name])[1])


def _outliers(graph: onnx.ModelProto, linear: Sequence[str], batches: Sequence[NDArray[np.float32]]) -> tuple[str, ...]:
    inputs = sorted({node.input[0] for node in graph.graph.node if node.name in set(linear)})
    kurtosis = activation_kurtosis(graph, inputs, batches)
    return outlier_layers(graph, linear, kurtosis, channel_maxima(graph, batches, inputs))
