"""TensorRT's Python API as a builder of engines, where there is no trtexec of the same version.

Building takes minutes, gigabytes and no signals, so it is done in a process of its own that can be ended.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import TYPE_CHECKING, Any

from edgevit.board.trtexec import (
    OPTIMIZATION_LEVEL,
    OPTIMIZATION_LEVEL_SINCE,
    TYPED_BY_GRAPH_SINCE,
    WORKSPACE_MIB,
    overdue_words,
    require_known,
)
from edgevit.errors import EdgevitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.board.trtexec import EngineRecipe, Version

EXPLICIT_BATCH_UNTIL = (10, 0, 0)  # from here on a network has no other kind
JOIN_SECONDS = 1.0


def build_in_process(
    import_tensorrt: Callable[[], Any],
    version: Version,
    recipe: EngineRecipe,
    files: tuple[str, str, str],
    timeout_s: float,
    tell: Callable[[float, float], object] = lambda seconds, limit_s: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Writes an engine. files: model, engine, timing cache. tell: as of run_trtexec.

    The process ends with this call, however that ends. Raises EdgevitError with TensorRT's own words.
    """
    require_known(version, recipe)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, import_tensorrt, version, recipe, files))
    began = clock()
    process.start()
    sender.close()
    try:
        while process.is_alive():
            process.join(JOIN_SECONDS)
            seconds = clock() - began
            if process.is_alive() and seconds >= timeout_s:
                raise EdgevitError(overdue_words(timeout_s))
            tell(seconds, timeout_s)
        said = receiver.recv() if receiver.poll() else f"its process ended with code {process.exitcode}"
    except EOFError:  # it died before it could say a word
        said = f"its process ended with code {process.exitcode}"
    finally:
        process.kill()
        process.join()
        receiver.close()
    if said:
        raise EdgevitError(f"TensorRT cannot build the engine: {said}")


def build_by_api(trt: Any, version: Version, recipe: EngineRecipe, files: tuple[str, str, str]) -> str:
    """'' when the engine was written, else what TensorRT said. files: as of build_in_process."""
    model, engine, cache_path = files
    errors: list[str] = []
    builder = trt.Builder(collecting_logger(trt, errors))
    explicit = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH) if version < EXPLICIT_BATCH_UNTIL else 0
    network = builder.create_network(explicit)
    parser = trt.OnnxParser(network, collecting_logger(trt, errors))
    with open(model, "rb") as file:
        if not parser.parse(file.read()):
            errors += [str(parser.get_error(index)) for index in range(parser.num_errors)]
            return " | ".join(errors[-3:]) or "its parser refuses the model"
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_MIB * 1024 * 1024)
    if version >= OPTIMIZATION_LEVEL_SINCE:
        config.builder_optimization_level = OPTIMIZATION_LEVEL
    if version < TYPED_BY_GRAPH_SINCE:
        _set_precision(trt, config, network, recipe)
    cache = config.create_timing_cache(_read(cache_path))
    config.set_timing_cache(cache, False)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        return " | ".join(errors[-3:]) or "it gave no engine and no reason"
    with open(engine, "wb") as file:
        file.write(bytes(serialized))
    _keep_cache(cache_path, bytes(config.get_timing_cache().serialize()))
    return ""


def collecting_logger(trt: Any, errors: list[str]) -> Any:
    """A logger that keeps errors and drops the rest."""

    class Collector(trt.ILogger):  # type: ignore[misc]  # a class of the package that is imported on the board
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                errors.append(" ".join(str(message).split())[:300])

    return Collector()


def _child(sender: Any, import_tensorrt: Any, version: Version, recipe: EngineRecipe, files: Any) -> None:
    try:
        said = build_by_api(import_tensorrt(), version, recipe, files)
    except Exception as error:  # whatever the package raises: its words go to the parent
        said = f"{type(error).__name__} {error}"
    sender.send(said)
    sender.close()


def _set_precision(trt: Any, config: Any, network: Any, recipe: EngineRecipe) -> None:
    if recipe.precision in ("fp16", "int8"):
        config.set_flag(trt.BuilderFlag.FP16)
    if recipe.precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    if recipe.float32_layers:
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        wanted = set(recipe.float32_layers)
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.name in wanted:
                layer.precision = trt.float32


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # none yet: TensorRT begins an empty one
        return b""


def _keep_cache(path: str, content: bytes) -> None:
    unfinished = f"{path}.{os.getpid()}"
    with open(unfinished, "wb") as file:
        file.write(content)
    os.replace(unfinished, path)
