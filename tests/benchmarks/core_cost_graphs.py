"""Graphs of one operator each, from which the costs of a core are fitted: float, QDQ and dynamic INT8, many shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

MS = "com.microsoft"
TYPES = {"f32": np.float32, "u8": np.uint8, "s8": np.int8}
ACTIVATIONS = ("u8", "s8")
SCALE, UNIT = np.float32(0.02), np.float32(1 / 256)
TOKENS = ((1, 197, 192), (1, 50, 64), (4, 256, 144), (1, 197, 768), (1, 17, 32), (1, 17, 128))
PICTURES = ((1, 64, 64, 64), (1, 256, 16, 16), (1, 16, 128, 128), (1, 16, 16, 16), (1, 32, 8, 8))
LINEAR = (
    (197, 192, 192), (197, 192, 576), (197, 192, 768), (197, 768, 192), (50, 64, 64), (50, 64, 256), (17, 256, 64),
    (1024, 144, 144), (1024, 144, 288), (256, 192, 384), (64, 240, 480), (128, 384, 384), (17, 32, 32), (17, 32, 96),
    (17, 32, 128), (17, 128, 32), (64, 32, 96), (5, 64, 64),
)  # fmt: skip
ROWS = ((1, 32, 10), (1, 64, 64), (1, 192, 10), (1, 192, 1000), (1, 640, 1000), (1, 768, 192))
ATTENTION = (
    ((3, 197, 64), (3, 64, 197)), ((3, 197, 197), (3, 197, 64)), ((2, 50, 32), (2, 32, 50)),
    ((2, 50, 50), (2, 50, 32)), ((16, 256, 36), (16, 36, 256)), ((16, 256, 256), (16, 256, 36)),
    ((16, 64, 48), (16, 48, 64)), ((16, 64, 64), (16, 64, 48)), ((4, 16, 196), (4, 196, 16)),
    ((2, 17, 16), (2, 16, 17)), ((2, 17, 17), (2, 17, 16)), ((16, 64, 8), (16, 8, 64)), ((16, 16, 16), (16, 16, 8)),
    ((1, 196, 16), (1, 16, 196)),
)  # fmt: skip
# channels in, out, side, kernel, groups, stride
CONVS = (
    (64, 64, 32, 1, 1, 1), (64, 256, 32, 1, 1, 1), (256, 64, 32, 1, 1, 1), (32, 128, 64, 1, 1, 1),
    (96, 96, 8, 1, 1, 1), (160, 640, 8, 1, 1, 1), (192, 384, 4, 1, 1, 1), (32, 16, 128, 1, 1, 1),
    (64, 64, 32, 3, 1, 1), (96, 96, 16, 3, 1, 1), (192, 96, 32, 3, 1, 1), (3, 16, 64, 3, 1, 1), (240, 160, 8, 3, 1, 1),
    (3, 16, 256, 3, 1, 2), (32, 64, 56, 3, 1, 2), (3, 192, 224, 16, 1, 16), (3, 64, 64, 8, 1, 8),
    (64, 128, 28, 3, 1, 2), (16, 32, 112, 3, 1, 2), (64, 128, 32, 1, 1, 2), (256, 256, 32, 3, 256, 1),
    (128, 128, 64, 3, 128, 1), (512, 512, 8, 3, 512, 1), (32, 32, 128, 3, 32, 1), (64, 64, 14, 3, 64, 1),
    (64, 64, 32, 5, 64, 1), (64, 64, 32, 7, 64, 1), (192, 192, 14, 5, 192, 1), (384, 384, 8, 7, 384, 1),
    (16, 16, 7, 5, 16, 1), (256, 256, 32, 3, 256, 2), (64, 64, 128, 3, 64, 2), (128, 128, 16, 7, 128, 2),
    (192, 192, 14, 5, 192, 2), (3, 8, 32, 3, 1, 2), (8, 16, 32, 1, 1, 1), (16, 16, 16, 1, 1, 1),
    (16, 16, 32, 3, 16, 2), (16, 16, 16, 3, 1, 1), (32, 16, 16, 3, 1, 1), (16, 32, 16, 1, 1, 1), (8, 8, 32, 3, 8, 1),
    (16, 16, 8, 3, 16, 2), (3, 32, 32, 8, 1, 8), (64, 128, 32, 7, 64, 2), (48, 96, 64, 7, 48, 2),
    (128, 128, 14, 3, 8, 1), (64, 128, 16, 3, 64, 1),
)  # fmt: skip
TRANSPOSES = (
    ((1, 197, 3, 64), (0, 2, 1, 3)), ((1, 3, 197, 64), (0, 2, 1, 3)), ((1, 50, 2, 32), (0, 2, 1, 3)),
    ((144, 16, 2, 16, 2), (0, 1, 3, 2, 4)), ((4608, 2, 16, 2), (0, 2, 1, 3)), ((1, 197, 3, 3, 64), (2, 0, 3, 1, 4)),
    ((4, 256, 3, 4, 36), (2, 0, 3, 1, 4)), ((1, 197, 1, 192), (0, 2, 1, 3)), ((1, 64, 1, 32), (0, 2, 1, 3)),
    ((36, 8, 2, 8, 2), (0, 1, 3, 2, 4)), ((4, 4, 256, 36), (0, 2, 1, 3)), ((1, 197, 3, 64), (0, 2, 3, 1)),
    ((1, 3, 197, 64), (0, 1, 3, 2)), ((1, 64, 32, 32), (0, 2, 3, 1)), ((1, 32, 32, 64), (0, 3, 1, 2)),
    ((1, 192, 196), (0, 2, 1)), ((1, 32, 128, 128), (0, 2, 3, 1)), ((1, 17, 2, 16), (0, 2, 1, 3)),
    ((1, 17, 2, 16), (0, 2, 3, 1)), ((1, 17, 3, 2, 16), (2, 0, 3, 1, 4)), ((1, 16, 16, 16), (0, 2, 3, 1)),
    ((1, 32, 64, 4), (0, 3, 2, 1)), ((1, 144, 256, 4), (0, 3, 2, 1)), ((1, 192, 64, 4), (0, 3, 2, 1)),
    ((1, 32, 50, 2), (0, 3, 2, 1)),
)  # fmt: skip


class Graph:
    """A chain of nodes on one input `x`."""

    def __init__(self, shape: tuple[int, ...], kind: str = "f32") -> None:
        self.shape, self.kind, self.nodes, self.constants = shape, kind, [], {}  # type: ignore[var-annotated]

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def op(self, kind: str, *inputs: Any, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        made = [f"{kind}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, name=made[0], domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def quantize(self, value: str, kind: str = "u8") -> str:
        name: str = self.op("QuantizeLinear", value, SCALE, zero(kind))
        return name

    def model(self, *outputs: str, kind: str | None = None) -> onnx.ModelProto:
        def info(name: str, of: str, shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[of])), shape)

        graph = helper.make_graph(
            self.nodes,
            "one_operator",
            [info("x", self.kind, self.shape)],
            [info(name, kind or self.kind, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def all_graphs() -> Iterator[tuple[str, onnx.ModelProto]]:
    """(name, graph) of every operator in every form that edgevit's graphs have."""
    for number, model in enumerate(
        itertools.chain(
            _elementwise(), _chains(), _rowwise(), _layouts(), _products(), _convs(), _quantizing(), _rest()
        )
    ):
        yield f"{number:03d}", model


def zero(kind: str, unit: bool = False) -> np.ndarray:
    """The zero point of a symmetric range, or with `unit` of 0 to 1."""
    return np.array({"u8": 0 if unit else 128, "s8": -128 if unit else 0}[kind], TYPES[kind])


def weights(*shape: int, kind: str = "f32") -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(shape)
    if kind == "f32":
        return values.astype(np.float32)
    return np.clip(values * 40 + (128 if kind == "u8" else 0), -127 if kind == "s8" else 0, 127).astype(TYPES[kind])


def _elementwise() -> Iterator[onnx.ModelProto]:
    for shape in (*TOKENS, *PICTURES):
        for kind in ("Relu", "Sigmoid", "HardSwish", "Erf", "Tanh", "Gelu", "Sqrt"):
            yield _one(shape, kind)
        yield _one(shape, "Gelu", domain=MS)
        yield _one(shape, "FastGelu", domain=MS)
        yield _one(shape, "QuickGelu", domain=MS, alpha=1.702)
        yield _one(shape, "Clip", "", np.float32(6))
        graph = Graph(shape)
        flat = graph.op("Reshape", graph.op("Relu", "x"), np.array([-1]))
        yield graph.model(graph.op("Relu", flat))
        for kind in ("Add", "Mul", "Sub", "Div"):
            yield _one(shape, kind, np.float32(3))
            yield _one(shape, kind, weights(shape[-1]))
            yield _one(shape, kind, weights(shape[1], *(1 for _ in shape[2:])))
            graph = Graph(shape)
            yield graph.model(graph.op(kind, "x", "x"))
        yield _one(shape, "BiasGelu", weights(shape[-1]), domain=MS)
        for kind in ACTIVATIONS:
            graph = Graph(shape, kind)
            arguments = (SCALE, zero(kind))
            sigmoid = graph.op("QLinearSigmoid", "x", *arguments, UNIT, zero(kind, True), domain=MS)
            yield graph.model(sigmoid)
            yield graph.model(
                graph.op("QLinearMul", "x", *arguments, sigmoid, UNIT, zero(kind, True), *arguments, domain=MS)
            )
            for name in ("QLinearAdd", "QLinearMul"):
                graph = Graph(shape, kind)
                yield graph.model(graph.op(name, "x", *arguments, "x", *arguments, *arguments, domain=MS))
            graph = Graph(shape, kind)
            yield graph.model(graph.op("QLinearLeakyRelu", "x", *arguments, *arguments, domain=MS, alpha=0.01))


def _chains() -> Iterator[onnx.ModelProto]:
    """What tells the cost of a call from that of an inference."""
    for kind, length in itertools.product(("Relu", "Tanh"), (2, 6, 12, 24)):
        graph, value = Graph((1, 17, 32)), "x"
        for _ in range(length // 2):
            value = graph.op("Sqrt", graph.op(kind, value))
        yield graph.model(value)


def _rowwise() -> Iterator[onnx.ModelProto]:
    for shape in (*TOKENS, (3, 197, 197), (16, 256, 256), (16, 64, 64), (4, 16, 16)):
        yield _one(shape, "Softmax", axis=-1)
        yield _one(shape, "LayerNormalization", weights(shape[-1]), weights(shape[-1]))
        rows = (1, math.prod(shape[:-1]), shape[-1])
        yield _one(rows, "InstanceNormalization", weights(rows[1]), weights(rows[1]))
        graph = Graph(shape)
        scale, bias = weights(shape[-1]), weights(shape[-1])
        yield graph.model(graph.op("SkipLayerNormalization", "x", "x", scale, bias, domain=MS))
        for axis in (1, 2):
            yield _one(shape, "ReduceMean", np.array([axis]), keepdims=1)
    for shape in PICTURES:
        yield _one(shape, "ReduceMean", np.array([2, 3]), keepdims=1)
        yield _one(shape, "GlobalAveragePool")


def _layouts() -> Iterator[onnx.ModelProto]:
    for (shape, order), kind in itertools.product(TRANSPOSES, ("f32", "u8", "s8")):
        graph = Graph(shape, kind)
        yield graph.model(graph.op("Transpose", "x", perm=order))
    for shape, axis in (((1, 197, 576), 2), ((3, 197, 192), 0), ((1, 192, 14, 14), 1), ((3, 1, 3, 197, 64), 0)):
        graph = Graph(shape)
        yield graph.model(*graph.op("Split", "x", outputs=3, axis=axis, num_outputs=3))
        end = shape[axis] // 3
        yield _one(shape, "Slice", np.array([0]), np.array([end]), np.array([axis]))
        graph = Graph(shape)
        yield graph.model(graph.op("Concat", "x", "x", axis=axis))
        for kind in ACTIVATIONS:
            graph = Graph(shape, kind)
            yield graph.model(*graph.op("Split", "x", outputs=3, axis=axis, num_outputs=3))
            graph = Graph(shape, kind)
            arguments = (SCALE, zero(kind))
            yield graph.model(
                graph.op("QLinearConcat", *arguments, "x", *arguments, "x", *arguments, domain=MS, axis=axis)
            )
    for tokens, kept in ((197, 150), (197, 50), (50, 40)):
        yield _one((1, tokens, 192), "Gather", np.arange(kept), axis=1)
        graph = Graph((1, tokens))
        yield graph.model(graph.op("TopK", "x", np.array([kept]), outputs=2, axis=1)[0])


def _products() -> Iterator[onnx.ModelProto]:
    for m, k, n in (*LINEAR, *ROWS):
        scales, zeros, bias = np.full(n, 0.01, np.float32), np.zeros(n, np.int8), weights(n)
        yield _one((1, m, k), "MatMul", weights(k, n))
        yield _one((m, k), "Gemm", weights(k, n), bias)
        int8 = weights(k, n, kind="s8")
        yield _one((m, k), "DynamicQuantizeMatMul", int8, scales, zeros, bias, domain=MS)
        for kind in ACTIVATIONS:
            graph, result = Graph((m, k), kind), (SCALE, zero(kind))
            yield graph.model(graph.op("QLinearMatMul", "x", SCALE, zero(kind), int8, scales, zeros, *result))
            graph = Graph((m, k), kind)
            arguments = (SCALE, zero(kind), int8, scales, zeros, np.zeros(n, np.int32), *result)
            yield graph.model(graph.op("QGemm", "x", *arguments, domain=MS))
            graph = Graph((m, k), kind)
            product = graph.op("MatMulIntegerToFloat", "x", int8, SCALE, scales, zero(kind), zeros, bias, domain=MS)
            yield graph.model(product, kind="f32")
    for left, right in ATTENTION:
        graph = Graph(left)
        yield graph.model(graph.op("MatMul", "x", _other(graph, left, right)))
        for kind in ACTIVATIONS:
            graph, arguments = Graph(left, kind), (SCALE, zero(kind))
            other = _other(graph, left, right)
            yield graph.model(graph.op("QLinearMatMul", "x", *arguments, other, *arguments, *arguments))
            graph = Graph(left, kind)
            other, points = _other(graph, left, right), (zero(kind), zero(kind))
            yield graph.model(
                graph.op("MatMulIntegerToFloat", "x", other, SCALE, SCALE, *points, domain=MS), kind="f32"
            )


def _other(graph: Graph, left: tuple[int, ...], right: tuple[int, ...]) -> str:
    """A second activation, made of the first as cheaply as possible."""
    if np.prod(left) == np.prod(right):
        name: str = graph.op("Reshape", "x", np.array(right))
        return name
    ends = np.array(right[-1:])
    sliced: str = graph.op("Slice", "x", np.array([0]), ends, np.array([2]))
    return sliced


def _convs() -> Iterator[onnx.ModelProto]:
    for channels, filters, side, kernel, groups, stride in CONVS:
        shape = (filters, channels // groups, kernel, kernel)
        pads = [0 if stride == kernel else kernel // 2] * 4
        attributes = {"pads": pads, "group": groups, "strides": [stride, stride]}
        size = (1, channels, side, side)
        yield _one(size, "Conv", weights(*shape), weights(filters), **attributes)
        for kind in ACTIVATIONS:
            graph, arguments = Graph(size, kind), (SCALE, zero(kind))
            scales, zeros = np.full(filters, 0.01, np.float32), np.zeros(filters, np.int8)
            constants = (weights(*shape, kind="s8"), scales, zeros, *arguments, np.zeros(filters, np.int32))
            yield graph.model(graph.op("QLinearConv", "x", *arguments, *constants, **attributes))


def _quantizing() -> Iterator[onnx.ModelProto]:
    for shape, kind in itertools.product((*TOKENS, *PICTURES), ACTIVATIONS):
        graph = Graph(shape)
        yield graph.model(graph.quantize("x", kind), kind=kind)
        graph = Graph(shape, kind)
        yield graph.model(graph.op("DequantizeLinear", "x", SCALE, zero(kind)), kind="f32")
    for shape in TOKENS:
        graph = Graph(shape)
        yield graph.model(graph.op("DynamicQuantizeLinear", "x", outputs=3)[0], kind="u8")


def _rest() -> Iterator[onnx.ModelProto]:
    for shape in PICTURES:
        yield _one(shape, "BatchNormalization", *(np.abs(weights(shape[1])) for _ in range(4)))
        for kind in ("MaxPool", "AveragePool"):
            yield _one(shape, kind, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def _one(shape: tuple[int, ...], kind: str, *constants: Any, **attributes: Any) -> onnx.ModelProto:
    graph = Graph(shape)
    return graph.model(graph.op(kind, "x", *constants, **attributes))
