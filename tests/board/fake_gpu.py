"""A GPU of host memory: libcuda's functions, and TensorRT's Python package around them, without either.

FakeCuda is what ctypes.CDLL("libcuda.so.1") gives: its addresses are real ones of this process, so that what is copied
arrives. fake_tensorrt is the package as 8.5, 8.6 or 10.3 have it; its engine runs the .onnx in it by ONNX Runtime.
"""

from __future__ import annotations

import ctypes
import os
from types import ModuleType, SimpleNamespace
from typing import Any

ENGINE_MARK = b"FAKE ENGINE\n"
GPU_KEY = "Orin, compute capability 8.7, 16 multiprocessors"


NOT_INITIALIZED = 3
# The process that spoke to CUDA first: its forked children may not.
spoken_in: list[int] = []


def is_refused_here() -> bool:
    return bool(spoken_in) and spoken_in[0] != os.getpid()


class FakeCuda:
    """Counts what is allocated and what is freed. fails: a function that returns 2 (out of memory)."""

    def __init__(self, fails: str = "", name: bytes = b"Orin") -> None:
        self.buffers: dict[int, Any] = {}
        self.calls: list[str] = []
        self._fails, self._name = fails, name

    def __getattr__(self, function: str) -> Any:
        act = object.__getattribute__(self, "act")

        def call(*arguments: Any) -> int:
            self.calls.append(function)
            if is_refused_here() and function != "cuGetErrorString":
                return NOT_INITIALIZED
            if function == "cuInit":
                spoken_in[:] = [os.getpid()]
            if function == self._fails:
                return 2
            act(function, arguments)
            return 0

        return call

    def act(self, function: str, arguments: tuple[Any, ...]) -> None:
        if function == "cuGetErrorString":
            arguments[1]._obj.value = b"out of memory"
        elif function == "cuDeviceGetName":
            arguments[0].value = self._name
        elif function == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {16: 16, 75: 8, 76: 7}[arguments[1]]
        elif function == "cuMemAlloc_v2":
            buffer = ctypes.create_string_buffer(arguments[1].value)
            self.buffers[ctypes.addressof(buffer)] = buffer
            arguments[0]._obj.value = ctypes.addressof(buffer)
        elif function == "cuMemFree_v2":
            del self.buffers[arguments[0].value]
        elif function == "cuStreamCreate":
            arguments[0]._obj.value = 77
        elif function in ("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"):
            ctypes.memmove(arguments[0].value, arguments[1].value, arguments[2].value)


class _Flags:
    def __init__(self, *names: str) -> None:
        for number, name in enumerate(names):
            setattr(self, name, number)


class _Engine:
    """Runs the model in it; names and shapes are the model's own."""

    def __init__(self, trt: Any, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.trt = trt
        self.values = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.num_io_tensors = len(self.values)

    def get_tensor_name(self, index: int) -> str:
        name: str = self.values[index].name
        return name

    def get_tensor_mode(self, name: str) -> int:
        is_input = name == self.values[0].name
        mode: int = self.trt.TensorIOMode.INPUT if is_input else self.trt.TensorIOMode.OUTPUT
        return mode

    def get_tensor_shape(self, name: str) -> list[int]:
        shape: list[int] = next(value.shape for value in self.values if value.name == name)
        return shape

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def create_execution_context(self) -> _Context:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.addresses = engine, {}  # type: ignore[var-annotated]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        import numpy as np

        assert stream == 77
        source, target = self.engine.values[:2]
        size = int(np.prod(source.shape))
        floats = (ctypes.c_float * size).from_address(self.addresses[source.name])
        pixels = np.array(floats, np.float32).reshape(source.shape)
        logits = np.ascontiguousarray(self.engine.session.run([target.name], {source.name: pixels})[0])
        ctypes.memmove(self.addresses[target.name], logits.ctypes.data, logits.nbytes)
        return True


class _Config:
    """Has what the version's IBuilderConfig has; what is set is kept in `log`."""

    def __init__(self, log: dict[str, Any], version: str) -> None:
        self._log, self._version = log, version

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "builder_optimization_level":
            assert self._version != "8.5", "8.5 has no builder_optimization_level"
            self._log[name] = value
        object.__setattr__(self, name, value)

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        self._log["workspace"] = size

    def set_flag(self, flag: int) -> None:
        self._log.setdefault("flags", []).append(flag)

    def create_timing_cache(self, content: bytes) -> bytes:
        self._log["timing_cache"] = content
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self._log["timing_cache"] + b"learned ")


def fake_tensorrt(version: str, log: dict[str, Any] | None = None, does: str = "build") -> ModuleType:
    """The package `tensorrt`. log: is told what a build asked for. does: 'refuse-model', 'no-engine', 'raise'."""
    trt: Any = ModuleType("tensorrt")
    asked = {} if log is None else log
    trt.__version__ = {"8.5": "8.5.3.1", "8.6": "8.6.1", "10.3": "10.3.0"}[version]
    trt.float32 = "float32"
    trt.TensorIOMode = _Flags("NONE", "INPUT", "OUTPUT")
    trt.MemoryPoolType = _Flags("WORKSPACE")
    trt.BuilderFlag = SimpleNamespace(FP16="FP16", INT8="INT8", OBEY_PRECISION_CONSTRAINTS="OBEY")
    trt.NetworkDefinitionCreationFlag = _Flags("EXPLICIT_BATCH")

    class ILogger:
        Severity = _Flags("INTERNAL_ERROR", "ERROR", "WARNING", "INFO")

        def __init__(self) -> None: ...

    class Builder:
        def __init__(self, logger: Any) -> None:
            if is_refused_here():
                raise RuntimeError("CUDA initialization failure with error: 3")
            self.logger = logger

        def create_network(self, flags: int) -> Any:
            asked["network_flags"] = flags
            self.network = SimpleNamespace(
                num_layers=2, get_layer=[SimpleNamespace(name=name, precision=None) for name in "ab"].__getitem__
            )
            return self.network

        def create_builder_config(self) -> _Config:
            return _Config(asked, version)

        def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
            if does == "raise":
                raise RuntimeError("no memory")
            if does == "no-engine":
                self.logger.log(ILogger.Severity.ERROR, "4: [network.cpp] no implementation\n for node 'x'")
                return None
            asked["held"] = [network.get_layer(index).precision for index in range(2)]
            return ENGINE_MARK + asked["model"]

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Any) -> None: ...

        def parse(self, model: bytes) -> bool:
            asked["model"] = model
            return does != "refuse-model"

        def get_error(self, index: int) -> str:
            return "In node 3 (QuantizeLinear): UNSUPPORTED_NODE"

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> _Engine | None:
            if not content.startswith(ENGINE_MARK):
                self.logger.log(ILogger.Severity.ERROR, "magic tag does not match")
                return None
            return _Engine(trt, content[len(ENGINE_MARK) :])

    trt.ILogger, trt.Builder, trt.OnnxParser, trt.Runtime = ILogger, Builder, OnnxParser, Runtime
    module: ModuleType = trt
    return module
