"""Instructions per inference on a core, from the graph alone: what ranks graphs for a board that is not at hand.

It is no latency: it knows nothing of caches, bandwidth or how many instructions a core retires per cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgevit.cost.armgraph import graph_on_arm
from edgevit.cost.cores import CoreCosts
from edgevit.cost.work import Tensors, Work, work_of
from edgevit.results import CostEstimate

MILLION = 1e6


@dataclass(frozen=True)
class CostBreakdown:
    """Million instructions per inference, one thread. `by_operator`: most expensive first.

    not_calibrated: how many nodes have a kernel that the core's table lacks, by kernel; they are counted by their
    elements, at the core's rate for unknown ones.
    """

    total: float
    by_operator: dict[str, float]
    not_calibrated: dict[str, int]


def cost_of(path: Path, core: CoreCosts) -> CostEstimate:
    """The cost of the ONNX file at `path`, as exported or quantized. Raises EdgevitError where ORT cannot run it."""
    found = estimate(graph_on_arm(onnx.load(path)), core)
    return CostEstimate(
        core=core.name,
        million_instructions=found.total,
        relative_error=core.relative_error,
        not_calibrated=found.not_calibrated,
    )


def estimate(model: onnx.ModelProto, core: CoreCosts) -> CostBreakdown:
    """The cost of a graph as ONNX Runtime runs it, with shapes in value_info (see graph_on_arm)."""
    instructions: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for node, work in _works(model):
        if work.kernel not in core.kernels:
            unknown[work.kernel] += 1
        instructions[node.op_type] += core.instructions(work)  # type: ignore[assignment]
    return CostBreakdown(
        total=(sum(instructions.values()) + core.per_inference) / MILLION,
        by_operator={name: count / MILLION for name, count in instructions.most_common()},
        not_calibrated=dict(unknown.most_common()),
    )


def node_costs(model: onnx.ModelProto, core: CoreCosts) -> dict[str, float]:
    """Million instructions of each node of such a graph, by its name."""
    return {node.name: core.instructions(work) / MILLION for node, work in _works(model)}


def _works(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Work]]:
    tensors = Tensors(model)
    return ((node, work_of(node, tensors)) for node in model.graph.node)
