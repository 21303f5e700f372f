"""ONNX Runtime on the GPU, for a Jetson without TensorRT's Python package: its TensorRT provider, else CUDA's.

Python 3.8 only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.board.ortsession import OnnxSession, ort_reason
from edgevit.errors import BadFileError, DeviceError

if TYPE_CHECKING:
    from edgevit.board.trtexec import EngineRecipe

GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
LOG_ERRORS = 3


def open_on_gpu(onnxruntime: Any, path: str, threads: int, recipe: EngineRecipe, folder: str) -> OnnxSession:
    """The model on the first GPU provider that takes it. folder: where the TensorRT provider keeps its engines.

    Raises DeviceError when ONNX Runtime would run it on the CPU, BadFileError when it cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = LOG_ERRORS
    available = onnxruntime.get_available_providers()
    wanted = [(name, _provider_options(name, recipe, folder)) for name in GPU_PROVIDERS if name in available]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        problem = f"is not a model that ONNX Runtime {onnxruntime.__version__} can load ({ort_reason(error)})."
        raise BadFileError(path, problem) from error
    # a provider whose libraries are missing is dropped with a word in the log, and the next one serves
    if session.get_providers()[0] not in GPU_PROVIDERS:
        names = " and ".join(name for name, _ in wanted)
        raise DeviceError(f"ONNX Runtime's {names} did not start, and a bundle for TensorRT is not run on the CPU.")
    return _named(session, str(onnxruntime.__version__), path)


def _named(session: Any, version: str, path: str) -> OnnxSession:
    """`runtime` names the provider that runs it, `notes` say why it is not TensorRT itself."""
    used = session.get_providers()[0]
    note = (
        f"TensorRT's Python package is missing: ONNX Runtime's {used} ran the model instead. What it does not take, "
        "ONNX Runtime computes elsewhere."
    )
    runtime = f"onnxruntime-{'tensorrt' if used == GPU_PROVIDERS[0] else 'cuda'}"
    return OnnxSession(session, runtime, version, path, (note,))


def _provider_options(name: str, recipe: EngineRecipe, folder: str) -> dict[str, str]:
    """Source: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html"""
    if name != GPU_PROVIDERS[0]:
        return {}
    return {
        "trt_fp16_enable": str(recipe.precision in ("fp16", "int8")),
        "trt_int8_enable": str(recipe.precision == "int8"),
        "trt_layer_norm_fp32_fallback": "True",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": folder,
    }
