"""Artifact and bundle: the types of manifest.json, frozen and validated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from edgevit.policy import Policy
from edgevit.recipe import DataSpec
from edgevit.results import Accuracy, AccuracyDrop, Parity, Verdict
from edgevit.schema import SCHEMA_VERSION, Record

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleFile(Record):
    sha256: Sha256
    size: NonNegativeInt


class RuntimeSpec(Record):
    """`entry`: the model's file in the bundle. `session`: the runtime's own configuration entries."""

    name: str
    version: str
    entry: str
    session: dict[str, str] = {}


class ModelInfo(Record):
    """`weights` is 'pretrained', 'random' or 'checkpoint'; accuracy means nothing when it is 'random'."""

    name: str
    weights: Literal["pretrained", "random", "checkpoint", "unknown"]
    input_shape: tuple[int, int, int, int]
    classes: int
    parameters: int | None = None
    trained_on: DataSpec | None = None


class TargetInfo(Record):
    """`measured_on`: the machine that decided, or None when nothing was measured on the board itself."""

    name: str
    arch: str
    threads: int
    measured_on: str | None


class BundleAccuracy(Record):
    """None where there was no labelled data, or where the weights are random."""

    fp32: Accuracy | None = None
    artifact: Accuracy | None = None
    drop: AccuracyDrop | None = None
    note: str = ""


class GoldenThresholds(Record):
    """What the board's logits must share with golden.npz to pass its self-check."""

    cosine: float
    top1_agreement: float


class Manifest(Record):
    """`policy`: how the artifact was made of the model; `rewrites`: those that changed its graph.
    int8: by kind of operator, how many compute in INT8, and of how many.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["bundle"] = "bundle"
    edgevit: str
    created: str
    model: ModelInfo
    device: TargetInfo
    precision: str
    runtime: RuntimeSpec
    accuracy: BundleAccuracy
    calibration: str | None
    policy: Policy = Policy()
    rewrites: tuple[str, ...] = ()
    int8: dict[str, tuple[int, int]] = {}
    parity: tuple[Parity, ...]
    golden: GoldenThresholds
    verdict: Verdict
    files: dict[str, BundleFile]
