"""The reports of a measurement: what `edgevit bench --json` and a bundle's `agent.py bench --json` both write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, TypeAdapter, model_validator

from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion

# A report may come from a board that is broken or hostile: what no machine can have measured is none.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Core = Annotated[int, Field(ge=0, le=8191)]  # the most that Linux can be built for
Percent = Annotated[float, Field(ge=0.0001, le=99.9999)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
NonNegative = Annotated[float, Field(ge=0, le=1e12)]
MilliJoules = Annotated[NonNegative | None, Field(validation_alias=AliasChoices("mj_per_picture", "mj_per_inference"))]


class Latency(Record):
    """Milliseconds per inference. p99 is None below 662 samples: it would be a guess."""

    runs: int = Field(gt=0)
    p50: Positive
    p90: Positive
    p99: Positive | None
    mean: Positive
    mad: NonNegative
    minimum: Positive
    maximum: Positive


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
    """Energy of one picture, what the machine takes when it idles included; `sensor` says what of it is counted.

    An inference of a batch takes its pictures' together. Reports of before call the same figure mj_per_inference.

    `missing`: why it is not available, in words, where it is not.
    """

    mj_per_picture: MilliJoules = None
    power_w: NonNegative | None = None
    sensor: str = ""
    readings: int = Field(default=0, ge=0)
    missing: str = ""


class Machine(Record):
    """The machine that a figure was measured on."""

    cpu: str
    arch: str
    cores: Count
    os: str
    python: str
    is_emulated: bool = False


class Percentile(Record):
    """A percentile that was asked for. ms is None where there were fewer runs than `needed`."""

    percent: Percent
    ms: Positive | None
    needed: int = Field(ge=1)


class ColdStart(Record):
    """Medians of the parts of a start, in ms, from the start of a process on: Python and this program, the check of
    the bundle's files, the runtime's import, the model's load, the first inference. spread_ms: slowest less fastest.
    """

    starts: Count
    python_ms: NonNegative
    check_ms: NonNegative
    import_ms: NonNegative
    load_ms: NonNegative
    first_inference_ms: NonNegative
    first_start_ms: NonNegative
    spread_ms: NonNegative


class CoolDown(Record):
    """What was waited before the measurement. Degrees are None without a sensor."""

    seconds: NonNegative
    from_c: float | None
    to_c: float | None
    is_at_rest: bool


class BenchReport(Record):
    """The document that `edgevit bench --json` and a bundle's `agent.py bench --json` both write.

    host: by which name ssh reached it; None for this machine. mode: 'streams' with more than one at a time, each with
    a session and `threads` of its own; 'single-stream' is like MLPerf's; in 'cold-start' a sample is a whole start.
    cores: those that the process was held to. A latency is that of a batch; pictures_per_s is what all streams did.
    early_stopping_p90_ms: of single-stream, see board.stats.early_stopping_estimate.
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
    mode: Literal["latency", "streams", "single-stream", "cold-start"] = "latency"
    threads: Count
    batch: Count
    streams: Count = 1
    cores: Annotated[tuple[Core, ...], Field(min_length=1, max_length=8192)] | None = None
    artifact_sha256: str
    latency_ms: Latency
    percentiles: Annotated[tuple[Percentile, ...], Field(max_length=32)] = ()
    early_stopping_p90_ms: Positive | None = None
    pictures_per_s: Positive | None = None
    cold_start: ColdStart | None = None
    warmup_runs: int = Field(ge=0)
    load_ms: NonNegative
    first_inference_ms: NonNegative
    peak_rss_mib: NonNegative
    sensors: tuple[SensorReading, ...]
    foreign_share: float | None = None
    drift: float | None = None
    cool_down: CoolDown | None = None
    energy: Energy | None = None
    is_valid: bool
    invalid_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    samples_ms: tuple[float, ...]

    @model_validator(mode="after")
    def _starts_where_they_were_timed(self) -> BenchReport:
        if (self.mode == "cold-start") != (self.cold_start is not None):
            raise ValueError("mode 'cold-start' and the figures of cold_start come together")
        return self


class SweepRow(Record):
    """speed_up: over one thread; efficiency: that by threads. Both None where one thread was not measured."""

    threads: Count
    p50_ms: Positive
    p90_ms: Positive
    pictures_per_s: Positive | None
    mj_per_picture: MilliJoules
    speed_up: Positive | None
    efficiency: Positive | None
    is_valid: bool


class BenchSweep(Record):
    """The document of a bench with several thread counts: a report of each, in the order asked for.

    best_threads: the fewest threads that bring the lowest median; None when no report is valid.
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["bench-sweep"] = "bench-sweep"
    rows: tuple[SweepRow, ...]
    best_threads: Count | None
    sentence: str
    is_valid: bool
    invalid_reasons: tuple[str, ...] = ()
    reports: Annotated[tuple[BenchReport, ...], Field(min_length=1)]


# What one call of `edgevit bench` measures on one machine, told apart by its kind.
BenchDocument = BenchReport | BenchSweep
DOCUMENT_KIND: TypeAdapter[BenchDocument] = TypeAdapter(Annotated[BenchDocument, Field(discriminator="kind")])
