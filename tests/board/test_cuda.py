from __future__ import annotations

import numpy as np
import pytest
from fake_gpu import GPU_KEY, FakeCuda

from edgevit.board.cuda import CudaMemory, find_gpu, load_cuda
from edgevit.errors import DeviceError


def test_the_gpu_is_known_by_its_name_capability_and_multiprocessors() -> None:
    gpu = find_gpu(FakeCuda)
    assert (gpu.name, gpu.capability, gpu.multiprocessors) == ("Orin", "8.7", 16)
    assert gpu.key == GPU_KEY


def test_a_gpu_without_a_name_has_one_all_the_same() -> None:
    assert find_gpu(lambda: FakeCuda(name=b"")).name == "GPU"


def test_what_goes_in_comes_out_and_everything_is_freed() -> None:
    cuda = FakeCuda()
    memory = CudaMemory(lambda: cuda)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    address = memory.allocate(array.nbytes)
    memory.copy_in(address, array)
    back = np.zeros_like(array)
    memory.copy_out(back, address)
    np.testing.assert_array_equal(back, array)
    assert memory.stream == 77
    memory.close()
    memory.close()
    assert cuda.buffers == {}
    assert cuda.calls[-2:] == ["cuStreamDestroy_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_a_function_that_fails_is_named_with_cuda_s_own_words() -> None:
    memory = CudaMemory(lambda: FakeCuda("cuMemAlloc_v2"))
    with pytest.raises(DeviceError, match=r"CUDA's cuMemAlloc_v2 failed with code 2 \(out of memory\)"):
        memory.allocate(16)
    with pytest.raises(DeviceError, match="cuInit failed"):
        find_gpu(lambda: FakeCuda("cuInit"))


def test_a_machine_without_a_driver_is_told_where_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.board.cuda.CUDA_LIBRARY", "libcuda-that-is-not-there.so")
    with pytest.raises(DeviceError, match=r"no NVIDIA driver.*Run this on the board"):
        load_cuda()
