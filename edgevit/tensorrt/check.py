"""Check: whether a graph is one that given TensorRT versions take, and quantized as they want it.

What only a build on the board shows (memory, tactics, speed) is not proved here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from edgevit.quantize.wiring import Wiring
from edgevit.tensorrt.placement import check_placement
from edgevit.tensorrt.rules import RULES, RuleError, Violation
from edgevit.tensorrt.scales import check_scales
from edgevit.tensorrt.support import Support

INTEGER_OPERATORS = frozenset({"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"})
FLOAT16_MAX = 65504.0


def require_sound(model: onnx.ModelProto, versions: Sequence[Support], has_float16: bool) -> None:
    """Raises RuleError for a graph that breaks a rule."""
    violations = check_graph(model, versions, has_float16)
    if violations:
        raise RuleError(violations)


def check_graph(
    model: onnx.ModelProto, versions: Sequence[Support], has_float16: bool = False
) -> tuple[Violation, ...]:
    """Every broken rule; none for a graph that all `versions` take.

    has_float16: what is not INT8 will compute in float16.
    """
    wiring = Wiring(model.graph)
    found = [*_check_operators(model, versions), *_check_shapes(model), *check_scales(model, wiring)]
    found += check_placement(model, wiring)
    if has_float16:
        found += _check_half_range(model)
    return tuple(found)


def _check_operators(model: onnx.ModelProto, versions: Sequence[Support]) -> Iterator[Violation]:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    for support in versions:
        if opset > support.opset:
            detail = f"opset {opset} is newer than {support.opset}, TensorRT {support.version}'s"
            yield Violation(RULES["opset"], "", f"{detail} ({support.source})")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield Violation(RULES["domain"], node.name, f"is {node.domain}.{node.op_type}")
        elif node.op_type in INTEGER_OPERATORS or node.op_type.startswith("QLinear"):
            yield Violation(RULES["integer-operator"], node.name, f"is a {node.op_type}")
        else:
            lacking = [support for support in versions if node.op_type not in support.operators]
            if lacking:
                names = " and ".join(support.version for support in lacking)
                detail = f"is a {node.op_type}, which TensorRT {names} lacks ({lacking[0].source})"
                yield Violation(RULES["operator"], node.name, detail)


def _check_shapes(model: onnx.ModelProto) -> Iterator[Violation]:
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if value.name not in constants and (not sizes or not all(sizes)):
            shown = ", ".join(str(size) if size else "?" for size in sizes)
            yield Violation(RULES["static-shape"], "", f"input '{value.name}' is ({shown})")


def _check_half_range(model: onnx.ModelProto) -> Iterator[Violation]:
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        array = onnx.numpy_helper.to_array(tensor)
        largest = float(np.abs(array).max(initial=0.0))
        if not largest <= FLOAT16_MAX:
            yield Violation(RULES["half-range"], "", f"constant '{tensor.name}' holds {largest:.3g}")
