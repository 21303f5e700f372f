"""Apply: the quantization that a policy asks for, done to an fp32 graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import TensorsData

from edgevit.device import QuantizationPreset
from edgevit.policy import LINEAR_CONV, Policy
from edgevit.quantize.bias_correction import correct_biases
from edgevit.quantize.dynamic import quantize_dynamic
from edgevit.quantize.equalization import equalize
from edgevit.quantize.explicit import quantize_explicit
from edgevit.quantize.nodes import LINEAR, QuantizableNodes, quantizable_nodes
from edgevit.quantize.pixels import skip_pixel_quantization, with_pixel_ranges
from edgevit.quantize.silu_ranges import with_silu_ranges
from edgevit.quantize.smoothquant import channel_maxima, smooth
from edgevit.quantize.static import quantize_static
from edgevit.quantize.weight_only import store_weights_as_int8

# What is done to the ONNX graph and its weights before they become INT8.
OF_THE_GRAPH = ("smooth_alpha", "equalize", "correct_bias")
# Folds the weights' DequantizeLinear into float weights when the session is made, not at every inference
# (MobileViT-S: 50.4 ms without, 38.7 ms with it). Nothing else in a dynamic graph is a Q/DQ pair.
FOLD_WEIGHTS = {"session.disable_quant_qdq": "1"}
# ONNX Runtime's optimizer turns the weights of a float convolution between two Q/DQ pairs into INT8 with one scale for
# all channels: a MobileViT-S whose depthwise convolutions were to stay in float lost 7 points (SQNR 16.8 dB for 21.7).
KEEP_FLOAT_WEIGHTS = {"optimization.disable_specified_optimizers": "WeightBiasQuantization"}

# They fuse an activation with the convolution before it, unless a Q/DQ pair parts them.
FUSING_ACTIVATIONS = ("tensorrt", "openvino")
PRODUCTS = (*LINEAR, "Conv")

Batches = Iterable[NDArray[np.float32]]


@dataclass(frozen=True)
class Calibration:
    """What real pictures tell: `batches` gives them anew, (1, C, H, W) each, `ranges` those of a graph's tensors."""

    batches: Callable[[], Batches]
    ranges: Callable[[onnx.ModelProto], TensorsData]


@dataclass(frozen=True)
class QuantizedGraph:
    """`session`: the entries that the runtime needs for this graph. int8: by kind of operator, (in INT8, of all)."""

    graph: onnx.ModelProto
    session: dict[str, str]
    int8: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Assignment:
    """Names of nodes by what happens to them; all others stay in float."""

    static: tuple[str, ...]
    attention: tuple[str, ...]
    dynamic: tuple[str, ...]
    stored: tuple[str, ...]

    @property
    def weighted(self) -> tuple[str, ...]:
        """All but attention's products."""
        return (*self.static, *self.dynamic, *self.stored)


def assign(nodes: QuantizableNodes, policy: Policy) -> Assignment:
    """What the policy does to each of the nodes that INT8 is offered to."""
    kept = set(policy.float_nodes)

    def of(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in kept)

    convs = of([name for name in nodes.conv if nodes.conv_kinds[name] in policy.conv_kinds])
    static: tuple[str, ...] = ()
    if policy.linear == "int8-static":
        static += of(nodes.linear)
    if policy.conv == "int8-static":
        static += (*convs, *(() if policy.runtime in FUSING_ACTIVATIONS else of(nodes.silu)))
    if policy.residual == "int8-static":
        static += (*of(nodes.residual), *of(nodes.passing))
    return Assignment(
        static=static,
        attention=of(nodes.attention) if policy.attention == "int8-static" else (),
        dynamic=(
            *(of(nodes.linear) if policy.linear == "int8-dynamic" else ()),
            *(convs if policy.conv == "int8-dynamic" else ()),
        ),
        stored=convs if policy.conv == "int8-weights" else (),
    )


def quantize(
    graph: onnx.ModelProto, policy: Policy, preset: QuantizationPreset, calibration: Calibration
) -> QuantizedGraph:
    """The graph with the policy's precisions; unchanged for fp32. Raises EdgevitError when it cannot be quantized."""
    nodes = quantizable_nodes(graph)
    assignment = assign(nodes, policy)
    graph = plain = _prepared(graph, nodes, policy, assignment, calibration)
    if assignment.static or assignment.attention:
        ranges = with_silu_ranges(plain, calibration.ranges(plain))
        if policy.input_type == "uint8":
            ranges = with_pixel_ranges(plain, ranges)
        if policy.runtime == "tensorrt":
            graph = quantize_explicit(graph, (*assignment.static, *assignment.attention), ranges)
        else:
            for names, its_preset, float_outputs in _passes(policy, assignment, nodes, preset):
                graph = quantize_static(graph, names, ranges, its_preset, float_outputs) if names else graph
    if assignment.dynamic:
        graph = quantize_dynamic(graph, assignment.dynamic, preset)
    if assignment.stored:
        graph = store_weights_as_int8(graph, assignment.stored)
    if policy.correct_bias:  # while both graphs have the same tensors
        layers = [name for name in (*nodes.linear, *nodes.conv) if name in assignment.weighted]
        graph = correct_biases(plain, graph, layers, calibration.batches())
    if policy.input_type == "uint8":
        graph = skip_pixel_quantization(graph)
    return QuantizedGraph(graph, _session(policy, assignment), count_int8(nodes, assignment))


def _passes(
    policy: Policy, assignment: Assignment, nodes: QuantizableNodes, preset: QuantizationPreset
) -> Iterator[tuple[Sequence[str], QuantizationPreset, Sequence[str]]]:
    """(nodes, their types, the operators whose results stay in float), one after the other.

    OpenVINO fuses what follows a product in float with it: MobileViT-S 34 ms with 8 bits between a convolution and its
    SiLU, 23 ms without. Its linear layers are fastest on signed symmetric activations (DeiT-Ti 10.1 ms, 10.9 ms on
    asymmetric ones); its convolutions are as fast on either, and SiLUs, which are hardly ever negative, lose a bit by
    symmetry (MobileViT-S: cosine 0.954, with asymmetric ones 0.996). One thread, AVX-512 VNNI, OpenVINO 2026.4.
    """
    if policy.runtime == "openvino":
        asymmetric = preset.model_copy(update={"weight": "int8"})
        signed = asymmetric.model_copy(update={"activation": "int8", "symmetric": True})
        convs = set(nodes.conv)
        yield [name for name in assignment.static if name in convs], asymmetric, PRODUCTS
        yield [name for name in assignment.static if name not in convs], signed, PRODUCTS
        yield assignment.attention, signed, LINEAR
    else:
        # ONNX Runtime makes one Gemm of a MatMul and its bias, which is INT8 only between two Q/DQ pairs.
        yield assignment.static, preset, ()
        yield assignment.attention, preset, LINEAR


def _session(policy: Policy, assignment: Assignment) -> dict[str, str]:
    if policy.runtime != "onnxruntime":
        return {}
    if assignment.static or assignment.attention:
        return KEEP_FLOAT_WEIGHTS
    return FOLD_WEIGHTS if assignment.stored else {}


def count_int8(nodes: QuantizableNodes, assignment: Assignment) -> dict[str, tuple[int, int]]:
    """How many operators of each kind that the model has compute in INT8; weights that are only stored do not count."""
    computed = {*assignment.static, *assignment.dynamic, *assignment.attention}
    rows = [name for name in nodes.conv if LINEAR_CONV in name]
    kinds = {
        "linear layers": (*nodes.linear, *rows),
        "convolutions": [name for name in nodes.conv if name not in rows],
        "attention products": nodes.attention,
        "residual sums": nodes.residual,
    }
    return {kind: (len(computed & set(names)), len(names)) for kind, names in kinds.items() if names}


def _prepared(
    graph: onnx.ModelProto, nodes: QuantizableNodes, policy: Policy, assignment: Assignment, calibration: Calibration
) -> onnx.ModelProto:
    """The same function in float, with channels that are easier to quantize."""
    if policy.equalize:
        graph = equalize(graph)
    linear = [name for name in nodes.linear if name in assignment.weighted]
    if policy.smooth_alpha is not None and linear:
        inputs = {node.input[0] for node in graph.graph.node if node.name in set(linear)}
        maxima = channel_maxima(graph, calibration.batches(), sorted(inputs))
        graph = smooth(graph, linear, maxima, policy.smooth_alpha)
    return graph
