"""Reports and bundles side by side, and which of their differences are real."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgevit.artifact import Manifest
from edgevit.bench.ratios import separate_ratio
from edgevit.benchreport import BenchReport, Machine
from edgevit.errors import InputError
from edgevit.results import Accuracy, Interval, LatencyRatio
from edgevit.schema import Record
from edgevit.units import MIB, format_points

NOT_INTERLEAVED = (
    "The reports were measured one after the other, not in turns: what the machine did differently in between is not "
    "in the intervals."
)
UNPAIRED = "Accuracies are compared as if measured on different pictures; on the same ones less would be a difference."


class Row(Record):
    """One report or bundle. None: it does not say."""

    name: str
    kind: str
    model: str
    precision: str
    runtime: str
    device: str
    machine: str | None = None
    threads: int | None = None
    batch: int | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    runs: int | None = None
    peak_rss_mib: float | None = None
    size_mib: float | None = None
    accuracy: Accuracy | None = None
    is_valid: bool | None = None


class Difference(Record):
    """The first one against another. `ratio`: of medians, above 1 `other` is faster; `points`: other minus first.

    is_real: the 95 % interval leaves out 'no difference'; None: not comparable, and `sentence` says why.
    """

    what: str
    first: str
    other: str
    is_real: bool | None
    ratio: float | None = None
    points: float | None = None
    ci95: Interval | None = None
    sentence: str


class Comparison(Record):
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare(items: Mapping[str, BenchReport | Manifest]) -> Comparison:
    """Rows of reports and bundles by name, and the first of them against each other one.

    Latency needs two reports, accuracy two bundles that state it; what cannot be compared has a sentence saying why.
    Raises InputError for fewer than two.
    """
    if len(items) < 2:
        raise InputError("There is nothing to compare. Name two or more reports or bundles.")
    names = list(items)
    first = items[names[0]]
    differences: list[Difference] = []
    for name in names[1:]:
        other = items[name]
        if isinstance(first, BenchReport) and isinstance(other, BenchReport):
            differences.append(_latency(names[0], first, name, other))
        elif isinstance(first, Manifest) and isinstance(other, Manifest):
            differences.append(_accuracy(names[0], first.accuracy.artifact, name, other.accuracy.artifact))
        else:
            sentence = f"{names[0]} and {name} are not comparable: one is a report and the other a bundle."
            differences.append(_not_comparable("latency", names[0], name, sentence))
    notes = [NOT_INTERLEAVED] if any(each.ratio is not None for each in differences) else []
    notes += [UNPAIRED] if any(each.points is not None for each in differences) else []
    rows = tuple(_row(name, item) for name, item in items.items())
    return Comparison(rows=rows, differences=tuple(differences), notes=tuple(notes))


def newcombe_interval(first: Accuracy, other: Accuracy) -> Interval:
    """95 % interval of other minus first in percentage points, for accuracies on different pictures.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10 (from the two Wilson intervals).
    """
    points = other.top1 - first.top1
    low = points - math.hypot(other.top1 - other.ci95[0], first.ci95[1] - first.top1)
    high = points + math.hypot(other.ci95[1] - other.top1, first.top1 - first.ci95[0])
    return low, high


def latency_difference(first: str, other: str, found: LatencyRatio, measured: str = "") -> Difference:
    """In the words of the faster one. found: the first one's latency over the other's; measured: how, in words."""
    (fast, slow), speed, (low, high) = (other, first), found.ratio, found.ci95
    if speed < 1:
        (fast, slow), speed, (low, high) = (first, other), 1 / speed, (1 / high, 1 / low)
    digits = 2 if speed >= 1.1 else 3  # a small difference may be real, and shall not read as none
    times = f"{speed:.{digits}f}× as fast"
    interval = ", ".join(filter(None, (f"95 % interval {low:.{digits}f}–{high:.{digits}f}", measured)))
    sentence = (
        f"{fast} is {times} as {slow} ({interval})."
        if found.is_real
        else f"{first} and {other} do not differ in latency beyond chance ({fast} is {times}, {interval})."
    )
    return Difference(
        what="latency", first=first, other=other, is_real=found.is_real, ratio=found.ratio, ci95=found.ci95,
        sentence=sentence,
    )  # fmt: skip


def machine_words(machine: Machine) -> str:
    """'AMD EPYC, x86_64, 2 cores'."""
    emulated = ", emulated" if machine.is_emulated else ""
    return f"{machine.cpu}, {machine.arch}, {machine.cores} cores{emulated}"


def _latency(first_name: str, first: BenchReport, other_name: str, other: BenchReport) -> Difference:
    reason = _why_not_comparable(first_name, first, other_name, other)
    if reason:
        sentence = f"{first_name} and {other_name} are not comparable: {reason}."
        return _not_comparable("latency", first_name, other_name, sentence)
    return latency_difference(first_name, other_name, separate_ratio(first.samples_ms, other.samples_ms))


def _why_not_comparable(first_name: str, first: BenchReport, other_name: str, other: BenchReport) -> str:
    """The first reason, or an empty string."""
    for name, report in ((first_name, first), (other_name, other)):
        if not report.is_valid:
            return f"the measurement of {name} is invalid ({' '.join(report.invalid_reasons).rstrip('.')})"
        if len(report.samples_ms) < 2:
            return f"{name} has fewer than two samples"
    a, b = first.machine, other.machine
    if (a.cpu, a.arch, a.cores, a.is_emulated) != (b.cpu, b.arch, b.cores, b.is_emulated):
        return f"measured on different machines ({machine_words(a)} and {machine_words(b)})"
    if first.mode != other.mode:
        return f"measured in two ways, '{first.mode}' and '{other.mode}'"
    if first.streams != other.streams:
        return f"measured with {first.streams} and {other.streams} streams"
    if first.cores != other.cores:
        return "held to different cores"
    if first.threads != other.threads:
        return f"measured with {first.threads} and {other.threads} threads"
    if first.batch != other.batch:
        return f"measured with batches of {first.batch} and {other.batch}"
    return ""


def _accuracy(first_name: str, first: Accuracy | None, other_name: str, other: Accuracy | None) -> Difference:
    if first is None or other is None:
        silent = " and ".join(name for name, value in ((first_name, first), (other_name, other)) if value is None)
        sentence = f"{first_name} and {other_name} are not comparable: no accuracy is stated in {silent}."
        return _not_comparable("accuracy", first_name, other_name, sentence)
    points, ci95 = other.top1 - first.top1, newcombe_interval(first, other)
    is_real = not ci95[0] <= 0.0 <= ci95[1]
    figures = format_points(points, ci95)
    sentence = (
        f"{other_name} is {'more' if points > 0 else 'less'} accurate than {first_name}: {figures}."
        if is_real
        else f"{first_name} and {other_name} do not differ in accuracy beyond chance ({figures})."
    )
    return Difference(
        what="accuracy",
        first=first_name,
        other=other_name,
        is_real=is_real,
        points=points,
        ci95=ci95,
        sentence=sentence,
    )


def _not_comparable(what: str, first: str, other: str, sentence: str) -> Difference:
    return Difference(what=what, first=first, other=other, is_real=None, sentence=sentence)


def _row(name: str, item: BenchReport | Manifest) -> Row:
    if isinstance(item, Manifest):
        return Row(
            name=name,
            kind="bundle",
            model=item.model.name,
            precision=item.precision,
            runtime=f"{item.runtime.name} {item.runtime.version}",
            device=item.device.name,
            threads=item.device.threads,
            batch=item.model.input_shape[0],
            size_mib=item.files[item.runtime.entry].size / MIB if item.runtime.entry in item.files else None,
            accuracy=item.accuracy.artifact,
        )
    return Row(
        name=name,
        kind="report",
        model=item.model,
        precision=item.precision,
        runtime=f"{item.runtime} {item.runtime_version}",
        device=item.device,
        machine=machine_words(item.machine),
        threads=item.threads,
        batch=item.batch,
        p50_ms=item.latency_ms.p50,
        p90_ms=item.latency_ms.p90,
        p99_ms=item.latency_ms.p99,
        runs=item.latency_ms.runs,
        peak_rss_mib=item.peak_rss_mib,
        is_valid=item.is_valid,
    )
