"""Work: what a node has to do, in the quantities that its instructions grow with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

Shape = tuple[int, ...]

TYPES = {
    onnx.TensorProto.FLOAT: "f32",
    onnx.TensorProto.FLOAT16: "f16",
    onnx.TensorProto.UINT8: "u8",
    onnx.TensorProto.INT8: "s8",
}
CONV = {"Conv": 1, "FusedConv": 1, "QLinearConv": 3}  # operator: index of the weights among its inputs
PRODUCT = {
    "MatMul": 1,
    "FusedMatMul": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulIntegerToFloat": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
SAME_KERNEL = {"FusedMatMul": "MatMul", "Gemm": "MatMul", "FusedGemm": "MatMul", "FusedConv": "Conv"}
VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
CUTS = frozenset({"Concat", "QLinearConcat", "Slice", "Split"})
BY_ROW = frozenset({"LayerNormalization", "QLinearSoftmax", "SkipLayerNormalization", "Softmax"})
NAMED_BY_RESULT = frozenset({"DynamicQuantizeLinear", "QLinearConcat", "QuantizeLinear"})  # others by their first input
BINARY = frozenset({"Add", "Div", "Mul", "Sub"})
SHORT_RUN = 16  # elements
F32_BLOCK, INT8_BLOCK = 16, 8  # columns that MLAS's kernels compute at a time; a remainder costs a whole block


@dataclass(frozen=True)
class Work:
    """`kernel`: operator, element types and form, such as 'QLinearConv u8s8 depthwise'. Counts are per call.

    macs: multiply-accumulates, whole blocks of columns. inputs, outputs: elements of activations. pieces: what the
    kernel handles one at a time: rows of a product, softmax or norm; runs of contiguous elements that a layout operator
    copies; what a convolution gathers before it multiplies (elements in float, runs in INT8).
    """

    kernel: str
    macs: int = 0
    inputs: int = 0
    outputs: int = 0
    pieces: int = 0


class Tensors:
    """Shapes, types and constness of a graph's tensors. `model` carries them in value_info (see armgraph)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self._shapes: dict[str, Shape] = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        self._types: dict[str, int] = {name: tensor.data_type for name, tensor in self.constants.items()}
        for info in (*graph.input, *graph.value_info, *graph.output):
            tensor = info.type.tensor_type
            self._shapes.setdefault(info.name, tuple(max(1, size.dim_value) for size in tensor.shape.dim))
            self._types.setdefault(info.name, tensor.elem_type)

    def shape(self, name: str) -> Shape:
        return self._shapes.get(name, ())

    def type(self, name: str) -> str:
        return TYPES.get(self._types.get(name, 0), "other")

    def elements(self, names: list[str]) -> int:
        """Elements of the activations among `names`."""
        return sum(math.prod(self.shape(name)) for name in names if name and name not in self.constants)


def work_of(node: onnx.NodeProto, tensors: Tensors) -> Work:
    """The node's kernel and its work."""
    if node.op_type in VIEWS:
        return Work("view")
    if node.op_type in CONV:
        return _conv(node, tensors)
    if node.op_type in PRODUCT:
        return _product(node, tensors)
    form, pieces = _form(node, tensors)
    name = SAME_KERNEL.get(node.op_type, node.op_type)
    of = node.output[0] if node.op_type in NAMED_BY_RESULT else node.input[0]
    return Work(
        kernel=" ".join(filter(None, (name, tensors.type(of), form))),
        inputs=tensors.elements(list(node.input)),
        outputs=tensors.elements(list(node.output)),
        pieces=pieces,
    )


def _product(node: onnx.NodeProto, tensors: Tensors) -> Work:
    left, right = node.input[0], node.input[PRODUCT[node.op_type]]
    out = tensors.shape(node.output[0])
    columns = out[-1]
    rows = math.prod(out) // max(1, columns)
    depth = math.prod(tensors.shape(left)) // max(1, rows)
    types = tensors.type(left) if tensors.type(right) == "f32" else tensors.type(left) + tensors.type(right)
    form = ("activations" if right not in tensors.constants else "") or ("row" if rows == 1 else "")
    return Work(
        kernel=" ".join(filter(None, (SAME_KERNEL.get(node.op_type, node.op_type), types, form))),
        macs=rows * depth * _whole_blocks(columns, F32_BLOCK if types == "f32" else INT8_BLOCK),
        inputs=tensors.elements([left, right]),
        outputs=math.prod(out),
        pieces=rows,
    )


def _conv(node: onnx.NodeProto, tensors: Tensors) -> Work:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    index = CONV[node.op_type]
    is_float = index == 1
    weights = tensors.shape(node.input[index])  # (O, C / groups, kernel...)
    groups, channels, taps = attributes.get("group", 1), weights[1], math.prod(weights[2:])
    out = math.prod(tensors.shape(node.output[0]))
    positions = out // weights[0]
    strided = max(attributes.get("strides", [1])) > 1
    form = _conv_form(groups, weights, strided, is_float)
    # Float rolls pictures out into columns, element by element or, without a stride, row by row; INT8 gathers the
    # channels of each tap, of all groups at once where it has a kernel for that.
    gathered = positions * taps
    if is_float:
        gathered = (gathered if strided else gathered // tensors.shape(node.output[0])[-1]) * channels * groups
    elif form == "grouped":
        gathered *= groups
    types = tensors.type(node.input[0]) + ("" if is_float else tensors.type(node.input[index]))
    return Work(
        kernel=f"{SAME_KERNEL.get(node.op_type, node.op_type)} {types} {form}",
        macs=out * channels * taps,
        inputs=tensors.elements([node.input[0]]),
        outputs=out,
        pieces=0 if form == "pointwise" else gathered,
    )


def _conv_form(groups: int, weights: Shape, strided: bool, is_float: bool) -> str:
    filters, channels, *kernel = weights
    stride = " strided" if strided and is_float else ""
    if groups == 1:
        return "pointwise" if math.prod(kernel) == 1 and not strided else "dense" + stride
    if channels > 1 or filters > groups:
        return "grouped" + stride
    if is_float and kernel == [3, 3] and not strided:
        return "depthwise 3x3"  # the only one with a kernel of its own
    return "depthwise" + stride


def _form(node: onnx.NodeProto, tensors: Tensors) -> tuple[str, int]:
    """(form, pieces) of an operator that multiplies no matrices."""
    source, out = tensors.shape(node.input[0]), tensors.shape(node.output[0])
    if node.op_type == "Transpose":
        order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), tuple(range(len(source)))[::-1])
        return transpose_form(source, order)
    if node.op_type in BY_ROW and out:
        return "", math.prod(out) // max(1, out[-1])
    if node.op_type == "InstanceNormalization":
        return "", math.prod(out[:2])
    if node.op_type in CUTS:
        whole = out if "Concat" in node.op_type else source
        parts = list(node.input) if "Concat" in node.op_type else list(node.output)
        return "", sum(_runs(whole, tensors.shape(name)) for name in parts if len(tensors.shape(name)) == len(whole))
    if node.op_type == "ReduceMean":
        return _reduced(source, out), 0
    if node.op_type in BINARY:
        return _broadcast(source, tensors.shape(node.input[1]), out)
    return "", 0


def transpose_form(shape: Shape, order: Shape) -> tuple[str, int]:
    """Which of ONNX Runtime's ways moves the elements, and how many contiguous runs are copied.

    copy: the order in memory stays. blocks, short blocks: the last axes stay, so whole runs of them are copied. swap:
    one group of axes moves. general: element by element, some 40 times slower than a swap.
    """
    groups: list[list[int]] = []  # axes that stay neighbours
    for axis in (axis for axis in order if shape[axis] > 1):
        last = groups[-1][-1] if groups else axis
        if groups and axis > last and math.prod(shape[last + 1 : axis]) == 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) <= 1:
        return "copy", 1
    elements = math.prod(shape)
    if groups[-1] == max(groups):
        run = math.prod(shape[axis] for axis in groups[-1])
        return ("blocks" if run >= SHORT_RUN else "short blocks"), elements // run
    places = [sorted(groups).index(group) for group in groups]
    return ("swap" if _is_one_move(places) else "general"), 0


def _is_one_move(places: list[int]) -> bool:
    """Whether the others are in order when one item is left out."""
    return any(sorted(rest) == rest for rest in ([p for p in places if p != item] for item in places))


def _reduced(source: Shape, out: Shape) -> str:
    if len(out) != len(source) or out[-1] < source[-1]:
        return "last axis"
    first = next((axis for axis in range(len(out)) if out[axis] < source[axis]), 0)
    return "first axis" if math.prod(source[:first]) == 1 else "inner axes"


def _broadcast(left: Shape, right: Shape, out: Shape) -> tuple[str, int]:
    """(form, runs of elements that meet one vector or one number). A single number meets all in one run."""
    small = min(left, right, key=math.prod)
    if math.prod(small) in (1, math.prod(out)):
        return "", 0
    aligned = (1,) * (len(out) - len(small)) + small
    is_repeated = aligned[-1] == 1
    run = 1
    for size, full in zip(reversed(aligned), reversed(out), strict=True):
        if (size == 1 and full > 1) != is_repeated:
            break
        run *= full
    return "broadcast", math.prod(out) // run


def _runs(whole: Shape, part: Shape) -> int:
    """Contiguous runs of `part` inside `whole`, which differ along some axis."""
    cut = max((axis for axis in range(len(whole)) if whole[axis] != part[axis]), default=0)
    return math.prod(part[:cut])


def _whole_blocks(columns: int, block: int) -> int:
    return -(-columns // block) * block
