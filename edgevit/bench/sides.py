"""Sides: the reports and bundles that are compared, and bundles measured against each other, taking turns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgevit.artifact import Manifest
from edgevit.bench.compare import Comparison, Difference, Row, compare, latency_difference, machine_words
from edgevit.bench.interleave import ArtifactRun, Interleaved, measure_interleaved
from edgevit.bench.ratios import ratio
from edgevit.benchreport import BenchDocument, BenchReport, BenchSweep, Latency, Machine
from edgevit.board.sensors import describe_machine
from edgevit.board.stats import summarize
from edgevit.board.sweep import thread_words
from edgevit.bundle import Bundle, is_bundle, load_bundle
from edgevit.errors import BadFileError, InputError
from edgevit.units import MIB

MAX_REPORT_BYTES = 64 * MIB  # what a board may send, too


@dataclass(frozen=True)
class Sides:
    """`documents`: by name, in the order given. `bundles`: those of them that can be run."""

    documents: dict[str, BenchReport | Manifest]
    bundles: dict[str, Bundle]


def read_sides(items: tuple[Path, ...]) -> Sides:
    """Raises BadFileError for what is neither a report nor a bundle, InputError when one is named twice."""
    documents: dict[str, BenchReport | Manifest] = {}
    bundles: dict[str, Bundle] = {}
    for item in items:
        name = str(item)
        if name in documents:
            raise InputError(f"{name}: is named twice.")
        if is_bundle(item):
            bundles[name] = load_bundle(item)
            documents[name] = bundles[name].manifest
        else:
            documents[name] = read_report(item)
    return Sides(documents, bundles)


def read_report(path: Path) -> BenchReport:
    """The one report that `edgevit bench -o` wrote. Raises BadFileError for anything else, a sweep among it."""
    document = _read_document(path)
    if isinstance(document, BenchSweep):
        problem = f"is a sweep of {len(document.reports)} reports, and one is compared."
        raise BadFileError(path, problem, fix="Measure with one number of --threads.")
    return document


def read_reports(path: Path) -> tuple[BenchReport, ...]:
    """The report that `edgevit bench -o` wrote, or those of its sweep. Raises BadFileError for anything else."""
    document = _read_document(path)
    return document.reports if isinstance(document, BenchSweep) else (document,)


def compare_sides(sides: Sides, threads: int | None) -> Comparison:
    """What the documents say of each other; bundles that can run here are measured for it, taking turns.

    They are when all sides are bundles made for this architecture. threads: for all; the first bundle's own number
    when None. Raises InputError for fewer than two sides.
    """
    comparison = compare(sides.documents)
    count = threads or next((bundle.manifest.device.threads for bundle in sides.bundles.values()), 1)
    timings = _timings(sides, count)
    return comparison.model_copy(
        update={
            "rows": tuple(_with_latency(row, timings.get(row.name), count) for row in comparison.rows),
            "differences": (*comparison.differences, *_differences(timings, count)),
        }
    )


def bundle_run(bundle: Bundle, threads: int) -> ArtifactRun:
    """How a bundle's artifact is run here."""
    runtime = bundle.manifest.runtime
    return ArtifactRun(bundle.entry, runtime.name, threads, bundle.manifest.model.input_shape, runtime.session)


def _read_document(path: Path) -> BenchDocument:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_REPORT_BYTES + 1)
    except OSError as error:
        raise BadFileError(path, f"is neither a bundle nor a report ({error.strerror}).") from None
    if len(raw) > MAX_REPORT_BYTES:
        raise BadFileError(path, f"has more than {MAX_REPORT_BYTES // MIB} MiB, which no report has.")
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("kind") not in ("bench", "bench-sweep"):
        fix = "Write one with: edgevit bench BUNDLE -o report.json"
        raise BadFileError(path, "is neither a bundle nor a report of 'edgevit bench'.", fix=fix)
    kind = BenchReport if document["kind"] == "bench" else BenchSweep
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where, problem = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        fix = "It was written by another edgevit, or changed."
        raise BadFileError(path, f"{problem}.", where=where, fix=fix) from None


def _timings(sides: Sides, threads: int) -> dict[str, Interleaved]:
    """By name, in the order of the sides; empty where they cannot be measured against each other."""
    here = describe_machine()["arch"]
    are_for_here = all(bundle.manifest.device.arch == here for bundle in sides.bundles.values())
    if len(sides.bundles) < len(sides.documents) or not are_for_here:
        return {}
    return measure_interleaved({name: bundle_run(bundle, threads) for name, bundle in sides.bundles.items()})


def _with_latency(row: Row, timing: Interleaved | None, threads: int) -> Row:
    if timing is None or timing.failed:
        return row
    latency = Latency(**summarize(timing.samples_ms))
    figures = {"p50_ms": latency.p50, "p90_ms": latency.p90, "p99_ms": latency.p99, "runs": latency.runs}
    return row.model_copy(
        update={**figures, "threads": threads, "machine": machine_words(Machine(**describe_machine()))}
    )


def _differences(timings: Mapping[str, Interleaved], threads: int) -> tuple[Difference, ...]:
    """The first one against each other."""
    if not timings:
        return ()
    first, *others = timings
    turns = f"taking turns here, {thread_words(threads)}"
    return tuple(_difference(first, timings[first], other, timings[other], turns) for other in others)


def _difference(first: str, first_timing: Interleaved, other: str, timing: Interleaved, turns: str) -> Difference:
    failed = first_timing.failed or timing.failed
    if failed:
        sentence = f"{first} and {other} could not be measured: {failed}"
        return Difference(what="latency", first=first, other=other, is_real=None, sentence=sentence)
    return latency_difference(first, other, ratio(first_timing.blocks, timing.blocks), turns)
