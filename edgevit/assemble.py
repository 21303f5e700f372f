"""Assemble: from a subject to the bundle of its best artifact: build, judge, choose, test, write."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgevit import __version__
from edgevit.accuracy import confusion
from edgevit.artifact import BundleAccuracy, GoldenThresholds, Manifest, ModelInfo, RuntimeSpec, TargetInfo
from edgevit.board.sensors import describe_machine
from edgevit.bundle import Bundle, Golden, write_bundle
from edgevit.choose import choose
from edgevit.data.batches import prepared
from edgevit.data.datasets import Dataset
from edgevit.data.pictures import PictureSet
from edgevit.data.samples import sample_pictures
from edgevit.device import Device
from edgevit.errors import ParityError
from edgevit.judge import Score, judge, score
from edgevit.machine.localdevice import LOCAL
from edgevit.machine.wheels import board_requirements
from edgevit.makers import MAKERS, build_artifacts, require_runtime, runtimes_to_try
from edgevit.policies import FP16, FP32
from edgevit.progress import Progress
from edgevit.recipe import AUTO, Budget, ExportSpec, ParityThresholds, RuntimeName
from edgevit.results import Accuracy, AccuracyDrop, Candidate, TestResult, Verdict
from edgevit.runtimes import BUILT_ON_BOARD, RUNTIMES, runtime_module
from edgevit.subject import Subject, class_names, require_same_classes
from edgevit.verify import describe_parity
from edgevit.workshop import Artifact, Workshop

PROBES = 32
GOLDEN = 8
GOLDEN_POOL = 64
# Between two machines: fp32 differs in the last bits, fp16 by the order of its sums; INT8 may round one activation the
# other way.
GOLDEN_THRESHOLDS = {
    FP32: GoldenThresholds(cosine=0.9999, top1_agreement=1.0),
    FP16: GoldenThresholds(cosine=0.999, top1_agreement=(GOLDEN - 1) / GOLDEN),
    "int8": GoldenThresholds(cosine=0.98, top1_agreement=(GOLDEN - 1) / GOLDEN),
}


@dataclass(frozen=True)
class Evidence:
    """Pictures, and what each may be used for. `judged` decides, `tested` is untouched until the choice is made.

    calibration_source says in words where the calibration pictures are from.
    """

    probes: PictureSet
    calibration: PictureSet
    calibration_source: str
    judged: PictureSet | None = None
    tested: PictureSet | None = None
    confirming: PictureSet | None = None

    def judging_by(self, count: int, confirming: int) -> Evidence:
        """The same, deciding by `count` pictures at most; of the rest, `confirming` may confirm what was chosen."""
        if self.judged is None:
            return self
        rest = self.judged.subset(np.arange(min(count, len(self.judged)), len(self.judged)))
        return replace(self, judged=_first(self.judged, count), confirming=_first(rest, confirming))


@dataclass(frozen=True)
class Assembled:
    bundle: Bundle
    candidates: tuple[Candidate, ...]
    verdict: Verdict
    fp32_test: Accuracy | None
    shipped_test: TestResult | None
    drop: AccuracyDrop | None


def gather_evidence(
    subject: Subject, dataset: Dataset | None, spec: ExportSpec, calibration: PictureSet | None = None
) -> Evidence:
    """Calibration pictures are, in this order: those given, DATA's training split, the package's samples.

    Raises InputError when DATA has other classes than a subject whose accuracy means something.
    """
    samples = sample_pictures(PROBES, subject.preprocess.channels)
    if calibration is not None:
        chosen, source = _first(calibration, spec.calibration_images), "the pictures given with --calibration-data"
    elif dataset is not None:
        chosen, source = _first(dataset.train, spec.calibration_images), f"the training split of {dataset.name}"
    else:
        chosen, source = samples, "sample photographs of the package, not your pictures"
    if dataset is None:
        return Evidence(_first(calibration, PROBES) if calibration else samples, chosen, source)
    is_meaningful = subject.weights != "random"
    names_classes = subject.labels != class_names(len(dataset.classes))  # else only their number is known
    if is_meaningful and names_classes:
        require_same_classes(subject.name, subject.labels, dataset.classes)
    return Evidence(
        probes=_first(dataset.val, PROBES),
        calibration=chosen,
        calibration_source=source,
        judged=dataset.val if is_meaningful else None,
        tested=dataset.test if is_meaningful else None,
    )


def assemble_bundle(
    subject: Subject,
    device: Device,
    evidence: Evidence,
    spec: ExportSpec,
    budget: Budget,
    thresholds: ParityThresholds,
    target: Path,
    threads: int,
    progress: Progress,
) -> Assembled:
    """Builds, verifies, judges and chooses; writes the bundle of the chosen artifact to `target`.

    threads: those that the device will use. Raises BudgetError when nothing fits, ParityError when fp32 itself
    says something else than its source, DeviceError when the device has no such runtime; then nothing is written.
    """
    is_foreign = device.arch != describe_machine()["arch"]
    runtimes = runtimes_to_try(device, spec.runtime, is_foreign)
    is_foreign = is_foreign or runtimes[0] in BUILT_ON_BOARD
    with tempfile.TemporaryDirectory(prefix="edgevit-export-") as folder:
        shop = Workshop(
            subject, device, spec, thresholds, evidence.calibration, evidence.probes, Path(folder),
            is_foreign=is_foreign, progress=progress,
        )  # fmt: skip
        artifacts, kind = build_artifacts(shop, runtimes)
        _require_exact(artifacts[0])
        judged = judge(artifacts, shop, evidence.judged, threads)
        asked = None if spec.precision == "auto" else spec.precision
        candidates, verdict = choose(judged, budget, not shop.is_foreign, device.quantization, kind, asked)
        verdict = verdict.model_copy(update={"sentences": (*verdict.sentences, *_remarks(shop, runtimes))})
        shipped = next(a for a, c in zip(artifacts, candidates, strict=True) if c.shipped)
        tests = {}
        if evidence.tested is not None:
            pair = [artifacts[0]] if shipped is artifacts[0] else [artifacts[0], shipped]
            tests = score(pair, shop, evidence.tested)
        test = tests.get(shipped.name)
        fp32_test = tests[FP32].accuracy if tests else None
        if test and test.drop and budget.max_drop is not None and test.drop.points > budget.max_drop:
            excess = f"On the {test.drop.n:,} test pictures, unseen until now, {shipped.name} loses"
            sentence = f"{excess} {test.drop.points:.2f} points: more than the budget of {budget.max_drop:.2f}."
            verdict = verdict.model_copy(update={"within_budget": False, "sentences": (*verdict.sentences, sentence)})
        accuracy = _bundle_accuracy(subject, fp32_test, test)
        bundle = bundle_artifact(shop, evidence, shipped, verdict, accuracy, threads, target)
    shipped_test = _test_result(test, evidence.tested, len(subject.labels)) if test and evidence.tested else None
    return Assembled(bundle, candidates, verdict, fp32_test, shipped_test, test.drop if test else None)


def bundle_artifact(
    shop: Workshop,
    evidence: Evidence,
    artifact: Artifact,
    verdict: Verdict,
    accuracy: BundleAccuracy,
    threads: int,
    target: Path,
) -> Bundle:
    """The artifact as a bundle at `target`, with the golden pictures that it is surest of.

    Raises DeviceError when the device has no such runtime, InputError when `target` exists.
    """
    device = shop.device
    require_runtime(device, artifact.runtime)
    shop.progress.stage("Writing the bundle")
    requirements = board_requirements(artifact.runtime, device.os.python, device.os.glibc, device.arch)
    manifest = _manifest(shop, evidence, artifact, verdict, threads, accuracy)
    golden = _golden(artifact, shop, evidence.tested or evidence.probes)
    return write_bundle(target, artifact.path, manifest, artifact.preprocess, shop.subject.labels, golden, requirements)


def _first(pictures: PictureSet, count: int) -> PictureSet:
    """Splits come shuffled, so the first few are a fair sample."""
    return pictures.subset(np.arange(min(count, len(pictures))))


def _remarks(shop: Workshop, runtimes: Sequence[RuntimeName]) -> tuple[str, ...]:
    """What a reader of the verdict must know besides the choice."""
    remarks = []
    untried = [name for name in shop.device.runtimes if name in MAKERS and name not in runtimes]
    if shop.spec.runtime == AUTO and untried:
        named = ", ".join(f"{name} ({_why_untried(name, shop)})" for name in untried)
        remarks.append(f"Not tried: {named}. --runtime {untried[0]} takes that one.")
    if shop.subject.weights == "random":
        remarks.append("The weights are random: accuracy means nothing; size, latency and compatibility are real.")
    if runtimes[0] in BUILT_ON_BOARD:
        remarks.append(
            "Its engine is built on the board, by 'agent.py build' or the first bench: nothing of it ran here. To "
            f"compare fp16 and INT8 there, export both, --precision {FP16} and int8-static."
        )
    if not shop.is_foreign and shop.device.name != LOCAL:
        here = describe_machine()["cpu"]
        remarks.append(f"Latencies were measured on this machine ({here}), not on {shop.device.title}.")
    return tuple(remarks)


def _why_untried(runtime: str, shop: Workshop) -> str:
    if runtime in BUILT_ON_BOARD:
        return "built on the board alone"
    return "nothing can be measured here" if shop.is_foreign else "not installed here"


def _require_exact(fp32: Artifact) -> None:
    broken = next((hop for hop in fp32.parity if not hop.passed), None)
    if broken:
        raise ParityError(f"The exported fp32 model does not say what its source says: {describe_parity(broken)}.")


def _golden(shipped: Artifact, shop: Workshop, pool: PictureSet) -> Golden:
    """The pictures that the artifact is surest of: where two classes are nearly equal, any rounding turns one into the
    other, and a self-check would fail without a fault.
    """
    candidates = _first(pool, GOLDEN_POOL)
    logits = shop.logits(shipped, candidates)
    best_two = np.sort(logits, axis=1)[:, -2:]
    surest = np.argsort(best_two[:, 0] - best_two[:, -1], kind="stable")[:GOLDEN]
    return Golden(prepared(candidates.subset(surest), shipped.preprocess), logits[surest])


def _manifest(
    shop: Workshop, evidence: Evidence, shipped: Artifact, verdict: Verdict, threads: int, accuracy: BundleAccuracy
) -> Manifest:
    subject, device = shop.subject, shop.device
    is_calibrated = shipped.policy.needs_calibration
    entry = "model" + RUNTIMES[shipped.runtime].suffix
    return Manifest(
        edgevit=__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        model=ModelInfo(
            name=subject.name,
            weights=subject.weights,
            input_shape=shipped.input_shape,
            classes=len(subject.labels),
            parameters=subject.parameters,
            trained_on=subject.trained_on,
        ),
        device=TargetInfo(
            name=device.name,
            arch=device.arch,
            threads=shipped.policy.threads or threads,
            measured_on=None if shop.is_foreign else describe_machine()["cpu"],
        ),
        precision=shipped.precision,
        runtime=RuntimeSpec(
            name=shipped.runtime,
            version=_runtime_version(shipped, device),
            entry=entry,
            session=shipped.session,
        ),
        accuracy=accuracy,
        calibration=f"{len(shop.calibration)} pictures: {evidence.calibration_source}" if is_calibrated else None,
        policy=shipped.policy,
        rewrites=shipped.rewrites,
        int8=shipped.int8,
        parity=shipped.parity,
        golden=GOLDEN_THRESHOLDS.get(shipped.precision, GOLDEN_THRESHOLDS["int8"]),
        verdict=verdict,
        files={},
    )


def _runtime_version(shipped: Artifact, device: Device) -> str:
    """Of the runtime that verified the artifact; those that it was made for, where only the board has it."""
    if shipped.runtime in BUILT_ON_BOARD:
        from edgevit.tensorrt.support import versions_of

        return ", ".join(support.version for support in versions_of(device))
    version: str = runtime_module(shipped.runtime).import_runtime().__version__
    return version


def _bundle_accuracy(subject: Subject, fp32: Accuracy | None, test: Score | None) -> BundleAccuracy:
    if subject.weights == "random":
        return BundleAccuracy(note="The weights are random: accuracy means nothing.")
    if test is None:
        return BundleAccuracy(note="No labelled pictures were given: parity with fp32 stands in for accuracy.")
    return BundleAccuracy(fp32=fp32, artifact=test.accuracy, drop=test.drop, note="Measured on the test split.")


def _test_result(test: Score, pictures: PictureSet, classes: int) -> TestResult:
    counts = confusion(test.logits.argmax(axis=1), pictures.labels, classes)
    return TestResult(accuracy=test.accuracy, confusion=counts)
