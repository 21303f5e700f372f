"""Profile: the document of `edgevit profile --json`, as frozen records."""

from __future__ import annotations

from typing import Literal

from edgevit.benchreport import Machine
from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion

Arithmetic = Literal["int8", "float"]


class TensorType(Record):
    """`dtype` as the runtime calls it: 'float', 'int8', 'uint8', 'int64'."""

    dtype: str
    shape: tuple[int, ...]


class NodeTime(Record):
    """One node of the graph that the runtime executes, after its fusions.

    module: the torch module that it computes, '' for the model itself, None when nothing tells.
    median_ms: of its kernel, over the counted runs. The runtime's clock has steps of 1 µs.
    macs: multiply-accumulates of a matrix product or convolution, None for other operators.
    inputs: what the runtime still reads; weights that it packed beforehand are not among them.
    """

    name: str
    op_type: str
    provider: str
    module: str | None
    part: str
    arithmetic: Arithmetic
    has_weights: bool
    median_ms: float
    macs: int | None
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


class OperatorRow(Record):
    """Nodes of one kind together. share, share_of_peak: percent; `share` is of all kernels' time.

    arithmetic: None for data movement and conversions. share_of_peak: gmac_per_s against the GEMM of this arithmetic.
    """

    operator: str
    part: str
    arithmetic: Arithmetic | None
    nodes: int
    ms: float
    share: float
    macs: int | None
    gmac_per_s: float | None
    share_of_peak: float | None


class ModuleRow(Record):
    """Nodes of one torch module together, such as 'blocks.3.attn', or of its kind, 'blocks.*.attn'.

    share: percent of all kernels' time.
    """

    module: str
    nodes: int
    ms: float
    share: float
    macs: int


class Peak(Record):
    """The fastest run of a square matrix product in the same runtime with as many threads, in GMAC/s."""

    fp32_gmac_per_s: float
    int8_gmac_per_s: float


class Profile(Record):
    """wall_ms: median latency without profiling; profiled_ms: with it, in turns; kernels_ms: sum of all nodes' medians.

    outside_ms: what a profiled run spends outside of kernels, median: the runtime's and the profiler's own work.
    kinds: `modules` with those together whose paths differ in numbers only.
    float_weights: names of the nodes that multiply by weights in float although the model also multiplies in INT8.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["profile"] = "profile"
    edgevit: str
    bundle: str
    model: str
    device: str
    precision: str
    machine: Machine
    runtime: str
    runtime_version: str
    threads: int
    batch: int
    artifact_sha256: str
    runs: int
    warmup_runs: int
    wall_ms: float
    profiled_ms: float
    kernels_ms: float
    outside_ms: float
    peak: Peak
    operators: tuple[OperatorRow, ...]
    kinds: tuple[ModuleRow, ...]
    modules: tuple[ModuleRow, ...]
    float_weights: tuple[str, ...]
    notes: tuple[str, ...]
    nodes: tuple[NodeTime, ...]


class Change(Record):
    """Kernel time of one part or module in two profiles; 0 where a profile has none of it."""

    name: str
    before_ms: float
    after_ms: float
    difference_ms: float


class ProfileComparison(Record):
    """Two bundles that took turns on one machine."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["profile-comparison"] = "profile-comparison"
    before: Profile
    after: Profile
    parts: tuple[Change, ...]
    kinds: tuple[Change, ...]
    modules: tuple[Change, ...]
