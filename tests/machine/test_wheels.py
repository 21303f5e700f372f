import re

import pytest

from edgevit.catalog import list_devices, load_device
from edgevit.errors import DeviceError, InputError
from edgevit.machine.wheels import WHEELS, board_requirement, board_requirements


@pytest.mark.parametrize(
    ("python", "glibc", "expected"),
    [
        ("3.8", "2.27", "onnxruntime==1.19.2"),
        ("3.9", "2.31", "onnxruntime==1.19.2"),
        ("3.10", "2.35", "onnxruntime==1.23.2"),
        ("3.11.2", "2.36", "onnxruntime==1.31.1"),
        ("3.14", "2.41", "onnxruntime==1.31.1"),
        ("3.11", "2.27", "onnxruntime==1.28.0"),  # from 1.29 on wheels need glibc 2.28
    ],
)
def test_the_newest_runtime_that_the_board_can_install_is_pinned(python, glibc, expected):
    assert board_requirement("onnxruntime", python, glibc) == expected


def test_torchscript_means_torch():
    assert board_requirement("torchscript", "3.11", "2.36") == "torch==2.13.0"


@pytest.mark.parametrize(
    ("python", "glibc", "arch", "version"),
    [
        ("3.11", "2.28", "x86_64", "2026.4.1"),
        ("3.11", "2.35", "aarch64", "2026.4.1"),  # its wheels for aarch64 need a newer glibc
        ("3.9", "2.17", "x86_64", "2025.3.0"),
        ("3.8", "2.31", "aarch64", "2024.4.0"),
    ],
)
def test_openvino_is_pinned_by_architecture_too(python, glibc, arch, version):
    assert board_requirement("openvino", python, glibc, arch) == f"openvino=={version}"


def test_openvino_on_a_board_with_an_older_glibc_is_refused():
    words = r"openvino has no wheel for Python 3\.11 with glibc 2\.31 on aarch64\. .*Python 3\.8 to 3\.14, glibc 2\.31"
    with pytest.raises(DeviceError, match=words):
        board_requirement("openvino", "3.11", "2.31", "aarch64")


@pytest.mark.parametrize(
    ("python", "glibc", "arch"),
    [("3.6", "2.27", "aarch64"), ("3.15", "2.41", "aarch64"), ("3.11", "2.24", "x86_64"), ("3.11", "2.36", "armv7")],
)
def test_a_board_without_wheels_is_told_what_would_have_them(python, glibc, arch):
    words = re.escape(
        f"onnxruntime has no wheel for Python {python} with glibc {glibc} on {arch}. "
        "It has them for aarch64 and x86_64, Python 3.8 to 3.14, glibc 2.27 or later"
    )
    with pytest.raises(DeviceError, match=words):
        board_requirement("onnxruntime", python, glibc, arch)


def test_executorch_comes_with_the_torch_that_its_library_is_linked_to():
    assert board_requirements("executorch", ("3.11",), "2.36") == (
        "executorch==1.5.1", "torch==2.13.0", "numpy==2.4.6", "pillow==13.0.0",
    )  # fmt: skip


def test_an_unknown_runtime_is_refused():
    with pytest.raises(
        InputError, match=r"wheels of the runtime 'tensorrt'\. Take one of: executorch, litert, onnxruntime, openvino"
    ):
        board_requirement("tensorrt", "3.11")


def test_tensorrt_comes_with_jetpack_and_only_the_agent_s_packages_are_pinned():
    assert board_requirements("tensorrt", ("3.10",), "2.35") == (
        "# TensorRT comes with JetPack: sudo apt install nvidia-jetpack python3-libnvinfer",
        "numpy==2.2.6",
        "pillow==12.3.0",
    )


def test_requirements_that_all_pythons_share_are_one_line_each():
    assert board_requirements("onnxruntime", ("3.11", "3.13"), "2.36") == (
        "onnxruntime==1.31.1",
        "numpy==2.4.6",
        "pillow==13.0.0",
    )


def test_requirements_that_differ_carry_the_python_they_are_for():
    assert board_requirements("onnxruntime", ("3.8", "3.10"), "2.31")[:2] == (
        'onnxruntime==1.19.2; python_version == "3.8"',
        'onnxruntime==1.23.2; python_version == "3.10"',
    )


def test_a_python_without_wheels_is_left_out_while_another_has_them():
    assert board_requirements("onnxruntime", ("3.6", "3.8"), "2.27")[0] == "onnxruntime==1.19.2"
    with pytest.raises(DeviceError, match=r"Python 3\.6"):
        board_requirements("onnxruntime", ("3.6",), "2.27")


def test_no_python_at_all_is_refused():
    with pytest.raises(DeviceError, match="lists no Python"):
        board_requirements("onnxruntime", ())


@pytest.mark.parametrize("name", [name for name in list_devices() if name != "local"])
def test_every_board_of_the_catalog_can_install_onnxruntime(name):
    device = load_device(name)
    lines = board_requirements("onnxruntime", device.os.python, device.os.glibc, device.arch)
    assert any(line.startswith("onnxruntime==") for line in lines)


@pytest.mark.parametrize("package", sorted(WHEELS))
def test_newer_versions_come_first_in_the_table(package):
    versions = [tuple(map(int, wheel.version.split("."))) for wheel in WHEELS[package]]
    assert versions == sorted(versions, reverse=True)
