"""Coefficients: what a roofline needs beside a board's figures. Each has a prior; rows move them from there.

All are logarithms, so that they add up: a share of the peak is that of the kind of operator, times what the library
makes of it, times what the core makes of it, times what the board does. A board, core or library that no row speaks of
keeps its prior, and the interval says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgevit.errors import InputError
from edgevit.latency.operators import Kind, Precision

Key = tuple[str, ...]

# Kernels by runtime: LiteRT and ExecuTorch compute with the same ones.
LIBRARIES = {
    "onnxruntime": "MLAS",
    "litert": "XNNPACK",
    "executorch": "XNNPACK",
    "xnnpack": "XNNPACK",
    "openvino": "oneDNN",
    "torchscript": "ATen",
    "torch-compile": "Inductor",
    "ncnn": "ncnn",
}


@dataclass(frozen=True)
class Prior:
    """Of a logarithm: 0.5 is a factor of 1.65 either way."""

    mean: float
    deviation: float


# Shares of a core's peak, in the middle of what libraries reach; those that multiply nothing: elements per operation.
# Attention's products and the elementwise ones as in a profile of DeiT-Ti (ONNX Runtime 1.31, fp32, AVX2): 64 % of the
# time for the linear layers, 11 % for attention's products, 9 % for GELU in five elementwise steps.
SHARE_OF_PEAK: dict[Kind, float] = {
    "dense": 0.5, "dense 3x3": 0.5, "pointwise": 0.5, "depthwise": 0.15, "grouped": 0.2, "linear": 0.5,
    "attention": 0.5, "elementwise": 0.08, "nonlinear": 0.02, "layout": 0.05,
}  # fmt: skip
KIND_DEVIATION = 0.3
# Winograd's algorithm multiplies less; the other libraries that are known here have none for CPUs, or use it rarely.
# Source: https://github.com/Tencent/ncnn/tree/master/src/layer/arm, convolution_3x3_winograd.h.
WINOGRAD: Key = ("library and kind", "ncnn", "dense 3x3")
WINOGRAD_SAVES = 2.0
OFFSETS = {
    "library": Prior(0.0, 0.5),
    "library and kind": Prior(0.0, 0.35),
    "core": Prior(0.0, 0.35),
    "board": Prior(0.0, 0.15),
    "board and library": Prior(0.0, 0.15),
    "model and library": Prior(0.0, 0.3),
}
BANDWIDTH = Prior(math.log(0.5), 0.7)  # share of the memory's peak; above one where caches hold what is read
BOARD_BANDWIDTH = Prior(0.0, 0.3)
OVERHEAD = Prior(math.log(4000.0), 1.0)  # cycles per operator and thread, which each must be woken
LIBRARY_OVERHEAD = Prior(0.0, 0.5)
SERIAL = Prior(math.log(0.08 / 0.92), 1.0)  # log-odds of the fraction that one thread does
SERIAL_OFFSETS = {"library": Prior(0.0, 0.5), "board": Prior(0.0, 0.7)}


def library_of(runtime: str) -> str:
    """Raises InputError for a runtime that computes elsewhere than on the CPU, or that nothing is known of."""
    if runtime not in LIBRARIES:
        known = ", ".join(sorted(LIBRARIES))
        raise InputError(f"Latencies of the runtime '{runtime}' cannot be predicted. Known: {known}.")
    return LIBRARIES[runtime]


def share_keys(kind: Kind, precision: Precision, model: str, library: str, core: str, board: str) -> tuple[Key, ...]:
    """The coefficients whose sum is the logarithm of an operator's share of the peak."""
    return (
        ("kind", kind),
        ("library", library, precision),
        ("library and kind", library, kind, precision),
        ("core", core, precision),
        ("board", board),
        ("board and library", board, library),
        ("model and library", model, library),
    )


def bandwidth_keys(board: str) -> tuple[Key, ...]:
    return ("bandwidth",), ("bandwidth", board)


def overhead_keys(library: str) -> tuple[Key, ...]:
    return ("overhead",), ("overhead", library)


def serial_keys(library: str, board: str) -> tuple[Key, ...]:
    return ("serial",), ("serial", "library", library), ("serial", "board", board)


def prior_of(key: Key) -> Prior:
    """The prior of any coefficient."""
    name, *rest = key
    if name == "kind":
        return Prior(math.log(SHARE_OF_PEAK[rest[0]]), KIND_DEVIATION)  # type: ignore[index]
    if name == "bandwidth":
        return BOARD_BANDWIDTH if rest else BANDWIDTH
    if name == "overhead":
        return LIBRARY_OVERHEAD if rest else OVERHEAD
    if name == "serial":
        return SERIAL_OFFSETS[rest[0]] if rest else SERIAL
    offset = OFFSETS[name]
    return Prior(math.log(WINOGRAD_SAVES), offset.deviation) if key[:3] == WINOGRAD else offset
