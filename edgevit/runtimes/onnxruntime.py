"""ONNX Runtime on the CPU.

Python 3.8, numpy and onnxruntime only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
from typing import Any

from edgevit.board.ortsession import OnnxSession, ort_reason
from edgevit.errors import BadFileError, MissingExtraError

RUNTIME = "onnxruntime"
ORT_LOG_ERRORS = 3
GRAPH_LEVEL = "edgevit.graph_level"
CPU_ARENA = "edgevit.cpu_arena"
PROVIDER = "edgevit.provider"
CPU_PROVIDER = "CPUExecutionProvider"
NO_PREPACKING = "session.disable_prepacking"
OWN_THREADS = ("XnnpackExecutionProvider",)  # providers with a pool of their own


def open_session(path: str, threads: int, config: dict[str, str]) -> OnnxSession:
    """An ONNX model on the CPU, with `threads` inside an operator and one operator at a time.

    config: ONNX Runtime's own session entries, such as 'session.set_denormal_as_zero': '1', and three of ours for
    options that it has no entries for: GRAPH_LEVEL ('basic', 'extended', 'layout' or 'all'), CPU_ARENA ('0' or '1') and
    PROVIDER, which goes before the CPU's.
    Raises MissingExtraError without onnxruntime, BadFileError for a file that it cannot load.
    """
    onnxruntime = import_runtime()
    if not os.path.isfile(path):
        raise BadFileError(path, "is a directory, not a model." if os.path.isdir(path) else "there is no such file.")
    try:
        options, providers = session_options(threads, config), _providers(threads, config)
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        problem = f"asks for what ONNX Runtime {onnxruntime.__version__} does not have ({ort_reason(error)})."
        raise BadFileError(path, problem, fix="Export it again, or use a newer onnxruntime.") from error
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        problem = f"is not a model that ONNX Runtime {onnxruntime.__version__} can load ({ort_reason(error)})."
        raise BadFileError(path, problem, fix="Export it again, or use a newer onnxruntime.") from error
    if len(session.get_inputs()) != 1:
        raise BadFileError(path, f"has {len(session.get_inputs())} inputs, and a picture classifier has one.")
    return OnnxSession(session, RUNTIME, onnxruntime.__version__, path)


def session_options(threads: int, config: dict[str, str]) -> Any:
    """SessionOptions as open_session has them. Raises what ONNX Runtime raises for an entry that it refuses,
    ValueError for a graph level that it does not have.
    """
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ORT_LOG_ERRORS
    level = config.get(GRAPH_LEVEL, "all")
    found = getattr(onnxruntime.GraphOptimizationLevel, "ORT_ENABLE_" + level.upper(), None)
    if found is None:
        raise ValueError(f"no graph level '{level}'")
    options.graph_optimization_level = found
    options.enable_cpu_mem_arena = config.get(CPU_ARENA, "1") != "0"
    for key, value in sorted(config.items()):
        options.add_session_config_entry(key, value)
    return options


def built_providers() -> list[str]:
    """The execution providers that this build of ONNX Runtime has. Raises MissingExtraError."""
    return list(import_runtime().get_available_providers())


def import_runtime() -> Any:
    """The package onnxruntime, which then reports nothing to its maker. Raises MissingExtraError."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # https://github.com/microsoft/onnxruntime/pull/27379
    try:
        import onnxruntime
    except ImportError:
        fix = "pip install onnxruntime, or in a bundle's directory: pip install -r requirements.txt"
        raise MissingExtraError("onnxruntime", "", fix) from None
    return onnxruntime


def _providers(threads: int, config: dict[str, str]) -> list[Any]:
    """As InferenceSession takes them. Raises ValueError for one that this build lacks."""
    asked = config.get(PROVIDER, CPU_PROVIDER)
    if asked == CPU_PROVIDER:
        return [CPU_PROVIDER]
    if asked not in built_providers():
        raise ValueError(f"no provider '{asked}'")
    own = {"intra_op_num_threads": str(threads)} if asked in OWN_THREADS and threads else {}
    return [(asked, own), CPU_PROVIDER]
