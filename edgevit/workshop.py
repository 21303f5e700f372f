"""Workshop: what artifacts are made and judged with, and the artifacts that come out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgevit.board.preprocess import Preprocess
from edgevit.data.batches import predict_all
from edgevit.data.pictures import PictureSet
from edgevit.device import Device
from edgevit.policy import Policy
from edgevit.progress import Progress
from edgevit.recipe import ExportSpec, ParityThresholds
from edgevit.results import Parity
from edgevit.runtimes import (
    BUILT_ON_BOARD,
    EVERY_CORE,
    EXACT_INTEGER_SUMS,
    QDQ_AS_WRITTEN,
    YIELD_WHEN_IDLE,
    open_session,
)
from edgevit.subject import Subject

if TYPE_CHECKING:
    import onnx

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Artifact:
    """A model's file, made by `policy`. `name` is its own among those that are compared.

    `preprocess`: how pictures are made into its input. `session`: what the runtime is configured with on the device.
    `rewrites`: those that changed the graph; exported: the file before them. int8: by kind of operator, how many
    compute in INT8, and of how many. `remarks`: sentences on what it computes. `stand_in`: what this machine runs in
    its stead, where only the board can run the file as it is meant. `failed`: why there is no file to ship.
    """

    name: str
    policy: Policy
    path: Path
    preprocess: Preprocess
    session: dict[str, str]
    parity: tuple[Parity, ...] = ()
    rewrites: tuple[str, ...] = ()
    exported: Path | None = None
    int8: dict[str, tuple[int, int]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    stand_in: Path | None = None
    failed: str | None = None

    @property
    def precision(self) -> str:
        return self.policy.precision

    @property
    def runtime(self) -> str:
        return self.policy.runtime

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return 1, self.preprocess.channels, self.preprocess.height, self.preprocess.width

    @property
    def is_sound(self) -> bool:
        """Whether it was built and every hop that led to it passed."""
        return not self.failed and all(hop.passed for hop in self.parity)


@dataclass(frozen=True)
class Workshop:
    """What artifacts are made and judged with.

    probes: real pictures on which neighbouring hops are compared.
    is_foreign: the device has another architecture than this machine. `exports`: graphs that the exporter made of the
    subject, by input shape, opset and whether the batch is free; workshops of one subject share them.
    """

    subject: Subject
    device: Device
    spec: ExportSpec
    thresholds: ParityThresholds
    calibration: PictureSet
    probes: PictureSet
    folder: Path
    is_foreign: bool
    progress: Progress
    exports: dict[tuple[object, ...], onnx.ModelProto] = field(default_factory=dict, repr=False, compare=False)

    def logits(self, artifact: Artifact, pictures: PictureSet) -> Logits:
        """(N, classes) as the artifact gives them here, as nearly as this machine can to how the device will."""
        config, runtime = dict(artifact.session), artifact.runtime
        if runtime == "onnxruntime":
            config |= {**YIELD_WHEN_IDLE, **(EXACT_INTEGER_SUMS if self.is_foreign else {})}
        elif runtime in BUILT_ON_BOARD:
            config, runtime = {**YIELD_WHEN_IDLE, **QDQ_AS_WRITTEN}, "onnxruntime"
        session = open_session(artifact.stand_in or artifact.path, runtime, EVERY_CORE, config)
        try:
            return predict_all(
                session.run, pictures, artifact.preprocess, progress=self.progress.update, input_type=session.input_type
            )
        finally:
            session.close()


def nothing_made(name: str, policy: Policy, shop: Workshop, reason: str) -> Artifact:
    """An artifact without a file, which says why."""
    return Artifact(name, policy, shop.folder / "nothing", shop.subject.preprocess, session={}, failed=reason)
