"""What is asked of libcuda, by a fake of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fake_gpu import GPU_KEY, FakeCuda, spoken_in

from edgevit.board import cuda
from edgevit.board.cuda import CudaMemory, find_gpu, find_gpu_apart, load_cuda
from edgevit.errors import DeviceError

Driver = Callable[..., FakeCuda]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """driver(…) is a machine with the driver that FakeCuda(…) is."""
    spoken_in.clear()
    find_gpu_apart.cache_clear()

    def make(fails: str = "", name: bytes = b"Orin") -> FakeCuda:
        fake = FakeCuda(fails, name)
        monkeypatch.setattr(cuda, "load_cuda", lambda: fake)
        return fake

    return make


def test_the_gpu_is_known_by_its_name_capability_and_multiprocessors(driver: Driver) -> None:
    driver()
    gpu = find_gpu()
    assert (gpu.name, gpu.capability, gpu.multiprocessors) == ("Orin", "8.7", 16)
    assert gpu.key == GPU_KEY


def test_a_gpu_without_a_name_has_one_all_the_same(driver: Driver) -> None:
    driver(name=b"")
    assert find_gpu().name == "GPU"


def test_who_asks_apart_has_not_spoken_to_the_driver(driver: Driver) -> None:
    driver()
    assert find_gpu_apart().key == GPU_KEY
    assert spoken_in == []
    find_gpu()
    assert find_gpu_apart().key == GPU_KEY
    find_gpu_apart.cache_clear()
    with pytest.raises(DeviceError, match="cuInit failed with code 3"):
        find_gpu_apart()


def test_what_goes_in_comes_out_and_everything_is_freed(driver: Driver) -> None:
    fake = driver()
    memory = CudaMemory()
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    address = memory.allocate(array.nbytes)
    memory.copy_in(address, array)
    back = np.zeros_like(array)
    memory.copy_out(back, address)
    np.testing.assert_array_equal(back, array)
    assert memory.stream == 77
    memory.close()
    memory.close()
    assert fake.buffers == {}
    assert fake.calls[-2:] == ["cuStreamDestroy_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_a_function_that_fails_is_named_with_cuda_s_own_words(driver: Driver) -> None:
    driver("cuMemAlloc_v2")
    with pytest.raises(DeviceError, match=r"CUDA's cuMemAlloc_v2 failed with code 2 \(out of memory\)"):
        CudaMemory().allocate(16)
    driver("cuInit")
    with pytest.raises(DeviceError, match="cuInit failed"):
        find_gpu()


def test_a_machine_without_a_driver_is_told_where_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.board.cuda.CUDA_LIBRARY", "libcuda-that-is-not-there.so")
    with pytest.raises(DeviceError, match=r"no NVIDIA driver.*Run this on the board"):
        load_cuda()
