"""Bias correction: the mean error that INT8 brings into each channel of a layer, taken off the layer's bias.

Rounding shifts the mean of a layer's output, E[Q(x W)] ≠ E[x W], and every later layer inherits the shift.
Source: Nagel et al. 2019, "Data-Free Quantization", section 4.2, in the form that measures the means on pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgevit.errors import InputError
from edgevit.quantize.activations import open_exposed, run_session, stream_activations
from edgevit.quantize.wiring import Wiring, copy_of

PRODUCTS = ("MatMul", "Gemm", "Conv")
CUT = "cut/"
INT32 = np.iinfo(np.int32)


def correct_biases(
    float_model: onnx.ModelProto, quantized_model: onnx.ModelProto, nodes: Sequence[str], batches: Iterable[np.ndarray]
) -> onnx.ModelProto:
    """A copy of `quantized_model` whose named layers are right on average, channel by channel.

    nodes: names of linear layers and convolutions in `float_model`, from which edgevit's quantizers made
    `quantized_model` (static, dynamic, weights only, or mixed). Each layer is compared by itself: both forms get the
    float model's input of it, so that no layer is corrected for another one's error, and one pass over `batches` does
    for all. A layer without a bias is left alone.
    Raises InputError without pictures, EdgevitError when ONNX Runtime cannot run a model.
    """
    layers = _layers(Wiring(float_model.graph), nodes)
    corrected = copy_of(quantized_model)
    wiring = Wiring(corrected.graph)
    biases = {layer: place for layer in layers if (place := _bias_place(wiring, layer)) is not None}
    for layer, error in _mean_errors(float_model, quantized_model, list(biases), batches).items():
        _subtract(wiring, *biases[layer], error)
    return corrected


@dataclass(frozen=True)
class _Layer:
    """Names of the tensors that it reads and makes, the bias added: both graphs have them. channel_axis: of result."""

    source: str
    result: str
    channel_axis: int


def _layers(wiring: Wiring, nodes: Sequence[str]) -> list[_Layer]:
    found = []
    for node in (wiring.nodes[name] for name in nodes):
        result = node.output[0]
        if node.op_type == "MatMul":
            readers = wiring.inner_readers(result)
            is_biased = len(readers) == 1 and readers[0].op_type == "Add"
            if not is_biased or not any(_is_vector(wiring, name) for name in readers[0].input):
                continue
            result = readers[0].output[0]
        if node.op_type in PRODUCTS:
            found.append(_Layer(node.input[0], result, 1 if node.op_type == "Conv" else -1))
    return found


def _bias_place(wiring: Wiring, layer: _Layer) -> tuple[onnx.NodeProto, int] | None:
    """(node, index) of the constant in the quantized graph: float, or INT32 behind a DequantizeLinear."""
    node = wiring.makers.get(layer.result)
    while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear"):
        node = wiring.makers.get(node.input[0])  # a graph output's name stays with the value after 8 bits
    if node is None:
        return None
    if node.op_type == "Add":
        places = [(node, index) for index, name in enumerate(node.input) if _is_vector(wiring, name)]
        return places[0] if places else None
    if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
        return None
    if _is_vector(wiring, node.input[2]):
        return node, 2
    dequantizer = wiring.makers.get(node.input[2])
    return (dequantizer, 0) if dequantizer is not None and dequantizer.op_type == "DequantizeLinear" else None


def _mean_errors(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    layers: Sequence[_Layer],
    batches: Iterable[np.ndarray],
) -> dict[_Layer, NDArray[np.float64]]:
    """(C,) for each layer: the mean over pictures and positions of the quantized output less the float one."""
    if not layers:
        return {}
    tensors = [name for layer in layers for name in (layer.source, layer.result)]
    sources, results = [layer.source for layer in layers], [layer.result for layer in layers]
    session = open_exposed(_cut(quantized_model, sources, results), [])
    sums = {layer: np.zeros(()) for layer in layers}
    done = 0
    for floats in stream_activations(float_model, batches, tensors):
        done += 1
        outputs = run_session(session, results, {CUT + name: floats[name] for name in dict.fromkeys(sources)})
        for layer, output in zip(layers, outputs, strict=True):
            error = np.moveaxis(output - floats[layer.result], layer.channel_axis, -1)
            sums[layer] = sums[layer] + error.reshape(-1, error.shape[-1]).mean(axis=0, dtype=np.float64)
    if done == 0:
        raise InputError("Bias correction needs pictures to measure errors on, and there is none.")
    return {layer: total / done for layer, total in sums.items()}


def _cut(model: onnx.ModelProto, sources: Sequence[str], results: Sequence[str]) -> onnx.ModelProto:
    """What makes `results` of `sources`, which become graph inputs, called CUT + name."""
    part = copy_of(model)
    graph = part.graph
    known = set(sources)
    needed, kept = set(results), []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        needed.update(name for name in node.input if name not in known)
        for index, name in enumerate(node.input):
            if name in known:
                node.input[index] = CUT + name
        kept.append(node)
    for field in (graph.node, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(reversed(kept))
    graph.input.extend(helper.make_tensor_value_info(CUT + name, TensorProto.FLOAT, None) for name in sorted(known))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(results))
    return part


def _subtract(wiring: Wiring, node: onnx.NodeProto, index: int, error: NDArray[np.float64]) -> None:
    bias = wiring.constant(node.input[index])
    assert bias is not None
    if node.op_type != "DequantizeLinear":
        wiring.replace_constant(node, index, bias.astype(np.float64) - error)
        return
    scale = wiring.constant(node.input[1])
    assert scale is not None
    codes = np.rint(bias.astype(np.float64) - error / scale.astype(np.float64))
    wiring.replace_constant(node, index, np.clip(codes, INT32.min, INT32.max))


def _is_vector(wiring: Wiring, name: str) -> bool:
    array = wiring.constant(name)
    return array is not None and array.ndim == 1 and array.dtype.kind == "f"
