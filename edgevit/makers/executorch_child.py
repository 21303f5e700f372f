"""The process that makes a .pte file: python -m edgevit.makers.executorch_child GRAPH PLAN REPORT [PICTURES] OUT.

PLAN is an Int8Nodes as JSON, REPORT becomes a Lowered, PICTURES is a folder of .npy files to calibrate on.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.export.child import end_with_parent, exit_code


def main(*words: str) -> int:
    graph, plan, report, *pictures, target = words
    return exit_code(lambda: convert(Path(graph), Path(plan), Path(report), Path(target), *map(Path, pictures)))


def convert(graph: Path, plan: Path, report: Path, target: Path, pictures: Path | None = None) -> None:
    """Writes the .pte file and what it is made of."""
    warnings.simplefilter("ignore")
    import onnx
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackDynamicallyQuantizedPartitioner,
        XnnpackPartitioner,
    )
    from executorch.backends.xnnpack.utils.configs import (
        get_transform_passes,
        get_xnnpack_edge_compile_config,
        get_xnnpack_executorch_backend_config,
    )
    from executorch.exir import to_edge_transform_and_lower

    from edgevit.export.executorch import Int8Nodes
    from edgevit.export.linear_layers import with_linear_layers
    from edgevit.export.names import module_names
    from edgevit.export.torch_graph import GraphModule
    from edgevit.quantize.pt2e import quantize_pt2e

    nodes = Int8Nodes(**json.loads(plan.read_text()))
    model = with_linear_layers(onnx.load(str(graph)))
    names = {module: node.name for module, node in module_names(model).items()}
    module = GraphModule(model).eval()
    example = (torch.zeros(module.input_shape, dtype=module.input_type),)
    program = torch.export.export(module, example)
    if nodes.static or nodes.dynamic:
        quantized = quantize_pt2e(
            program.module(), example, names, nodes.static, nodes.dynamic, nodes.calibrator, _read(pictures)
        )
        program = torch.export.export(quantized, example)
    edge = to_edge_transform_and_lower(
        program,
        transform_passes=get_transform_passes(),
        # the dynamic one first: it keeps a layer and the quantization of its input in one part
        partitioner=[*([XnnpackDynamicallyQuantizedPartitioner()] if nodes.dynamic else []), XnnpackPartitioner()],
        compile_config=get_xnnpack_edge_compile_config(),
    )
    document = _lowered(edge.exported_program().graph_module, names)
    report.write_text(json.dumps(document))
    target.write_bytes(edge.to_executorch(get_xnnpack_executorch_backend_config()).buffer)


def _read(folder: Path | None) -> Iterator[NDArray[Any]]:
    for path in sorted(folder.iterdir()) if folder else []:
        yield np.load(path)


def _lowered(module: Any, names: dict[str, str]) -> dict[str, Any]:
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    parts = [getattr(module, node.target) for node in module.graph.nodes if node.op == "get_attr"]
    parts = [part for part in parts if hasattr(part, "original_module")]
    portable = Counter(_operator(node) for node in calls)
    for helper in ("getitem", "executorch_call_delegate"):
        portable.pop(helper, None)
    int8 = {
        names.get(_module(node), "")
        for part in parts
        for node in part.original_module.graph_module.graph.nodes
        if node.op == "call_function" and "dequantize" not in _operator(node) and _reads_int8(node)
    }
    return {"int8": sorted(int8 - {""}), "delegates": len(parts), "portable": dict(portable)}


def _operator(node: Any) -> str:
    """'native_layer_norm' of aten.native_layer_norm.default."""
    name = getattr(node.target, "__name__", str(node.target))
    return name.split(".")[1] if name.startswith(("aten.", "quantized_decomposed.")) else name


def _module(node: Any) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).rpartition(".")[2] if stack else ""


def _reads_int8(node: Any) -> bool:
    first = node.args[0] if node.args else None
    return getattr(first, "op", "") == "call_function" and "dequantize" in _operator(first)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
