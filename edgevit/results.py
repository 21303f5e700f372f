"""What edgevit measured: accuracy, parity, latency, and the records that a run leaves behind."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgevit.policy import Policy
from edgevit.recipe import Budget
from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion

Interval = tuple[float, float]


class Accuracy(Record):
    """Top-1 in percent over `n` pictures, with its Wilson 95 % interval."""

    n: int = Field(gt=0)
    top1: float
    ci95: Interval


class AccuracyDrop(Record):
    """Reference minus candidate in percentage points (positive: the candidate is worse), paired on the same pictures.

    `p_value`: exact McNemar test of "both are equally accurate".
    """

    n: int = Field(gt=0)
    points: float
    ci95: Interval
    p_value: float


class Parity(Record):
    """How near one hop's logits are to its reference's, over `n` real pictures.

    sqnr_db is None when the two are identical. first_diverging_layer is named only on failure.
    `nonfinite`: pictures whose logits hold NaN or infinity; one is enough to fail, and they are left out of
    max_abs and sqnr_db.
    """

    hop: str
    n: int = Field(gt=0)
    cosine: float
    max_abs: float
    sqnr_db: float | None
    top1_agreement: float
    nonfinite: int = Field(default=0, ge=0)
    passed: bool
    first_diverging_layer: str | None = None


class Latency(Record):
    """Milliseconds per inference. p99 is None below 662 samples: it would be a guess."""

    runs: int = Field(gt=0)
    p50: float
    p90: float
    p99: float | None
    mean: float
    mad: float
    minimum: float
    maximum: float


class LatencyRatio(Record):
    """Median of A over median of B, interleaved, with a bootstrap 95 % interval; above 1: B is faster."""

    ratio: float
    ci95: Interval

    @property
    def is_real(self) -> bool:
        return not self.ci95[0] <= 1.0 <= self.ci95[1]


class SensorReading(Record):
    """One look at the machine. What it has no sensor for is None."""

    at: Literal["before", "during", "after"]
    governor: str | None = None
    clock_mhz: float | None = None
    clock_range_mhz: tuple[float, float] | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    throttle_flags: tuple[str, ...] = ()
    load_1min: float | None = None
    pressure_percent: float | None = None
    power_w: float | None = None


class Energy(Record):
    """Energy of one inference, what the machine takes when it idles included; `sensor` says what of it is counted.

    `missing`: why it is not available, in words, where it is not.
    """

    mj_per_inference: float | None = None
    power_w: float | None = None
    sensor: str = ""
    readings: int = 0
    missing: str = ""


class Machine(Record):
    """The machine that a figure was measured on."""

    cpu: str
    arch: str
    cores: int
    os: str
    python: str
    is_emulated: bool = False


class BenchReport(Record):
    """The document that `edgevit bench --json` and a bundle's `agent.py bench --json` both write.

    host: by which name ssh reached it; None for this machine.
    foreign_share: of the processors that it might run on, what other programs had. drift: latency of the last third of
    the run over the first, less one. Both None where the run was too short to tell.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["bench"] = "bench"
    edgevit: str
    model: str
    device: str
    host: str | None = None
    machine: Machine
    runtime: str
    runtime_version: str
    precision: str
    threads: int
    batch: int
    artifact_sha256: str
    latency_ms: Latency
    warmup_runs: int
    load_ms: float
    first_inference_ms: float
    peak_rss_mib: float
    sensors: tuple[SensorReading, ...]
    foreign_share: float | None = None
    drift: float | None = None
    energy: Energy | None = None
    is_valid: bool
    invalid_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    samples_ms: tuple[float, ...]


class CostEstimate(Record):
    """Instructions of one inference on one core of a kind that is not at hand, in millions. Never a latency.

    relative_error: the largest that the model of the core made on whole graphs that were counted. not_calibrated: how
    many nodes are of kernels that the core's table lacks, by kernel; the error says nothing about them.
    """

    core: str
    million_instructions: float = Field(gt=0)
    relative_error: float = Field(ge=0)
    not_calibrated: dict[str, int] = {}


class Candidate(Record):
    """One artifact that was tried. `latency_ms` is None where the target could not be measured.

    `name` is its own among the candidates. `rewrites`: those that changed its graph. estimate: where nothing could be
    measured and the target's core is known. `vs_fp32`: the fp32 candidate's latency over this one's, interleaved; above
    1 this one is faster. vs_exported: the same for the graph as the exporter left it. int8: by kind of operator, how
    many compute in INT8, and of how many.
    `why`: one sentence, why it was shipped or not.
    """

    name: str
    precision: str
    runtime: str
    policy: Policy = Policy()
    rewrites: tuple[str, ...] = ()
    size_mib: float
    latency_ms: Latency | None = None
    estimate: CostEstimate | None = None
    samples_ms: tuple[float, ...] = ()
    vs_fp32: LatencyRatio | None = None
    vs_exported: LatencyRatio | None = None
    int8: dict[str, tuple[int, int]] = {}
    accuracy: Accuracy | None = None
    drop: AccuracyDrop | None = None
    parity: tuple[Parity, ...] = ()
    shipped: bool = False
    failed: str | None = None
    why: str = ""


class Verdict(Record):
    """`shipped`: name of the candidate in the bundle; `sentences`: what was tried and what lost, and why, in words.

    within_budget is None when a limit was asked for that could not be checked (a sentence says which).
    """

    shipped: str
    budget: Budget
    within_budget: bool | None
    sentences: tuple[str, ...]


class Epoch(Record):
    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_top1: float
    seconds: float


class TestResult(Record):
    """`confusion[i][j]`: pictures of class i that were taken for class j, by the shipped artifact."""

    accuracy: Accuracy
    confusion: tuple[tuple[int, ...], ...]


class Provenance(Record):
    """`versions`: of the libraries used; `seconds`: wall time by stage; `skipped`: pictures left out, and why."""

    edgevit: str
    started: str
    machine: Machine
    versions: dict[str, str]
    seconds: dict[str, float]
    skipped: dict[str, str] = {}


class RunMetrics(Record):
    """metrics.json of a run directory: everything that its page shows.

    fp32_test, shipped_test and drop are on the test split; the candidates' accuracies, by which the choice was made, on
    the validation split.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["run"] = "run"
    name: str
    recipe: dict[str, Any]
    device: str
    labels: tuple[str, ...]
    pictures: dict[str, int]
    weights: str
    curves: tuple[Epoch, ...] = ()
    fp32_test: Accuracy | None
    shipped_test: TestResult | None
    drop: AccuracyDrop | None
    candidates: tuple[Candidate, ...]
    verdict: Verdict
    bench: BenchReport | None
    bundle: str
    provenance: Provenance
