"""Remarks on an INT8 .tflite file: what computes in float between its INT8 operators, and whether Softmax is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgevit.quantize.calibrators import Distribution
from edgevit.quantize.tflite import INT8, INT16, Operator, Scale

NAMED = 5
TO_INT8, TO_FLOAT = "QUANTIZE", "DEQUANTIZE"
MOVING = ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "CONCATENATION", "SPLIT", "PAD", "SQUEEZE", "EXPAND_DIMS")
SAME_VALUES = ("RESHAPE", "TRANSPOSE", TO_FLOAT)
# Whatever a file says, these kernels write by this scale and zero point.
# Source: SoftmaxPrepare and SigmoidPrepare in LiteRT's kernels/activations.cc.
FIXED = {INT8: (1 / 256, -128), INT16: (1 / 32768, 0)}


def remarks_on(
    operators: Sequence[Operator],
    scales: Mapping[int, Scale],
    distributions: Mapping[str, Distribution],
    names: Mapping[str, str],
) -> tuple[str, ...]:
    """Sentences on a quantized file's operators; none where there is nothing to tell.

    scales: by the tensor's number. distributions: by name, what the tensors of the fp32 file held on the calibration
    pictures. names: by what a node is called in the file, its name in the ONNX graph.
    """
    found = []
    islands = [names.get(node, node) for node in _islands(operators)]
    if islands:
        found.append(f"In float between INT8 operators: {_some(islands)}.")
    for operator in operators:
        scale = scales.get(operator.outputs[0]) if operator.kind in ("SOFTMAX", "LOGISTIC") else None
        if scale and not _is_fixed(scale):
            layer, (step, zero_point) = names.get(operator.node, operator.node), FIXED[scale.kind]
            found.append(
                f"{layer}: its output has the scale {scale.scale:.6g} and the zero point {scale.zero_point}, and "
                f"LiteRT's kernel writes by {step:.6g} and {zero_point}."
            )
    clipped = _clipped(operators, scales, distributions)
    if clipped:
        _, high, top, node = max(clipped)
        readers = f"{len(clipped)} Softmax read" if len(clipped) > 1 else "a Softmax reads"
        found.append(
            f"INT8 cuts off the scores that {readers}, most of all at {names.get(node, node)}: {high:.3g} on the "
            f"calibration pictures, {top:.3g} at most in INT8."
        )
    return tuple(found)


def _islands(operators: Sequence[Operator]) -> list[str]:
    """The first node of each group of float operators that reads nothing but what was INT8 and becomes INT8 again."""
    makers = {output: operator for operator in operators for output in operator.outputs}
    floats = [operator for operator in operators if not operator.is_int8 and operator.kind not in (TO_INT8, TO_FLOAT)]
    group = {operator.scope: operator.scope for operator in floats}

    def of(scope: str) -> str:
        while group[scope] != scope:
            scope = group[scope]
        return scope

    border = {tensor for operator in operators if operator.kind == TO_INT8 for tensor in operator.inputs}
    inside = {tensor for operator in floats for tensor in operator.inputs}
    elsewhere = {tensor for each in operators if each.is_int8 and each.kind != TO_FLOAT for tensor in each.inputs}
    opened: list[str] = []
    for operator in floats:
        outputs = set(operator.outputs)
        if not outputs <= border | inside or outputs & elsewhere:  # it makes the logits, or what INT8 is made of anew
            opened.append(operator.scope)
        for tensor in operator.inputs:
            maker = makers.get(tensor)
            if maker is not None and maker.scope in group:
                group[of(operator.scope)] = of(maker.scope)
            elif maker is None or maker.kind != TO_FLOAT:  # the picture, or what a dynamic operator has made
                opened.append(operator.scope)
    is_open = {of(scope) for scope in opened}
    members: dict[str, list[Operator]] = {}
    for operator in floats:
        members.setdefault(of(operator.scope), []).append(operator)
    closed = [each for scope, each in members.items() if scope not in is_open]
    return [next((one for one in each if one.kind not in MOVING), each[0]).node for each in closed]


def _clipped(
    operators: Sequence[Operator], scales: Mapping[int, Scale], distributions: Mapping[str, Distribution]
) -> list[tuple[float, float, float, str]]:
    """(part of the largest score that is cut off, that score, what INT8 can hold, node) of each Softmax."""
    makers = {output: operator for operator in operators for output in operator.outputs}
    found = []
    for operator in operators:
        if operator.kind != "SOFTMAX":
            continue
        tensor = operator.inputs[0]
        while tensor not in scales and tensor in makers and makers[tensor].kind in SAME_VALUES:
            tensor = makers[tensor].inputs[0]
        scale = scales.get(tensor)
        seen = distributions.get(scale.tensor) if scale else None
        if scale and seen and seen.high > scale.top + scale.scale:  # a step: the zero point is rounded
            found.append((1 - scale.top / seen.high, seen.high, scale.top, operator.node))
    return found


def _is_fixed(scale: Scale) -> bool:
    expected, zero_point = FIXED[scale.kind]
    return abs(scale.scale / expected - 1) < 1e-5 and scale.zero_point == zero_point


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
