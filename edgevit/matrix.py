"""Matrix: what each runtime makes of a model in each precision: a figure, or the reason why there is none."""

from __future__ import annotations

import datetime
import functools
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from edgevit import __version__
from edgevit.assemble import Evidence
from edgevit.benchreport import Machine
from edgevit.board.sensors import describe_machine
from edgevit.device import Device
from edgevit.extras import installed_versions
from edgevit.judge import judge
from edgevit.makers import made_by
from edgevit.policies import DYNAMIC, FP16, FP32, MIXED, STATIC
from edgevit.progress import Progress
from edgevit.recipe import ExportSpec, ParityThresholds, RuntimeName
from edgevit.report.matrix import render_matrix
from edgevit.results import Candidate, Matrix, MatrixCell, ModelMatrix
from edgevit.runtimes import BUILT_ON_BOARD, RUNTIMES
from edgevit.schema import Record
from edgevit.store import new_directory, write_json, write_text
from edgevit.subject import Subject
from edgevit.verify import describe_parity
from edgevit.workshop import Artifact, Workshop
from edgevit.yamlfile import read_yaml

MADE_WITH = ("torch", "timm", "onnx", "litert-torch", "ai-edge-quantizer", "torchao")
RESULT, PAGE = "matrix.json", "report.html"
LIMITS = Path(__file__).with_name("limits.yaml")


class Limit(Record):
    """What a runtime lacks. `precision`: in all of these; `reason`, `link`: who says so upstream."""

    runtime: str
    precision: tuple[str, ...]
    reason: str
    link: str


class KnownFailure(Record):
    """`pattern`: a regular expression that the reason of a failed conversion matches. `link`: the upstream issue."""

    pattern: str
    link: str


class Limits(Record):
    """limits.yaml."""

    limits: tuple[Limit, ...]
    failures: tuple[KnownFailure, ...]


def growing_matrix(
    subjects: Sequence[tuple[Subject, Evidence]],
    device: Device,
    runtimes: Sequence[RuntimeName],
    spec: ExportSpec,
    threads: int,
    progress: Progress,
) -> Iterator[Matrix]:
    """The matrix after each model, a row of cells more; what one runtime cannot make is a cell, and the others go on.

    runtimes: those to try, all of the device's.
    """
    here = describe_machine()
    is_foreign = device.arch != here["arch"]
    rows: tuple[ModelMatrix, ...] = ()
    for subject, evidence in subjects:
        rows += (_row(subject, evidence, device, runtimes, spec, threads, is_foreign, progress),)
        yield Matrix(
            edgevit=__version__,
            device=device.name,
            machine=Machine(**here),
            measured_on=None if is_foreign else here["cpu"],
            threads=threads,
            written=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            versions=installed_versions([_distribution(name) for name in runtimes] + list(MADE_WITH)),
            models=rows,
        )


def cells_of(candidates: Sequence[Candidate], runtimes: Sequence[str]) -> tuple[MatrixCell, ...]:
    """A cell for each runtime and precision; those that no candidate was made for say why."""
    return tuple(_cell(candidates, runtime, precision) for runtime in runtimes for precision in precisions_of(runtime))


def precisions_of(runtime: str) -> tuple[str, ...]:
    """What is asked of a runtime: fp16 of those alone whose engines have kernels for it, and mixtures of dynamic and
    static INT8 of those that have both.
    """
    lacking = {precision for limit in _limits().limits if limit.runtime == runtime for precision in limit.precision}
    mixed = () if lacking & {DYNAMIC, STATIC} else (MIXED,)
    return (FP32, *((FP16,) if runtime in BUILT_ON_BOARD else ()), DYNAMIC, STATIC, *mixed)


def write_matrix(matrix: Matrix, out: Path, over: bool = False) -> None:
    """matrix.json and report.html, in a new folder (InputError when it exists) or over those of a shorter one."""
    with nullcontext(out) if over else new_directory(out) as folder:
        write_json(folder / RESULT, matrix)
        write_text(folder / PAGE, render_matrix(matrix))


def _distribution(runtime: str) -> str:
    return RUNTIMES[runtime].package.replace("_", "-")


def _row(
    subject: Subject,
    evidence: Evidence,
    device: Device,
    runtimes: Sequence[RuntimeName],
    spec: ExportSpec,
    threads: int,
    is_foreign: bool,
    progress: Progress,
) -> ModelMatrix:
    with tempfile.TemporaryDirectory(prefix="edgevit-matrix-") as folder:
        shop = Workshop(
            subject, device, spec, ParityThresholds(), evidence.calibration, evidence.probes, Path(folder), is_foreign,
            progress,
        )  # fmt: skip
        artifacts: list[Artifact] = []
        for runtime in runtimes:
            progress.stage(f"{subject.name}: {runtime}")
            made = made_by(runtime, shop)
            # all others are compared with the first sound fp32, which has no prefix
            is_reference = made[0].is_sound and not any(each.is_sound for each in artifacts)
            artifacts += [each if is_reference else replace(each, name=f"{runtime}-{each.name}") for each in made]
        candidates = judge(tuple(artifacts), shop, evidence.judged, threads)
    return ModelMatrix(model=subject.name, weights=subject.weights, cells=cells_of(candidates, runtimes))


def _cell(candidates: Sequence[Candidate], runtime: str, precision: str) -> MatrixCell:
    mine = [each for each in candidates if (each.runtime, each.precision) == (runtime, precision)]
    sound = [each for each in mine if not each.failed and all(hop.passed for hop in each.parity)]
    if sound:
        return _of_candidate(min(sound, key=_cost))
    built = [each for each in mine if not each.failed]
    if built:
        broken = next(hop for hop in built[0].parity if not hop.passed)
        return _of_candidate(built[0]).model_copy(update={"outcome": "parity", "reason": describe_parity(broken)})
    fp32 = next((each for each in candidates if (each.runtime, each.precision) == (runtime, FP32)), None)
    reason, link = _why_nothing(runtime, precision, mine[0].failed if mine else None, fp32)
    return MatrixCell(runtime=runtime, precision=precision, outcome="nothing", reason=reason, link=link)


def _of_candidate(candidate: Candidate) -> MatrixCell:
    latency, estimate = candidate.latency_ms, candidate.estimate
    is_number = latency is not None or estimate is not None
    return MatrixCell(
        runtime=candidate.runtime,
        precision=candidate.precision,
        outcome="number" if is_number else "exported",
        candidate=candidate.name,
        p50_ms=latency.p50 if latency else None,
        million_instructions=estimate.million_instructions if estimate else None,
        size_mib=candidate.size_mib,
        accuracy=candidate.accuracy,
        drop=candidate.drop,
        cosine=min((hop.cosine for hop in candidate.parity), default=None),
        top1_agreement=min((hop.top1_agreement for hop in candidate.parity), default=None),
        reason="" if is_number else "it cannot be timed here, and what its kernels cost there is not known",
    )


def _cost(candidate: Candidate) -> tuple[float, float]:
    if candidate.latency_ms:
        return candidate.latency_ms.p50, candidate.size_mib
    return (candidate.estimate.million_instructions if candidate.estimate else 0.0), candidate.size_mib


def _why_nothing(runtime: str, precision: str, failed: str | None, fp32: Candidate | None) -> tuple[str, str]:
    """(reason, upstream link or ''). failed: what was tried for this precision; fp32: what all others are made of."""
    limits = _limits().limits
    limit = next((each for each in limits if each.runtime == runtime and precision in each.precision), None)
    if failed is None and limit:
        return limit.reason, limit.link
    failed = failed or (fp32.failed if fp32 else None)
    if failed:
        return failed.rstrip("."), _link_of(failed)
    if fp32 and not all(hop.passed for hop in fp32.parity):
        return "not tried: fp32 fails its parity", ""
    return "the model has no operators that gain by it", ""


def _link_of(failed: str) -> str:
    return next((each.link for each in _limits().failures if re.search(each.pattern, failed)), "")


@functools.cache
def _limits() -> Limits:
    return read_yaml(LIMITS, Limits)
