"""Workbench: answers a search's questions about policies by building artifacts and measuring them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevit.accuracy import is_correct
from edgevit.artifact import BundleAccuracy
from edgevit.assemble import Evidence, bundle_artifact
from edgevit.board.sensors import describe_machine
from edgevit.build import Builder
from edgevit.cost.cores import CoreCosts, costs_for
from edgevit.cost.estimate import cost_of
from edgevit.data.pictures import PictureSet
from edgevit.device import Device
from edgevit.errors import DeviceError, EdgevitError, InputError, ParityError
from edgevit.makers import Maker, maker_for
from edgevit.policy import Policy
from edgevit.progress import Progress
from edgevit.quantize.nodes import is_quantized
from edgevit.recipe import ExportSpec, ParityThresholds, RuntimeName
from edgevit.results import LatencyRatio, Verdict
from edgevit.search.examiner import MILLION_INSTRUCTIONS, MS
from edgevit.search.space import SearchSpace
from edgevit.search.trials import canonical
from edgevit.store import sha256_file
from edgevit.subject import Subject
from edgevit.tuning.search_space import search_space
from edgevit.tuning.stopwatch import Stopwatch
from edgevit.tuning.traits import find_traits
from edgevit.tuning.worth import estimated_costs, measured_costs
from edgevit.verify import describe_parity
from edgevit.workshop import Artifact, Workshop

# A search asks for accuracy itself, on pictures; a hop is there to find what is broken.
THRESHOLDS = ParityThresholds(int8_cosine=0.5, int8_top1_agreement=0.0)


@contextmanager
def opened_workbench(
    subject: Subject,
    device: Device,
    evidence: Evidence,
    threads: int,
    image_sizes: Sequence[int],
    progress: Progress,
    runtime: RuntimeName | None = None,
    thread_counts: Sequence[int] = (),
    space: SearchSpace | None = None,
    stopwatch: Stopwatch | None = None,
) -> Iterator[tuple[BuildingWorkbench, SearchSpace]]:
    """A workbench with a folder of its own, and what there is to search for this model on this device.

    image_sizes, thread_counts: to try besides the model's own and `threads`. runtime: the only one to search. space:
    what an earlier search of the same found there to be, so that nothing is exported before something is built.
    stopwatch: shared with the workbenches of other models. Raises DeviceError for a board of another architecture whose
    core is not known, InputError for a size that the model does not take, and without labelled pictures.
    """
    is_foreign = device.arch != describe_machine()["arch"]
    core = costs_for(device) if is_foreign else None
    if is_foreign and core is None:
        raise DeviceError(
            f"Device '{device.name}' cannot be measured here, and what instructions cost on its "
            f"{device.cpu.clusters[0].model} is not known. Run 'edgevit tune' on a machine of its kind."
        )
    if evidence.judged is None or evidence.tested is None:
        raise InputError("A search needs labelled pictures of the classes that the model was trained for.")
    if subject.graph is not None and is_quantized(subject.graph):
        raise InputError(f"'{subject.name}' is quantized already, and a search begins in fp32. Name its checkpoint.")
    for size in image_sizes:
        subject.resized(size)  # refuses what the model does not take, before the search begins
    with tempfile.TemporaryDirectory(prefix="edgevit-tune-") as folder:
        shop = Workshop(
            subject, device, ExportSpec(), THRESHOLDS, evidence.calibration, evidence.probes, Path(folder),
            is_foreign=is_foreign, progress=progress,
        )  # fmt: skip
        builder = Builder(shop)
        if space is None:
            costs = estimated_costs(core) if core else measured_costs(threads)
            traits = find_traits(builder, costs, progress)
            space = search_space(traits, device, image_sizes, is_foreign, runtime, thread_counts)
        stopwatch = stopwatch or Stopwatch(threads)
        yield BuildingWorkbench(shop, builder, evidence, evidence.judged, stopwatch, core), space


class BuildingWorkbench:
    """The search's Examiner on this machine: artifacts are built in the workshop's folder.

    held_out: labelled pictures that the search may see. core: where the target is no machine of this architecture, what
    its instructions cost; None where it is, and latency is measured.
    """

    def __init__(
        self,
        shop: Workshop,
        builder: Builder,
        evidence: Evidence,
        held_out: PictureSet,
        stopwatch: Stopwatch,
        core: CoreCosts | None,
    ) -> None:
        self.pictures = len(held_out)
        self.unit = MILLION_INSTRUCTIONS if core else MS
        self._shop, self._builder, self._evidence, self._held_out = shop, builder, evidence, held_out
        self._stopwatch, self._core = stopwatch, core
        self._makers: dict[RuntimeName, Maker] = {}
        self._numbers = itertools.count()
        self._artifacts: dict[str, Artifact] = {}
        self._verdicts: dict[tuple[str, int, int], NDArray[np.bool_]] = {}

    def build(self, policy: Policy) -> str:
        """The sha256 of the artifact's file. Raises EdgevitError, ParityError when it is not built or a hop fails."""
        return sha256_file(self._artifact(policy).path)

    def cost(self, policy: Policy) -> float:
        """Median in ms, or the estimated million instructions."""
        artifact = self._artifact(policy)
        if self._core is not None:
            return cost_of(artifact.path, self._core).million_instructions
        return self._stopwatch.latency_ms(artifact)

    def anchor(self, policy: Policy, cost: float) -> None:
        """The policy's latency is what all others are taken in turns with, from now on."""
        if self._core is None:
            self._stopwatch.anchor(self._artifact(policy), cost)

    def speedup(self, policy: Policy) -> LatencyRatio | None:
        """Against the policy that was anchored, measured anew; None where nothing can be measured."""
        return self._stopwatch.speedup(self._artifact(policy)) if self._core is None else None

    def correct(self, policy: Policy, start: int, stop: int) -> NDArray[np.bool_]:
        """(stop - start,) of the held-out pictures."""
        key = _judged_as(policy), start, stop
        if key not in self._verdicts:
            self._verdicts[key] = self._is_correct(policy, self._held_out.subset(np.arange(start, stop)))
        return self._verdicts[key]

    def confirmed(self, policy: Policy) -> NDArray[np.bool_]:
        """(N,) of held-out pictures that no trial was judged by; none where the search took them all."""
        pictures = self._evidence.confirming
        return self._is_correct(policy, pictures) if pictures else np.zeros(0, np.bool_)

    def tested(self, policy: Policy) -> NDArray[np.bool_]:
        """(N,) of the pictures that the search never sees."""
        assert self._evidence.tested is not None
        return self._is_correct(policy, self._evidence.tested)

    def write_bundle(self, policy: Policy, target: Path, verdict: Verdict, accuracy: BundleAccuracy) -> None:
        """The policy's artifact as a bundle. Raises InputError when `target` exists."""
        artifact = self._artifact(policy)
        bundle_artifact(self._shop, self._evidence, artifact, verdict, accuracy, self._stopwatch.threads, target)

    def keep(self, policies: Sequence[Policy]) -> None:
        """Deletes what only other policies need, files and figures; one that is asked for again is built again."""
        keys = {canonical(_file(policy)) for policy in policies}
        self._artifacts = {key: artifact for key, artifact in self._artifacts.items() if key in keys}
        judged = {_judged_as(policy) for policy in policies}
        self._verdicts = {key: verdicts for key, verdicts in self._verdicts.items() if key[0] in judged}
        reference = self._stopwatch.reference
        artifacts = [*self._artifacts.values(), *([reference] if reference else [])]
        needed = {path for each in artifacts for path in (each.path, each.exported) if path}
        needed = needed.union(self._builder.files, *(maker.files for maker in self._makers.values()))
        for path in self._shop.folder.iterdir():
            if path not in needed:
                path.unlink()

    def _artifact(self, policy: Policy) -> Artifact:
        file = _file(policy)
        key = canonical(file)
        if key not in self._artifacts:
            artifact = self._maker(policy.runtime).build(f"policy-{next(self._numbers)}", file)
            if artifact.failed:
                raise EdgevitError(artifact.failed)
            broken = next((hop for hop in artifact.parity if not hop.passed), None)
            if broken:
                raise ParityError(f"{describe_parity(broken)}.")
            self._artifacts[key] = artifact
        made = self._artifacts[key]
        return replace(made, policy=policy, session={**made.session, **policy.session})

    def _maker(self, runtime: RuntimeName) -> Maker:
        if runtime not in self._makers:
            self._makers[runtime] = maker_for(runtime, self._shop, self._builder)
        return self._makers[runtime]

    def _is_correct(self, policy: Policy, pictures: PictureSet) -> NDArray[np.bool_]:
        return is_correct(self._shop.logits(self._artifact(policy), pictures), pictures.labels)


def _file(policy: Policy) -> Policy:
    """Without what changes how the artifact is run, and not what it is."""
    return policy.model_copy(update={"session": {}, "threads": None})


def _judged_as(policy: Policy) -> str:
    """A key of what the policy says of pictures, which threads do not change."""
    return canonical(policy.model_copy(update={"threads": None}))
