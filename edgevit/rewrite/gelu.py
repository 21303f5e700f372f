"""GELU as one operator: exact, or by one of three approximations.

    GELU(x) = x · Φ(x) = x · (1 + erf(x / √2)) / 2

Exporters below opset 20 write it as five operators (Div, Erf, Add, Mul, Mul), each a pass over the MLP's widest tensor.

    function                      operator                       largest |error| over all x
    fuse_gelu                     Gelu                           rounding
    approximate_gelu_by_tanh      com.microsoft FastGelu         TANH_ERROR
    approximate_gelu_by_sigmoid   com.microsoft QuickGelu        SIGMOID_ERROR
    approximate_gelu_piecewise    HardSigmoid, Mul               PIECEWISE_ERROR

All four find the erf chain; the approximations also replace a Gelu operator, ai.onnx's or ONNX Runtime's.
Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv 1606.08415, for both smooth approximations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx
import onnx_ir as ir

from edgevit.rewrite.graph import (
    MICROSOFT,
    insert,
    made_by,
    only_reader,
    opset,
    replace,
    rewritten,
    scalar,
    with_constant,
)

GELU_OPSET = 20  # ai.onnx has Gelu from here on
SIGMOID_ALPHA = 1.702
# x · clip(αx + ½, 0, 1): the α whose largest error is least. HardSwish's own 1/6 is off by 0.295.
PIECEWISE_ALPHA = 0.277805

TANH_ERROR = 4.74e-4
SIGMOID_ERROR = 2.04e-2
PIECEWISE_ERROR = 6.47e-2


def fuse_gelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each erf chain as one Gelu: ai.onnx's from opset 20 on, else ONNX Runtime's."""
    return rewritten(model, lambda graph: _replace_each(graph, _erf_chains(graph), _exact))


def approximate_gelu_by_tanh(model: onnx.ModelProto) -> onnx.ModelProto:
    """GELU(x) ≈ x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    return rewritten(model, lambda graph: _replace_each(graph, _gelus(graph), _by_tanh))


def approximate_gelu_by_sigmoid(model: onnx.ModelProto) -> onnx.ModelProto:
    """GELU(x) ≈ x · sigmoid(1.702 x)."""
    return rewritten(model, lambda graph: _replace_each(graph, _gelus(graph), _by_sigmoid))


def approximate_gelu_piecewise(model: onnx.ModelProto) -> onnx.ModelProto:
    """GELU(x) ≈ x · clip(0.2778 x + ½, 0, 1): no exponential, and operators that every runtime has.

    Far coarser than the others: meant for a model that is trained on with it, or whose INT8 steps are as coarse.
    """
    return rewritten(model, lambda graph: _replace_each(graph, _gelus(graph), _piecewise))


def _replace_each(
    graph: ir.Graph,
    found: Iterator[tuple[ir.Value, ir.Value]],
    write: Callable[[ir.Graph, ir.Value, ir.Value], object],
) -> bool:
    """Each is replaced before the next is looked for, whose x may be the last one's output."""
    is_changed = False
    for x, y in found:
        write(graph, x, y)
        is_changed = True
    return is_changed


def _exact(graph: ir.Graph, x: ir.Value, y: ir.Value) -> None:
    if opset(graph) >= GELU_OPSET:
        replace(graph, y, "Gelu", [x], {"approximate": "none"})
    else:
        replace(graph, y, "Gelu", [x], domain=MICROSOFT)


def _by_tanh(graph: ir.Graph, x: ir.Value, y: ir.Value) -> None:
    replace(graph, y, "FastGelu", [x], domain=MICROSOFT)


def _by_sigmoid(graph: ir.Graph, x: ir.Value, y: ir.Value) -> None:
    replace(graph, y, "QuickGelu", [x], {"alpha": SIGMOID_ALPHA}, domain=MICROSOFT)


def _piecewise(graph: ir.Graph, x: ir.Value, y: ir.Value) -> None:
    last = y.producer()
    assert last is not None
    attributes = {"alpha": PIECEWISE_ALPHA, "beta": 0.5}
    gate = insert(graph, last, "HardSigmoid", [x], attributes, name=f"{y.name}_gate", shape=x.shape)
    replace(graph, y, "Mul", [x, gate])


def _gelus(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.Value]]:
    """(x, GELU(x)) of each erf chain and of each exact Gelu operator."""
    yield from _erf_chains(graph)
    for node in list(graph):
        is_exact = node.attributes.get_string("approximate", "none") == "none"
        if node.op_type == "Gelu" and is_exact and node.inputs[0] is not None:
            yield node.inputs[0], node.outputs[0]


def _erf_chains(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.Value]]:
    """(x, GELU(x)) of each x · ½ · (1 + erf(x/√2)), in whatever order its three factors are multiplied."""
    for node in list(graph):
        if node.op_type != "Erf":
            continue
        x = _numerator(node.inputs[0])
        add = only_reader(node.outputs[0])
        if x is None or add is None or add.op_type != "Add" or not _has_number(add, 1.0):
            continue
        y = _times_half_of(x, add.outputs[0])
        if y is not None:
            yield x, y


def _numerator(value: ir.Value | None) -> ir.Value | None:
    """x of x / √2, or of x · (1/√2)."""
    division = made_by(value, "Div")
    if division is not None and _is_near(scalar(division.inputs[1]), math.sqrt(2.0)):
        return division.inputs[0]
    product = made_by(value, "Mul")
    if product is None or not _has_number(product, math.sqrt(0.5)):
        return None
    operands = with_constant(product)
    return operands[0] if operands else None


def _times_half_of(x: ir.Value, factor: ir.Value) -> ir.Value | None:
    """The product of `factor`, x and ½, when these are all that it is multiplied by on the way."""
    missing = {"x", "half"}
    while missing:
        node = only_reader(factor)
        if node is None or node.op_type != "Mul":
            return None
        other = node.inputs[1] if node.inputs[0] is factor else node.inputs[0]
        found = _parts(x, other)
        if not found or not found <= missing:
            return None
        missing -= found
        factor = node.outputs[0]
    return factor


def _parts(x: ir.Value, factor: ir.Value | None) -> set[str]:
    """Which of x and ½ the factor is; both, when it is their product."""
    if factor is x:
        return {"x"}
    if _is_near(scalar(factor), 0.5):
        return {"half"}
    product = made_by(factor, "Mul")
    operands = with_constant(product) if product is not None and _has_number(product, 0.5) else None
    return {"x", "half"} if operands is not None and operands[0] is x else set()


def _has_number(node: ir.Node, number: float) -> bool:
    return any(_is_near(scalar(value), number) for value in node.inputs)


def _is_near(value: float | None, number: float) -> bool:
    return value is not None and math.isclose(value, number, rel_tol=1e-6)
