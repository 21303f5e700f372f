"""The graph as ONNX Runtime runs it on an ARM core, written on whatever machine this is.

ONNX Runtime fuses and reorders a graph when it loads it, and what it does differs by architecture in two ways: only
x86 gets the NCHWc layout, and only ARM keeps signed activations in QDQ graphs. With the first switched off and the
second on, both write the same operators (compared on 20 graphs: DeiT-Ti, MobileViT-S, EfficientViT-M0 and FastViT-T8 in
fp32 and three INT8 forms, against what an emulated Cortex-A76 wrote; ONNX Runtime 1.31.1). float16 is the exception:
this machine casts what an A76 multiplies natively, so float16 graphs are not estimated well.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgevit.errors import EdgevitError
from edgevit.runtimes.onnxruntime import ORT_LOG_ERRORS, import_runtime

X86_LAYOUT = "NchwcTransformer"
SIGNED_QDQ = "session.qdqisint8allowed"


def graph_on_arm(model: onnx.ModelProto) -> onnx.ModelProto:
    """The optimized graph, with type and shape of every tensor in `value_info`; free dimensions count as 1.

    The graph is run once on zeros, because shape inference knows few of ONNX Runtime's own operators.
    Raises EdgevitError when ONNX Runtime cannot load or run the model.
    """
    with tempfile.TemporaryDirectory(prefix="edgevit-cost-") as folder:
        path = Path(folder) / "optimized.onnx"
        try:
            _open(model, str(path))
            optimized = onnx.load(path)
            _note_shapes(optimized)
        except Exception as error:  # ONNX Runtime's exceptions share no class but this one
            raise EdgevitError(f"ONNX Runtime cannot load this model: {' '.join(str(error).split())}") from error
    return optimized


def _open(model: onnx.ModelProto, written_to: str | None) -> Any:
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ORT_LOG_ERRORS
    if written_to is None:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.optimized_model_filepath = written_to
        options.add_session_config_entry(SIGNED_QDQ, "1")
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=[X86_LAYOUT]
    )


def _note_shapes(model: onnx.ModelProto) -> None:
    """Replaces `value_info` by what one run on zeros shows."""
    names = [name for node in model.graph.node for name in node.output if name]
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _open(observed, None)
    values = session.run(names, {entry.name: _zeros(entry) for entry in session.get_inputs()})
    del model.graph.value_info[:]
    for name, value in zip(names, values, strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))


def _zeros(entry: Any) -> np.ndarray:
    dtype = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}.get(entry.type, np.float32)
    return np.zeros([size if isinstance(size, int) and size > 0 else 1 for size in entry.shape], dtype)
