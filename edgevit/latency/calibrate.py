"""Calibrate: what reports of a board teach, and what that does to the predictions of the very same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from edgevit.bench.samples import follows_from_samples
from edgevit.bench.sides import read_reports
from edgevit.benchreport import BenchReport
from edgevit.bundle import Bundle
from edgevit.catalog import list_devices, load_device
from edgevit.device import Device
from edgevit.errors import InputError
from edgevit.latency.own import OwnRow, read_own, with_rows, write_own
from edgevit.latency.predict import bundle_situation, load_predictor
from edgevit.machine.localdevice import LOCAL
from edgevit.schema import Record


class Lesson(Record):
    """One report, and what was predicted of it without and with all reports of this call, in milliseconds.

    Predictions are spelled out, '_milliseconds': who looks for a measured '_ms' does not find one.
    """

    report: str
    model: str
    precision: str
    device: str
    threads: int
    measured_p50_ms: float
    predicted_before_milliseconds: float
    predicted_now_milliseconds: float

    @property
    def error_before(self) -> float:
        return self.predicted_before_milliseconds / self.measured_p50_ms - 1

    @property
    def error_now(self) -> float:
        return self.predicted_now_milliseconds / self.measured_p50_ms - 1


class Calibration(Record):
    """`path`: where the rows are kept. rows: all of them."""

    path: str
    rows: int
    lessons: tuple[Lesson, ...]


def calibrate(reports: Sequence[Path], bundles: Sequence[Bundle], device: str | None) -> Calibration:
    """Adds the reports, and those of sweeps, to the user's rows.

    bundles: those that were measured; device: whose profile holds for all. Raises InputError for a report that is
    invalid, emulated, of no such bundle, of a board without a profile or of anything else than one inference after the
    other, and for one whose figures do not follow from its samples; then nothing is written.
    """
    read = [(path, report) for path in dict.fromkeys(reports) for report in read_reports(path)]
    new = [own_row(path, report, bundles, device) for path, report in read]
    known = read_own()
    rows = with_rows(known, new)
    before, now = load_predictor(_without(known, new)), load_predictor(rows)
    lessons = tuple(
        Lesson(
            report=str(path),
            model=row.model,
            precision=row.precision,
            device=row.device,
            threads=row.threads,
            measured_p50_ms=row.p50_ms,
            predicted_before_milliseconds=before.predict(row.situation).median_milliseconds,
            predicted_now_milliseconds=now.predict(row.situation).median_milliseconds,
        )
        for (path, _), row in zip(read, new, strict=True)
    )
    return Calibration(path=str(write_own(rows)), rows=len(rows), lessons=lessons)


def own_row(path: Path, report: BenchReport, bundles: Sequence[Bundle], device: str | None) -> OwnRow:
    """A report as a row. Raises as calibrate does."""
    if not report.is_valid:
        raise InputError(f"{path}: is an invalid measurement ({'; '.join(report.invalid_reasons)}). Measure again.")
    if report.machine.is_emulated:
        raise InputError(f"{path}: was measured on an emulated machine, whose time says nothing of a board's.")
    bundle = _bundle_of(path, report, bundles)
    profile = _profile(path, report, device)
    if profile.arch != report.machine.arch:
        what = f"was measured on {report.machine.arch}, and {profile.name} is {profile.arch}"
        raise InputError(f"{path}: {what}. Name the board's profile with --device.")
    _check_is_inference(path, report, bundle)
    _check_cores(path, report, profile)
    if not follows_from_samples(report):
        raise InputError(f"{path}: its figures do not follow from its samples. It was changed: measure again.")
    situation = bundle_situation(bundle, profile, report.threads)
    return OwnRow(
        model=situation.model,
        precision=report.precision,
        device=profile.name,
        host=report.host or "",
        runtime=report.runtime,
        runtime_version=report.runtime_version,
        threads=report.threads,
        artifact_sha256=report.artifact_sha256,
        p50_ms=report.latency_ms.p50,
        machine=situation.machine,
        operators=tuple(astuple(item) for item in situation.operators),
    )


def _bundle_of(path: Path, report: BenchReport, bundles: Sequence[Bundle]) -> Bundle:
    for bundle in bundles:
        if bundle.manifest.files[bundle.manifest.runtime.entry].sha256 == report.artifact_sha256:
            return bundle
    what = f"is of the artifact {report.artifact_sha256[:12]}…, which is in no bundle that was named"
    raise InputError(f"{path}: {what}. Name the bundle that was measured with --bundle.")


def _check_is_inference(path: Path, report: BenchReport, bundle: Bundle) -> None:
    """Raises InputError for a report whose latency is not that of the bundle's inferences, one after the other."""
    manifest = bundle.manifest
    for what, stated, wanted in (
        ("mode", report.mode, "latency"),
        ("streams", report.streams, 1),
        ("batch", report.batch, manifest.model.input_shape[0]),
        ("runtime", report.runtime, manifest.runtime.name),
        ("precision", report.precision, manifest.precision),
    ):
        if stated != wanted:
            raise InputError(f"{path}: its {what} is {stated}, and predictions learn from {what} {wanted}.")


def _check_cores(path: Path, report: BenchReport, profile: Device) -> None:
    """Raises InputError unless the threads had the fastest cores of the board, each one of its own."""
    clusters = profile.cpu.clusters
    held = report.cores
    if held is not None and len(clusters) > 1:
        what = "was held to some cores, and which of the board's kinds they are is not in a report"
        raise InputError(f"{path}: {what}. Measure without --cores.")
    cores = sum(cluster.cores for cluster in clusters) if held is None else len(held)
    if report.threads > cores:
        what = f"its {report.threads} threads shared {cores} core{'' if cores == 1 else 's'}"
        raise InputError(f"{path}: {what}, and predictions learn from threads with a core each.")


def _profile(path: Path, report: BenchReport, device: str | None) -> Device:
    if device is not None:
        return load_device(device)
    if report.device == LOCAL or report.device not in list_devices():
        what = f"was measured on '{report.device}', which is no profile's name that holds everywhere"
        raise InputError(f"{path}: {what}. Name the board's profile with --device.")
    return load_device(report.device)


def _without(rows: Sequence[OwnRow], others: Sequence[OwnRow]) -> tuple[OwnRow, ...]:
    identities = {row.identity for row in others}
    return tuple(row for row in rows if row.identity not in identities)
