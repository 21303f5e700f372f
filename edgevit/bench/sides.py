"""Sides: the reports and bundles that are compared, and bundles measured against each other, taking turns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgevit.artifact import Manifest
from edgevit.bench.compare import Difference
from edgevit.bench.interleave import ArtifactRun, measure_interleaved
from edgevit.bench.ratios import ratio
from edgevit.board.sensors import describe_machine
from edgevit.bundle import Bundle, is_bundle, load_bundle
from edgevit.errors import BadFileError, InputError
from edgevit.results import BenchReport


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
            documents[name] = _read_report(item)
    return Sides(documents, bundles)


def measured_differences(sides: Sides, threads: int | None) -> tuple[Difference, ...]:
    """The first bundle's latency against each other one's, when all sides are bundles made for this architecture.

    threads: for all; the first bundle's own number when None.
    """
    if len(sides.bundles) < len(sides.documents) or len(sides.bundles) < 2:
        return ()
    bundles = list(sides.bundles.items())
    if any(bundle.manifest.device.arch != describe_machine()["arch"] for _, bundle in bundles):
        return ()
    count = threads or bundles[0][1].manifest.device.threads
    runs = {name: _as_run(bundle, count) for name, bundle in bundles}
    timings = measure_interleaved(runs)
    first = bundles[0][0]
    differences = []
    for other, _ in bundles[1:]:
        failed = timings[first].failed or timings[other].failed
        if failed:
            sentence = f"{first} and {other} could not be measured: {failed}"
            differences.append(Difference(what="latency", first=first, other=other, is_real=None, sentence=sentence))
            continue
        found = ratio(timings[first].blocks, timings[other].blocks)
        turns = f"taking turns here, {count} thread{'' if count == 1 else 's'}"
        ends = f"95 % interval {found.ci95[0]:.2f} to {found.ci95[1]:.2f}, {turns}"
        words = f"{other} is {found.ratio:.2f} times as fast as {first}"
        if not found.is_real:
            words = f"{first} and {other} do not differ in latency beyond chance"
        differences.append(
            Difference(
                what="latency", first=first, other=other, is_real=found.is_real, ratio=found.ratio, ci95=found.ci95,
                sentence=f"{words} ({ends}).",
            )
        )  # fmt: skip
    return tuple(differences)


def _as_run(bundle: Bundle, threads: int) -> ArtifactRun:
    runtime = bundle.manifest.runtime
    return ArtifactRun(bundle.entry, runtime.name, threads, bundle.manifest.model.input_shape, runtime.session)


def _read_report(path: Path) -> BenchReport:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFileError(path, f"is neither a bundle nor a report ({error.strerror}).") from None
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("kind") != "bench":
        fix = "Write one with: edgevit bench BUNDLE -o report.json"
        raise BadFileError(path, "is neither a bundle nor a report of 'edgevit bench'.", fix=fix)
    try:
        return BenchReport.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where, problem = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        fix = "It was written by another edgevit, or changed."
        raise BadFileError(path, f"{problem}.", where=where, fix=fix) from None
