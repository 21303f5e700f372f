from __future__ import annotations

import pytest
from digits_shop import device_here

from edgevit.catalog import list_devices, load_device
from edgevit.errors import DeviceError
from edgevit.machine.jetpack import RELEASES
from edgevit.tensorrt.support import load_support, versions_of


def test_each_version_takes_what_those_before_it_take_and_more() -> None:
    table = load_support()
    assert list(table) == ["8.5", "8.6", "10.3"]
    assert table["8.5"].operators < table["8.6"].operators < table["10.3"].operators
    assert table["8.6"].operators - table["8.5"].operators == {"GroupNormalization", "IsInf", "LayerNormalization"}
    assert "Gelu" in table["10.3"].operators - table["8.6"].operators


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.3"])
def test_every_version_has_its_table_s_source_and_is_of_some_jetpack(version: str) -> None:
    support = load_support()[version]
    assert support.source.startswith("https://github.com/onnx/onnx-tensorrt/blob/")
    assert support.source.endswith("/docs/operators.md")
    assert version in {release.tensorrt for release in RELEASES.values()}
    lacking = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"}
    assert not lacking & support.operators
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "MatMul", "Softmax", "Erf"} <= support.operators


@pytest.mark.parametrize(
    ("device", "versions"),
    [
        ("jetson-orin-nano", ["8.6", "10.3"]),
        ("jetson-orin-nx", ["8.6", "10.3"]),
        ("jetson-agx-orin", ["8.6", "10.3"]),
        ("jetson-xavier-nx", ["8.5"]),
    ],
)
def test_a_device_has_the_versions_of_every_release_of_its_jetpack(device: str, versions: list[str]) -> None:
    assert [support.version for support in versions_of(load_device(device))] == versions


def test_a_jetpack_with_an_older_tensorrt_is_refused_with_the_way_out() -> None:
    with pytest.raises(DeviceError, match=r"JetPack 4\.6 with TensorRT 8\.0, 8\.2, and .* Take --runtime onnxruntime"):
        versions_of(load_device("jetson-nano"))


def test_a_device_without_jetpack_is_refused() -> None:
    with pytest.raises(DeviceError, match="--runtime tensorrt is for JetPack"):
        versions_of(device_here())


def test_every_device_that_lists_tensorrt_has_a_jetpack() -> None:
    profiles = [load_device(name) for name in list_devices() if name != "local"]
    assert all(profile.os.name.startswith("JetPack ") for profile in profiles if "tensorrt" in profile.runtimes)
