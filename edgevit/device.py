"""Device: what an artifact will run on. The types of a device profile, frozen and validated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, HttpUrl, PositiveFloat, PositiveInt

from edgevit.recipe import Name, Precision
from edgevit.schema import Record

Arch = Literal["aarch64", "armv7", "x86_64"]
Sensors = Literal["raspberry-pi", "jetson", "rapl", "none"]
BoardRuntime = Literal["onnxruntime", "torchscript", "litert", "tensorrt", "executorch", "openvino"]


class CoreCluster(Record):
    """Cores of one kind. Peak figures are per core and cycle; a multiply-accumulate counts as two operations."""

    model: str
    cores: PositiveInt
    clock_mhz: PositiveInt
    fp32_flops_per_cycle: PositiveInt
    fp16_flops_per_cycle: PositiveInt | None = None
    int8_ops_per_cycle: PositiveInt


class Cpu(Record):
    """`clusters`: fastest first. `isa`: flags as /proc/cpuinfo spells them."""

    clusters: Annotated[tuple[CoreCluster, ...], Field(min_length=1)]
    isa: tuple[str, ...]

    @property
    def cores(self) -> int:
        return sum(cluster.cores for cluster in self.clusters)


class Caches(Record):
    l1d_kib: PositiveInt | None = None
    l2_kib: PositiveInt | None = None
    l3_kib: PositiveInt | None = None


class Memory(Record):
    ram_mib: PositiveInt
    bandwidth_gb_s: PositiveFloat | None = None


class Accelerator(Record):
    name: str
    kind: Literal["gpu", "npu"]
    compute_capability: str | None = None
    fp16_tflops: PositiveFloat | None = None
    int8_tops: PositiveFloat | None = None


class OperatingSystem(Record):
    name: str
    glibc: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    python: Annotated[tuple[str, ...], Field(min_length=1)]


class QuantizationPreset(Record):
    """What INT8 means on this device. `precision` ships where nothing can be measured.

    reduce_range: 7-bit weights, for 8-bit x86 without VNNI, where 16-bit sums saturate.
    Source: ONNX Runtime, "Quantize ONNX models", section on reduce_range.
    """

    precision: Precision
    activation: Literal["uint8", "int8"]
    weight: Literal["uint8", "int8"]
    per_channel: bool
    reduce_range: bool
    symmetric: bool
    why: str


class Limits(Record):
    latency_ms: PositiveFloat | None = None
    size_mib: PositiveFloat | None = None
    rss_mib: PositiveFloat | None = None


class Emulator(Record):
    cpu: str


class Toolchain(Record):
    triple: str


class Source(Record):
    """`covers`: the keys of the profile whose figures stand at `url`; `note` says how a derived figure was derived."""

    covers: Annotated[tuple[str, ...], Field(min_length=1)]
    url: HttpUrl | None = None
    note: str = ""


class Device(Record):
    name: Name
    title: str
    arch: Arch
    cpu: Cpu
    caches: Caches
    memory: Memory
    accelerator: Accelerator | None = None
    os: OperatingSystem
    runtimes: Annotated[tuple[BoardRuntime, ...], Field(min_length=1)]
    quantization: QuantizationPreset
    threads: PositiveInt
    sensors: Sensors
    limits: Limits = Limits()
    emulator: Emulator | None = None
    toolchain: Toolchain | None = None
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
