"""The tiny model of conftest as a .tflite file, written field by field: no converter is needed."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tiny_figures import BIAS, CLASSES, SIDE, WEIGHTS

TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8}


def write_tflite(
    path: Path,
    *,
    batch: int | None = 1,
    channels_last: bool = True,
    input_type: str = "float32",
    scale: tuple[float, int] | None = None,
    takes_bytes: bool = False,
    bias_shape: tuple[int, ...] = (CLASSES,),
) -> Path:
    """MEAN over the pixels, then FULLY_CONNECTED to the logits; batch None leaves it free.

    input_type with a scale: dequantized first. takes_bytes: (uint8 / 255 - 0.5) / 0.5, as conftest's bundle normalizes.
    """
    model = _Model()
    shape = (batch, SIDE, SIDE, 3) if channels_last else (batch, 3, SIDE, SIDE)
    source = pixels = model.tensor(shape, "uint8" if takes_bytes else input_type, scale=scale)
    if takes_bytes:
        pixels = model.tensor(shape, "float32")
        model.operator(schema.BuiltinOperator.CAST, [source], [pixels])
        for kind, options, number in (
            (schema.BuiltinOperator.MUL, schema.BuiltinOptions.MulOptions, 2 / 255),
            (schema.BuiltinOperator.ADD, schema.BuiltinOptions.AddOptions, -1.0),
        ):
            factor, result = model.constant(np.array([number], np.float32)), model.tensor(shape, "float32")
            model.operator(kind, [pixels, factor], [result], options)
            pixels = result
    elif scale:
        pixels = model.tensor(shape, "float32")
        model.operator(schema.BuiltinOperator.DEQUANTIZE, [source], [pixels])
    colors, logits = model.tensor((batch, 3), "float32"), model.tensor((batch, CLASSES), "float32")
    axes = model.constant(np.array([1, 2] if channels_last else [2, 3], np.int32))
    model.operator(schema.BuiltinOperator.MEAN, [pixels, axes], [colors], schema.BuiltinOptions.ReducerOptions)
    weights, bias = (
        model.constant(np.ascontiguousarray(WEIGHTS.T, np.float32)),
        model.constant(BIAS.reshape(bias_shape)),
    )
    options = schema.BuiltinOptions.FullyConnectedOptions
    model.operator(schema.BuiltinOperator.FULLY_CONNECTED, [colors, weights, bias], [logits], options)
    path.write_bytes(model.packed([source], [logits]))
    return path


class _Model:
    """A model's tensors, buffers and operators, as they are added."""

    def __init__(self) -> None:
        self._graph, self._model = schema.SubGraphT(), schema.ModelT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.version, self._model.operatorCodes = 3, []
        self._model.buffers, self._model.subgraphs = [schema.BufferT()], [self._graph]

    def tensor(
        self, shape: tuple[int | None, ...], kind: str, buffer: int = 0, scale: tuple[float, int] | None = None
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape = [1 if size is None else size for size in shape]
        if None in shape:
            tensor.shapeSignature = [-1 if size is None else size for size in shape]
        tensor.type, tensor.buffer, tensor.name = _type(kind), buffer, f"t{len(self._graph.tensors)}"
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale[0]], [scale[1]]
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, values: np.ndarray) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self.tensor(values.shape, str(values.dtype), len(self._model.buffers) - 1)

    def operator(self, kind: int, inputs: list[int], outputs: list[int], options: int = 0) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), 1
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self._model.operatorCodes), inputs, outputs
        self._model.operatorCodes.append(code)
        if options:
            name = next(key for key, value in vars(schema.BuiltinOptions).items() if value == options)
            operator.builtinOptionsType, operator.builtinOptions = options, getattr(schema, f"{name}T")()
        self._graph.operators.append(operator)

    def packed(self, inputs: list[int], outputs: list[int]) -> bytes:
        self._graph.inputs, self._graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _type(kind: str) -> int:
    return {**TYPES, "int32": schema.TensorType.INT32}[kind]
