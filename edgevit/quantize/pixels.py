"""Pixels: the bytes of a graph that takes uint8 are their own INT8 codes, with scale 1 and zero point 0.

Such a graph (see rewrite.uint8_input) casts them to float and multiplies. Quantized, it would turn the floats into
the same bytes again: what is here makes sure that they are the same, and leaves that out.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import TensorsData
from onnxruntime.quantization.calibrate import TensorData

from edgevit.quantize.wiring import Wiring, copy_of

BYTE_RANGE = {"lowest": np.array(0.0, np.float32), "highest": np.array(255.0, np.float32)}
MOVES = ("Reshape", "Transpose")


def with_pixel_ranges(model: onnx.ModelProto, ranges: TensorsData) -> TensorsData:
    """`ranges` with [0, 255] for the pictures' bytes, whatever values the calibration pictures happened to have."""
    casts = {node.output[0] for node in _casts_of_pixels(model)}
    data = {name: TensorData(**BYTE_RANGE) if name in casts else found for name, found in ranges.items()}
    return TensorsData(ranges.calibration_method, data)


def skip_pixel_quantization(model: onnx.ModelProto) -> onnx.ModelProto:
    """A quantized graph in which bytes are multiplied as they come; the model itself when it quantizes none.

    Static: exact, where with_pixel_ranges gave them the scale 1 and the preset's activations are uint8; else they are
    quantized as before. Dynamic: exact where a picture holds a 255, and finer than before where it does not.
    """
    duplicate = copy_of(model)
    graph, wiring = duplicate.graph, Wiring(duplicate.graph)
    stand_ins: dict[str, str] = {}
    skipped: list[str] = []
    for cast in _casts_of_pixels(duplicate):
        for reader in wiring.inner_readers(cast.output[0]):
            if reader.op_type == "DynamicQuantizeLinear":
                constants = (np.array(1.0, np.float32), np.array(0, np.uint8))
                names = [f"{name}_of_bytes" for name in reader.output[1:]]
                graph.initializer.extend(numpy_helper.from_array(*pair) for pair in zip(constants, names, strict=True))
                stand_ins |= dict(zip(reader.output, [cast.input[0], *names], strict=True))
            elif _gives_the_bytes(reader, wiring):
                stand_ins[reader.output[0]] = cast.input[0]
            else:
                continue
            skipped.append(reader.name)
    if not skipped:
        return model
    for node in graph.node:
        node.input[:] = [stand_ins.get(name, name) for name in node.input]
    _remove(graph, {*skipped, *_unread_casts(duplicate, skipped)})
    return duplicate


def _casts_of_pixels(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Casts to float32 of the uint8 input, whose bytes were at most moved before."""
    pixels = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    casts = []
    for node in model.graph.node:
        if node.op_type in MOVES and node.input[0] in pixels:
            pixels.add(node.output[0])
        elif node.op_type == "Cast" and node.input[0] in pixels:
            casts += [node] if node.attribute[0].i == TensorProto.FLOAT else []
    return casts


def _gives_the_bytes(node: onnx.NodeProto, wiring: Wiring) -> bool:
    """Whether it is a QuantizeLinear to uint8 with scale 1 and zero point 0."""
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return False
    scale, zero_point = wiring.constant(node.input[1]), wiring.constant(node.input[2])
    is_known = scale is not None and zero_point is not None and scale.size == 1
    return bool(is_known and scale == 1.0 and zero_point == 0 and zero_point.dtype == np.uint8)


def _unread_casts(model: onnx.ModelProto, skipped: list[str]) -> list[str]:
    read = {name for node in model.graph.node if node.name not in skipped for name in node.input}
    return [cast.name for cast in _casts_of_pixels(model) if cast.output[0] not in read]


def _remove(graph: onnx.GraphProto, names: set[str]) -> None:
    kept = [node for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend(kept)
