"""CUDA by its driver library, which every JetPack has: which GPU this is, and memory on it.

JetPack brings no Python package for CUDA, so this is ctypes on libcuda.
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgevit.errors import DeviceError

CUDA_LIBRARY = "libcuda.so.1"
# Source: CUDA Driver API, enum CUdevice_attribute.
MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
GPU_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """`capability`: '8.7'. An engine is good for this model of GPU alone."""

    name: str
    capability: str
    multiprocessors: int

    @property
    def key(self) -> str:
        return f"{self.name}, compute capability {self.capability}, {self.multiprocessors} multiprocessors"


def load_cuda() -> Any:
    """The driver's library. Raises DeviceError where there is none."""
    try:
        return ctypes.CDLL(CUDA_LIBRARY)
    except OSError:
        raise DeviceError(
            f"This machine has no NVIDIA driver ({CUDA_LIBRARY}), and a TensorRT engine runs on a Jetson's GPU only. "
            "Run this on the board."
        ) from None


def find_gpu() -> Gpu:
    """The first GPU. Raises DeviceError where there is none."""
    library = load_cuda()
    _succeed(library, "cuInit", 0)
    device = _first_device(library)
    name = ctypes.create_string_buffer(GPU_NAME_BYTES)
    _succeed(library, "cuDeviceGetName", name, GPU_NAME_BYTES, device)

    def attribute_of(number: int) -> int:
        value = ctypes.c_int()
        _succeed(library, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    capability = f"{attribute_of(CAPABILITY_MAJOR)}.{attribute_of(CAPABILITY_MINOR)}"
    text = name.value.decode("utf-8", "replace") or "GPU"
    return Gpu(text, capability, attribute_of(MULTIPROCESSOR_COUNT))


@functools.lru_cache(maxsize=1)
def find_gpu_apart() -> Gpu:
    """find_gpu, asked once, in a process of its own. Raises DeviceError.

    A process that has spoken to the driver cannot fork any more: CUDA answers its children with code 3. Engines are
    built in such a child.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(find_gpu).result()


class CudaMemory:
    """Buffers on the first GPU and one stream, in the context that TensorRT uses as well, the device's primary one."""

    def __init__(self) -> None:
        self._library = load_cuda()
        _succeed(self._library, "cuInit", 0)
        self._device = _first_device(self._library)
        self._context = ctypes.c_void_p()
        _succeed(self._library, "cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.enter()
        self._buffers: list[ctypes.c_uint64] = []
        self._stream = ctypes.c_void_p()
        _succeed(self._library, "cuStreamCreate", ctypes.byref(self._stream), 0)

    @property
    def stream(self) -> int:
        return self._stream.value or 0

    def enter(self) -> None:
        """Makes the context the calling thread's own; each thread has to."""
        _succeed(self._library, "cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes. Raises DeviceError when they are not to be had."""
        address = ctypes.c_uint64()
        _succeed(self._library, "cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self._buffers.append(address)
        return address.value

    def copy_in(self, address: int, array: Any) -> None:
        """A contiguous array to the GPU, in the stream's order."""
        source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        _succeed(self._library, "cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, size, self._stream)

    def copy_out(self, array: Any, address: int) -> None:
        """From the GPU into a contiguous array, complete when this returns."""
        target, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        _succeed(self._library, "cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), size, self._stream)
        _succeed(self._library, "cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Frees all of it; closing twice does no harm."""
        if self._library is None:
            return
        self.enter()
        for address in self._buffers:
            self._library.cuMemFree_v2(address)
        self._library.cuStreamDestroy_v2(self._stream)
        self._library.cuDevicePrimaryCtxRelease_v2(self._device)
        self._library = None


def _first_device(library: Any) -> ctypes.c_int:
    device = ctypes.c_int()
    _succeed(library, "cuDeviceGet", ctypes.byref(device), 0)
    return device


def _succeed(library: Any, function: str, *arguments: Any) -> None:
    code = getattr(library, function)(*arguments)
    if code == 0:
        return
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    said = text.value.decode("utf-8", "replace") if text.value else "no word"
    raise DeviceError(f"CUDA's {function} failed with code {code} ({said}). Is the GPU's memory taken by others?")
