"""Layers: which torch module each node of the executed graph computes.

The runtime executes another graph than the bundle has: it fuses nodes, gives them new names, and inserts some of its
own. What a fused node produces keeps its tensor's name in nearly all fusions, and its own name begins with that of a
node that it came from in most others (looked up in what ONNX Runtime 1.31 writes to optimized_model_filepath).
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx

from edgevit.export.onnx import MODULES_KEY
from edgevit.profiling.document import ModuleRow, NodeTime
from edgevit.profiling.operators import percent_of, total

PARAMETER = re.compile(r"(?P<module>.+)\.(weight|bias|gamma)(_quantized|_bias|_bias_quantized)?")
MODEL, UNKNOWN = "(the model itself)", "(not known)"


def modules_of_nodes(bundled: onnx.ModelProto, executed: onnx.ModelProto) -> dict[str, str]:
    """Torch module by name of the node in `executed`; '' is the model itself. A node that nothing tells of is left out.

    bundled: as exported, with the modules in its nodes' metadata. executed: what the runtime made of it.
    """
    own = {index: module for index, node in enumerate(bundled.graph.node) if (module := _told(node)) is not None}
    own = {**_told_by_parameters(bundled), **own}
    modules = _spread(bundled, own)
    by_tensor = {name: modules[i] for i, node in enumerate(bundled.graph.node) if i in modules for name in node.output}
    by_name = {node.name: modules[i] for i, node in enumerate(bundled.graph.node) if i in modules and node.name}
    found = {}
    for index, node in enumerate(executed.graph.node):
        tensor = next((name for name in node.output if name in by_tensor), None)
        module = by_tensor[tensor] if tensor is not None else _by_prefix(node.name, by_name)
        if module is not None:
            found[index] = module
    complete = _spread(executed, found)
    return {node.name: complete[index] for index, node in enumerate(executed.graph.node) if index in complete}


def layer_of(module: str) -> str:
    """The part of a module's path that is worth a line: 'blocks.3.attn' of 'blocks.3.attn.qkv'.

    It ends with the name behind the second number, as in 'stages.2.1.transformer.0.attn', or behind the only one. Of a
    path without a number the first name is left, and one that ends with its number stays whole.
    """
    steps = module.split(".")
    ends = [i for i in range(1, len(steps)) if steps[i - 1].isdigit() and not steps[i].isdigit()]
    if ends:
        return ".".join(steps[: ends[:2][-1] + 1])
    return module if any(step.isdigit() for step in steps) else steps[0]


def kind_of(module: str) -> str:
    """The layers that a layer is one of: 'blocks.*.attn' of 'blocks.3.attn.qkv'."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", layer_of(module))


def module_rows(nodes: Sequence[NodeTime], row_of: Callable[[str], str] = layer_of) -> tuple[ModuleRow, ...]:
    """One row for each name that row_of gives a module, in the order in which the model runs."""
    rows: dict[str, list[NodeTime]] = defaultdict(list)
    for node in nodes:
        rows[UNKNOWN if node.module is None else row_of(node.module) or MODEL].append(node)
    total_ms = total(nodes)
    return tuple(
        ModuleRow(
            module=module,
            nodes=len(row),
            ms=total(row),
            share=percent_of(total(row), total_ms),
            macs=sum(node.macs or 0 for node in row),
        )
        for module, row in rows.items()
    )


def _told(node: onnx.NodeProto) -> str | None:
    """The innermost module of "['', 'blocks', 'blocks.0', 'blocks.0.attn', 'softmax']"; the last is the operation."""
    text = next((entry.value for entry in node.metadata_props if entry.key == MODULES_KEY), "")
    try:
        scopes = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else None


def _told_by_parameters(model: onnx.ModelProto) -> dict[int, str]:
    """By a parameter that one node alone reads: the simplifier merges equal ones, and those name no layer."""
    uses = Counter(name for node in model.graph.node for name in node.input)
    parameters = {tensor.name for tensor in model.graph.initializer if uses[tensor.name] == 1}
    found = {}
    for index, node in enumerate(model.graph.node):
        matches = (PARAMETER.fullmatch(name) for name in node.input if name in parameters)
        module = next((match["module"] for match in matches if match), None)
        if module is not None:
            found[index] = module
    return found


def _by_prefix(name: str, modules: Mapping[str, str]) -> str | None:
    """By the longest known name that this one begins with: 'node_conv2d' of 'node_conv2d_token_118'."""
    while name:
        if name in modules:
            return modules[name]
        name = name[: max(name.rfind("_"), name.rfind("/"), 0)]
    return None


def _spread(model: onnx.ModelProto, known: Mapping[int, str]) -> dict[int, str]:
    """Nodes that nothing is known of go to their first reader's module (a quantization to the layer that it is for),
    and those that no known one reads to the module of what they read.
    """
    nodes = list(model.graph.node)
    readers: dict[str, list[int]] = defaultdict(list)
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        makers.update(dict.fromkeys(node.output, index))
        for name in node.input:
            readers[name].append(index)
    modules = dict(known)

    def settle(index: int, candidates: Iterable[int]) -> None:
        module = next((modules[candidate] for candidate in candidates if candidate in modules), None)
        if index not in modules and module is not None:
            modules[index] = module

    for index, node in reversed(list(enumerate(nodes))):
        settle(index, (reader for name in node.output for reader in readers[name]))
    for index, node in enumerate(nodes):
        settle(index, (makers[name] for name in node.input if name in makers))
    return modules
