"""Report: what emulation found out about a bundle. Nothing in it was timed: emulated time says nothing of a board's."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt

from edgevit.artifact import GoldenThresholds
from edgevit.results import Accuracy, LatencyPrediction
from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion

EMULATED = "emulated, not a latency"


class InstructionCounts(Record):
    """Instructions of one inference; each is in one class.

    dot_products: SDOT, UDOT and their like, four bytes a lane. matrix_products: SMMLA and its like. integer_products:
    SMULL, SMLAL, MLA and their like on vectors. float_products: fused multiply-adds. simd_other: what else is done to
    vectors and floats. integer: addresses, counters, comparisons.
    """

    dot_products: NonNegativeInt
    matrix_products: NonNegativeInt
    integer_products: NonNegativeInt
    float_products: NonNegativeInt
    simd_other: NonNegativeInt
    simd_loads_stores: NonNegativeInt
    loads_stores: NonNegativeInt
    branches: NonNegativeInt
    integer: NonNegativeInt
    other: NonNegativeInt

    @property
    def total(self) -> int:
        return sum(self.model_dump().values())

    def share(self, name: str) -> float:
        """0 to 1; 0 where nothing was counted."""
        return int(getattr(self, name)) / self.total if self.total else 0.0


class Agreement(Record):
    """How near the emulated logits are to expected ones, as in board.inference.agreement."""

    n: int
    cosine: float
    max_abs: float
    top1_agreement: float
    nonfinite: int


class OnPictures(Record):
    """The same validation pictures here and there; this machine's integer sums were exact."""

    data: str
    agreement: Agreement
    host: Accuracy
    emulated: Accuracy


class EmulationReport(Record):
    """The document that `edgevit bench --emulate --json` writes.

    cpu: qemu's name of it. golden: against what the bundle says that its model answers, held to `thresholds`.
    peak_rss_mib: of the emulator and what runs in it. instructions: of the second inference, million_instructions in
    all; None where nothing could be counted, and a note says why. prediction: what the board itself would take; not
    from emulation, and None where it cannot be said, which a note explains.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["emulation"] = "emulation"
    what: Literal["emulated, not a latency"] = "emulated, not a latency"
    edgevit: str
    model: str
    device: str
    cpu: str
    emulator: str
    system: str
    python: str
    runtime: str
    runtime_version: str
    precision: str
    threads: int
    batch: int
    artifact_sha256: str
    golden: Agreement
    thresholds: GoldenThresholds
    passed: bool
    pictures: OnPictures | None
    peak_rss_mib: float
    million_instructions: float | None
    instructions: InstructionCounts | None
    kernels: str
    prediction: LatencyPrediction | None = None
    notes: tuple[str, ...]
