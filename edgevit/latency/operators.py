"""Operators: what each node of a graph has to do, in the quantities that a roofline is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal[
    "dense",
    "dense 3x3",
    "pointwise",
    "depthwise",
    "grouped",
    "linear",
    "attention",
    "elementwise",
    "nonlinear",
    "layout",
]
Precision = Literal["fp32", "fp16", "int8"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# They multiply; the others handle elements.
PRODUCTS: frozenset[Kind] = frozenset(
    {"dense", "dense 3x3", "pointwise", "depthwise", "grouped", "linear", "attention"}
)
WEIGHTED = PRODUCTS - {"attention"}
# Linear layers are what dynamic INT8 quantizes; attention and what is not linear stay in float in static INT8, too.
INT8_KINDS: dict[str, frozenset[Kind]] = {
    "int8-static": WEIGHTED | {"elementwise", "layout"},
    "int8-dynamic": frozenset({"linear"}),
}


@dataclass(frozen=True)
class Operator:
    """One node, or `count` nodes alike. Per node: `macs`, multiply-accumulates; `weights`, `activations`: elements.

    activations: those read and written. An operator that multiplies nothing has no macs.
    """

    kind: Kind
    precision: Precision
    macs: int
    weights: int
    activations: int
    count: int = 1


def merged(operators: Iterable[Operator]) -> tuple[Operator, ...]:
    """Operators alike as one with their count, in the order in which they first come."""
    counts: Counter[Operator] = Counter()
    for operator in operators:
        counts[replace(operator, count=1)] += operator.count
    return tuple(replace(operator, count=count) for operator, count in counts.items())


def at_precision(operators: Iterable[Operator], precision: str) -> tuple[Operator, ...]:
    """A float graph's operators as they compute in `precision`: fp32, fp16, int8-static or int8-dynamic.

    int8-static: all convolutions and linear layers, and what lies between them is bytes. int8-dynamic: linear layers
    only. What enters or leaves INT8 is converted, which is an operator of its own.
    """
    kinds = INT8_KINDS.get(precision)
    if kinds is None:
        float_type: Precision = "fp16" if precision == "fp16" else "fp32"
        return tuple(replace(operator, precision=float_type) for operator in operators)
    found: list[Operator] = []
    for item in operators:
        is_int8 = item.kind in kinds
        found.append(replace(item, precision="int8") if is_int8 else item)
        if is_int8 == (precision == "int8-dynamic"):
            found.append(Operator("layout", "int8", 0, 0, item.activations, item.count))
    return tuple(found)
