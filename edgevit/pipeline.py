"""Pipeline: a recipe in, a run directory out; the stages in their order."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from edgevit import __version__
from edgevit.assemble import Assembled, assemble_bundle, gather_evidence
from edgevit.bench.local import bench_bundle
from edgevit.benchreport import BenchReport, Machine
from edgevit.board.sensors import describe_machine
from edgevit.data.datasets import open_dataset
from edgevit.device import Device
from edgevit.errors import EdgevitError, InputError
from edgevit.extras import installed_versions
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.report.page import render
from edgevit.results import Candidate, Epoch, Provenance, RunMetrics
from edgevit.runs import BUNDLE, METRICS, PAGE
from edgevit.runtimes import BUILT_ON_BOARD
from edgevit.store import publish, require_creatable, write_json, write_text
from edgevit.subject import from_checkpoint
from edgevit.training import train_checkpoint
from edgevit.units import format_ms

CHECKPOINT = "checkpoint"
STATE = "training"
LOG = "run.log"
LOCK = ".lock"
DISTURBED = 1.2
LEARNED_FROM = {"name", "model", "data", "train", "distill"}  # another budget or board needs no other training
VERSIONED = ("torch", "timm", "onnx", "onnxruntime", "onnxsim", "onnxscript", "numpy", "pillow", "scikit-learn")


def run_recipe(recipe: Recipe, device: Device, target: Path, offline: bool, progress: Progress) -> RunMetrics:
    """Trains, exports, quantizes, verifies, measures and bundles; `target` becomes the run directory.

    It grows in a hidden sibling that belongs to this recipe, where an interrupted run goes on. `target` is never
    overwritten. Raises what the stages raise; then the training done so far is kept for the next try.
    """
    require_creatable(target)
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    with _working_directory(target, recipe) as work:
        log = _Log(progress, work / LOG)
        log.stage("Opening the data")
        dataset = open_dataset(recipe.data, offline=offline, notify=log.note, progress=log.update)
        for name, reason in dataset.skipped.items():
            log.note(f"skipped {name}: {reason}")
        curves = train_checkpoint(recipe, dataset, work / STATE, work / CHECKPOINT, offline, log)
        subject = from_checkpoint(work / CHECKPOINT)
        evidence = gather_evidence(subject, dataset, recipe.export)
        threads = recipe.threads or device.threads
        assembled = assemble_bundle(
            subject, device, evidence, recipe.export, recipe.budget, recipe.parity, work / BUNDLE, threads, log
        )
        shipped = next(candidate for candidate in assembled.candidates if candidate.shipped)
        bench = _bench(work / BUNDLE, device, shipped, log)
        log.stage("Writing the report")
        metrics = RunMetrics(
            name=target.name,
            recipe=recipe.model_dump(mode="json"),
            device=device.name,
            labels=subject.labels,
            pictures={"train": len(dataset.train), "val": len(dataset.val), "test": len(dataset.test)},
            weights=recipe.model.weights,
            curves=curves,
            fp32_test=assembled.fp32_test,
            shipped_test=assembled.shipped_test,
            drop=assembled.drop,
            candidates=assembled.candidates,
            verdict=assembled.verdict,
            bench=bench,
            bundle=str(target / BUNDLE),
            provenance=_provenance(started, log.seconds(), dataset.skipped),
        )
        _write_run(work, recipe, metrics, assembled)
        publish(work, target)
    return metrics


def finetune_checkpoint(recipe: Recipe, target: Path, offline: bool, progress: Progress) -> tuple[Epoch, ...]:
    """The learning curves; `target` becomes the checkpoint directory. An interrupted training goes on as above."""
    require_creatable(target)
    with _working_directory(target, recipe) as work:
        progress.stage("Opening the data")
        dataset = open_dataset(recipe.data, offline=offline, notify=progress.note, progress=progress.update)
        curves = train_checkpoint(recipe, dataset, work / STATE, work / CHECKPOINT, offline, progress)
        publish(work / CHECKPOINT, target)
        shutil.rmtree(work)
    return curves


def _write_run(work: Path, recipe: Recipe, metrics: RunMetrics, assembled: Assembled) -> None:
    write_text(work / "recipe.yaml", yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    hops = {c.name: [hop.model_dump(mode="json") for hop in c.parity] for c in assembled.candidates}
    write_json(work / "parity.json", hops)
    write_json(work / METRICS, metrics)
    write_text(work / PAGE, render(metrics))
    shutil.rmtree(work / STATE)
    (work / LOCK).unlink()


def _bench(bundle: Path, device: Device, shipped: Candidate, log: _Log) -> BenchReport | None:
    """None, with a note, for a board of another architecture: its latency is nothing that this machine knows."""
    if device.arch != describe_machine()["arch"]:
        log.note(f"Latency on {device.title} was not measured: this machine has another architecture.")
        return None
    if shipped.runtime in BUILT_ON_BOARD:
        log.note(f"Latency was not measured: {shipped.runtime} builds its engine on the board.")
        return None
    log.stage("Measuring the bundle in a fresh process")
    try:
        report = bench_bundle(bundle)
        expected = shipped.latency_ms.p50 if shipped.latency_ms else report.latency_ms.p50
        if report.latency_ms.p50 > DISTURBED * expected:  # taking turns, it was faster: something else is running
            log.note(f"Measured again: {format_ms(report.latency_ms.p50)} where {format_ms(expected)} was seen before.")
            report = bench_bundle(bundle)
        return report
    except EdgevitError as error:
        log.note(f"The bundle was not measured: {error}")
        return None


@contextmanager
def _working_directory(target: Path, recipe: Recipe) -> Iterator[Path]:
    """The hidden sibling of `target` that belongs to this recipe, for one process at a time."""
    identity = json.dumps(recipe.model_dump(mode="json", include=LEARNED_FROM), sort_keys=True)
    work = target.with_name(f".{target.name}.{hashlib.sha256(identity.encode()).hexdigest()[:8]}.partial")
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / LOCK).open("w")
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}. Choose another folder with -o.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{target}: another process is making this run. Wait for it, or choose another -o."
            ) from None
        for leftover in (work / BUNDLE, *work.glob(".*.partial-*")):  # an earlier try came this far, or was killed
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            yield work
        finally:  # published, the lock went along; before the first epoch there is nothing to go on from
            if not any((work / STATE).glob("*")) and not (work / CHECKPOINT).exists():
                shutil.rmtree(work, ignore_errors=True)


def _provenance(started: str, seconds: dict[str, float], skipped: dict[str, str]) -> Provenance:
    return Provenance(
        edgevit=__version__,
        started=started,
        machine=Machine(**describe_machine()),
        versions=installed_versions(VERSIONED),
        seconds=seconds,
        skipped=skipped,
    )


class _Log:
    """Progress that is also written to run.log, with the time that each stage took."""

    def __init__(self, progress: Progress, path: Path) -> None:
        self._progress, self._path = progress, path
        self._stages: list[tuple[str, float]] = []

    def stage(self, title: str) -> None:
        self._stages.append((title, time.monotonic()))
        self._append(title)
        self._progress.stage(title)

    def update(self, done: int, total: int, detail: str = "") -> None:
        self._progress.update(done, total, detail)

    def note(self, text: str) -> None:
        self._append(f"  {text}")
        self._progress.note(text)

    def seconds(self) -> dict[str, float]:
        """Wall time by stage up to now; a stage that came twice counts with both."""
        ends = [start for _, start in self._stages[1:]] + [time.monotonic()]
        totals: dict[str, float] = {}
        for (title, start), end in zip(self._stages, ends, strict=True):
            totals[title] = round(totals.get(title, 0.0) + end - start, 1)
        return totals

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.datetime.now().isoformat(timespec='seconds')} {line}\n")
