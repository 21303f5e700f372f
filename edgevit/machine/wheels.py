"""Wheels: which versions of the packages a bundle needs can be installed on a board, by its Python and glibc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.errors import DeviceError, InputError

ARCHES = ("aarch64", "x86_64")


@dataclass(frozen=True)
class Wheel:
    """`version` has wheels for CPython `oldest` to `newest`, both included, on glibc `glibc` or later and `arches`."""

    version: str
    oldest: str
    newest: str
    glibc: str
    arches: tuple[str, ...] = ARCHES


# The newest version that serves a board comes first; where the set that edgevit is tested with serves it, that one.
# Source: the file names (cpXY, manylinux_A_B) of the wheels published for aarch64 and x86_64, read with
# 'pip download --only-binary=:all: --python-version … --platform …'. ONNX Runtime dropped 3.8 and 3.9 with 1.20:
# https://github.com/microsoft/onnxruntime/releases/tag/v1.20.0
WHEELS: dict[str, tuple[Wheel, ...]] = {
    "onnxruntime": (
        Wheel("1.31.1", "3.11", "3.14", "2.28"),
        Wheel("1.28.0", "3.11", "3.14", "2.27"),
        Wheel("1.23.2", "3.10", "3.10", "2.27"),
        Wheel("1.19.2", "3.8", "3.9", "2.27"),
    ),
    "openvino": (
        Wheel("2026.4.1", "3.10", "3.14", "2.28", ("x86_64",)),
        Wheel("2026.4.1", "3.10", "3.14", "2.35", ("aarch64",)),
        Wheel("2025.3.0", "3.9", "3.9", "2.17", ("x86_64",)),
        Wheel("2025.3.0", "3.9", "3.9", "2.35", ("aarch64",)),
        Wheel("2024.4.0", "3.8", "3.8", "2.17", ("x86_64",)),
        Wheel("2024.4.0", "3.8", "3.8", "2.31", ("aarch64",)),
    ),
    "torch": (Wheel("2.13.0", "3.10", "3.14", "2.28"),),
    "ai-edge-litert": (Wheel("2.3.0", "3.10", "3.14", "2.27"), Wheel("2.1.0", "3.9", "3.9", "2.27")),
    "executorch": (Wheel("1.5.1", "3.10", "3.14", "2.28"),),
    "numpy": (
        Wheel("2.4.6", "3.11", "3.14", "2.27"),
        Wheel("2.2.6", "3.10", "3.10", "2.17"),
        Wheel("2.0.2", "3.9", "3.9", "2.17"),
        Wheel("1.24.4", "3.8", "3.8", "2.17"),
    ),
    "pillow": (
        Wheel("13.0.0", "3.11", "3.14", "2.27"),
        Wheel("12.3.0", "3.10", "3.10", "2.27"),
        Wheel("11.3.0", "3.9", "3.9", "2.17"),
        Wheel("10.4.0", "3.8", "3.8", "2.17"),
    ),
}
RUNTIME_PACKAGES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
    "executorch": "executorch",
    "torchscript": "torch",
}
# What a runtime's wheel needs and does not ask for: ExecuTorch's library is linked to torch's.
COMPANIONS = {"executorch": ("torch",)}
# What agent.py needs beside the runtime.
AGENT_PACKAGES = ("numpy", "pillow")
# Runtimes that come with the board's system, not as a wheel, and what a bundle's requirements.txt says of them.
WITH_THE_SYSTEM = {"tensorrt": "# TensorRT comes with JetPack: sudo apt install nvidia-jetpack python3-libnvinfer"}


def board_requirement(runtime: str, python: str, glibc: str = "2.28", arch: str = "aarch64") -> str:
    """The runtime's pinned requirement on a board: 'onnxruntime==1.19.2' for Python 3.8.

    python: '3.11' or '3.11.2'. glibc: the board's, as its device profile gives it.
    Raises DeviceError when there is no wheel for such a board, InputError for a runtime that is in no list here.
    """
    if runtime not in RUNTIME_PACKAGES:
        known = ", ".join(sorted(RUNTIME_PACKAGES))
        raise InputError(f"Nothing is known about wheels of the runtime '{runtime}'. Take one of: {known}.")
    return _requirement(RUNTIME_PACKAGES[runtime], python, glibc, arch)


def runtime_wheel(runtime: str, python: str, glibc: str, arch: str) -> str | None:
    """The pinned wheel of any runtime of RUNTIME_PACKAGES; None for one that does not come as a wheel.

    Raises DeviceError when there is no wheel for such a board.
    """
    package = RUNTIME_PACKAGES.get(runtime)
    return _requirement(package, python, glibc, arch) if package else None


def board_requirements(
    runtime: str, pythons: Sequence[str], glibc: str = "2.28", arch: str = "aarch64"
) -> tuple[str, ...]:
    """Lines of a bundle's requirements.txt, the runtime's first: one a package, or one a Python where versions differ.

    Of a runtime that comes with the system, a comment says so.

    pythons: those that the device profile lists. A Python without wheels is left out as long as another has them.
    Raises as board_requirement does when none of them has.
    """
    served: dict[str, tuple[str, ...]] = {}
    refusal: DeviceError | None = None
    for python in pythons:
        try:
            served[_minor(python)] = (
                *(() if runtime in WITH_THE_SYSTEM else (board_requirement(runtime, python, glibc, arch),)),
                *(
                    _requirement(package, python, glibc, arch)
                    for package in (*COMPANIONS.get(runtime, ()), *AGENT_PACKAGES)
                ),
            )
        except DeviceError as error:
            refusal = refusal or error
    if not served:
        raise refusal or DeviceError(f"The device profile lists no Python to find wheels of {runtime} for.")
    lines = [WITH_THE_SYSTEM[runtime]] if runtime in WITH_THE_SYSTEM else []
    for pins in zip(*served.values(), strict=True):
        by_python = dict(zip(served, pins, strict=True))
        if len(set(pins)) == 1:
            lines.append(pins[0])
        else:
            lines += [f'{pin}; python_version == "{python}"' for python, pin in by_python.items()]
    return tuple(lines)


def _requirement(package: str, python: str, glibc: str, arch: str) -> str:
    wheels = [wheel for wheel in WHEELS[package] if arch in wheel.arches]
    for wheel in wheels:
        if _version(wheel.oldest) <= _version(_minor(python)) <= _version(wheel.newest) and (
            _version(glibc) >= _version(wheel.glibc)
        ):
            return f"{package}=={wheel.version}"
    nearest = wheels or WHEELS[package]
    pythons = sorted((version for wheel in nearest for version in (wheel.oldest, wheel.newest)), key=_version)
    oldest_glibc = min((wheel.glibc for wheel in nearest), key=_version)
    raise DeviceError(
        f"{package} has no wheel for Python {python} with glibc {glibc} on {arch}. "
        f"It has them for {' and '.join(ARCHES)}, Python {pythons[0]} to {pythons[-1]}, glibc {oldest_glibc} or later: "
        "install such a Python or system on the board."
    )


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
