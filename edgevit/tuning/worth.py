"""Worth: what INT8 costs the logits and what it gains on the target, layer by layer."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgevit.build import Builder
from edgevit.cost.armgraph import graph_on_arm
from edgevit.cost.cores import CoreCosts
from edgevit.cost.estimate import node_costs
from edgevit.policy import Policy
from edgevit.profiling.layers import modules_of_nodes
from edgevit.profiling.nodes import profile_nodes
from edgevit.progress import Progress
from edgevit.quantize.sensitivity import layer_sqnr_db, noise_power
from edgevit.workshop import Artifact

PICTURES = 4

# Of an artifact: the graph that its runtime executes, and what each of that graph's nodes costs, by name.
NodeCosts = Callable[[Artifact], tuple[onnx.ModelProto, Mapping[str, float]]]


@dataclass(frozen=True)
class LayerWorth:
    """One torch module with weights. `nodes`: the names of its operators in the graph. sqnr_db: of the logits, with
    this layer alone in INT8. `gain`: what INT8 saves there, in ms or million instructions; below 0 where it costs.
    """

    module: str
    nodes: tuple[str, ...]
    sqnr_db: float
    gain: float

    @property
    def precedence(self) -> tuple[float, float]:
        """Smallest first: layers that INT8 makes slower, then those with the most noise for what they gain."""
        return (0.0, self.gain) if self.gain <= 0 else (1.0, -noise_power(self.sqnr_db) / self.gain)


def float_first(worths: Sequence[LayerWorth]) -> tuple[str, ...]:
    """The nodes of all layers in the order in which they are better left in float."""
    return tuple(node for worth in sorted(worths, key=lambda each: each.precedence) for node in worth.nodes)


def layer_worths(
    builder: Builder, policy: Policy, int8: Artifact, costs: NodeCosts, progress: Progress
) -> tuple[LayerWorth, ...]:
    """Of every layer that the static `policy` computes in INT8, in the graph's order. int8: its artifact.

    Raises EdgevitError when ONNX Runtime or the quantizer fails.
    """
    form = builder.form(policy)
    offered = builder.nodes(policy)
    nodes = (*offered.linear, *offered.conv)
    modules = modules_of_nodes(form.graph, form.graph)
    layers: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        layers[modules.get(node) or node].append(node)
    progress.stage("Measuring what each layer gains by INT8")
    before, after = _by_module(form.graph, form.artifact, costs), _by_module(onnx.load(int8.path), int8, costs)
    progress.stage("Measuring what INT8 costs each layer")
    sqnr_db = layer_sqnr_db(
        form.graph,
        lambda names: builder.quantized(policy.model_copy(update={"float_nodes": _without(nodes, names)})),
        tuple(layers.values()),
        list(itertools.islice(builder.calibration(policy).batches(), PICTURES)),
        lambda done: progress.update(done, len(layers)),
    )
    return tuple(
        LayerWorth(module, tuple(names), sqnr_db[index], before[module] - after[module])
        for index, (module, names) in enumerate(layers.items())
    )


def measured_costs(threads: int) -> NodeCosts:
    """ms on this machine, by ONNX Runtime's profiler."""
    return lambda artifact: profile_nodes(
        artifact.path, artifact.policy.threads or threads, artifact.session, artifact.input_shape
    )


def estimated_costs(core: CoreCosts) -> NodeCosts:
    """Million instructions on a core that is not here."""

    def of(artifact: Artifact) -> tuple[onnx.ModelProto, Mapping[str, float]]:
        executed = graph_on_arm(onnx.load(artifact.path))
        return executed, node_costs(executed, core)

    return of


def _by_module(graph: onnx.ModelProto, artifact: Artifact, costs: NodeCosts) -> Counter[str]:
    executed, by_node = costs(artifact)
    modules = modules_of_nodes(graph, executed)
    found: Counter[str] = Counter()
    for node, cost in by_node.items():
        found[modules.get(node) or node] += cost  # type: ignore[assignment]
    return found


def _without(nodes: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(node for node in nodes if node not in names)
