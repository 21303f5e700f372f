"""What edgevit measured: accuracy, parity, latency, and the records that a run leaves behind."""

from __future__ import annotations

import itertools
from typing import Any, Literal

from pydantic import Field, PositiveInt

from edgevit.benchreport import BenchReport, Latency, Machine
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


class LatencyRatio(Record):
    """Median of A over median of B, interleaved, with a bootstrap 95 % interval; above 1: B is faster."""

    ratio: float
    ci95: Interval

    @property
    def is_real(self) -> bool:
        return not self.ci95[0] <= 1.0 <= self.ci95[1]


class CostEstimate(Record):
    """Instructions of one inference on one core of a kind that is not at hand, in millions. Never a latency.

    relative_error: the largest that the model of the core made on whole graphs that were counted. not_calibrated: how
    many nodes are of kernels that the core's table lacks, by kernel; the error says nothing about them.
    """

    core: str
    million_instructions: float = Field(gt=0)
    relative_error: float = Field(ge=0)
    not_calibrated: dict[str, int] = {}


class LatencyPrediction(Record):
    """What one inference would take on a board that nobody measured, in milliseconds. Never a measurement.

    median_milliseconds: the expected median; interval90_milliseconds: nine of ten medians lie in it. runtime: whose
    kernels are meant. basis: in words, which measured rows it stands on. Milliseconds are spelled out, so that
    who looks for a measured '_ms' does not find these.
    """

    what: Literal["predicted, not measured"] = "predicted, not measured"
    device: str
    runtime: str
    threads: int
    median_milliseconds: float = Field(gt=0)
    interval90_milliseconds: Interval
    basis: str


class Candidate(Record):
    """One artifact that was tried. `latency_ms` is None where the target could not be measured.

    `name` is its own among the candidates. `rewrites`: those that changed its graph. estimate: where nothing could be
    measured and the target's core is known. `samples_ms`: by rounds in which all took turns, of `runs_by_round` runs
    each. `vs_fp32`: the fp32 candidate's latency over this one's, interleaved; above 1 this one is faster. vs_exported:
    the same for the graph as the exporter left it. int8: by kind of operator, how many compute in INT8, and of how
    many. `remarks`: sentences on what it computes.
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
    runs_by_round: tuple[int, ...] = ()
    vs_fp32: LatencyRatio | None = None
    vs_exported: LatencyRatio | None = None
    int8: dict[str, tuple[int, int]] = {}
    remarks: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    drop: AccuracyDrop | None = None
    parity: tuple[Parity, ...] = ()
    shipped: bool = False
    failed: str | None = None
    why: str = ""

    @property
    def rounds_ms(self) -> tuple[tuple[float, ...], ...]:
        """The latencies of each round; empty where nothing was measured in turns."""
        ends = [0, *itertools.accumulate(self.runs_by_round)]
        return tuple(self.samples_ms[start:end] for start, end in itertools.pairwise(ends))


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


# number: built, says the same, and measured or estimated. exported: the same without a figure of speed.
# parity: built, and says something else. nothing: not built.
MatrixOutcome = Literal["number", "exported", "parity", "nothing"]


class MatrixCell(Record):
    """One runtime in one precision, by the fastest sound candidate of those. `reason`: of everything but a number.

    million_instructions: estimated, where the device is not here. cosine, top1_agreement: with the model's source, the
    least of all hops.
    """

    runtime: str
    precision: str
    outcome: MatrixOutcome
    candidate: str = ""
    p50_ms: float | None = None
    million_instructions: float | None = None
    size_mib: float | None = None
    accuracy: Accuracy | None = None
    drop: AccuracyDrop | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    reason: str = ""
    link: str = ""


class ModelMatrix(Record):
    model: str
    weights: str
    cells: tuple[MatrixCell, ...]


class Matrix(Record):
    """matrix.json. measured_on: this machine's CPU; None where the device is not here."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["matrix"] = "matrix"
    edgevit: str
    device: str
    machine: Machine
    measured_on: str | None
    threads: PositiveInt
    written: str
    versions: dict[str, str]
    models: tuple[ModelMatrix, ...]

    @property
    def share_of_numbers(self) -> float:
        """Of all cells, from 0 to 1."""
        cells = [cell for row in self.models for cell in row.cells]
        return sum(cell.outcome == "number" for cell in cells) / len(cells) if cells else 0.0
