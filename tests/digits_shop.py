"""What an artifact is made of and judged by, for tests: the tiny ViT, digits, devices here and elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from tiny_models import CLASSES, VIT, vit_graph, vit_model

from edgevit import build
from edgevit import judge as judging
from edgevit.assemble import Assembled, Evidence, assemble_bundle
from edgevit.bench.interleave import ArtifactRun, Interleaved
from edgevit.board.sensors import describe_machine
from edgevit.cost.cores import load_costs
from edgevit.data.datasets import Dataset, open_dataset
from edgevit.device import Device
from edgevit.machine.localdevice import local_device
from edgevit.models.create import count_parameters, preprocess_for
from edgevit.recipe import Budget, DataSpec, ExportSpec, ParityThresholds
from edgevit.subject import Subject

FOREIGN_ARCH: Literal["aarch64", "x86_64"] = "aarch64" if describe_machine()["arch"] == "x86_64" else "x86_64"
DIGITS = tuple("0123456789")


def vit_subject(weights: Literal["checkpoint", "random"] = "checkpoint", **changes: Any) -> Subject:
    """The tiny ViT, whose random weights pass for trained ones unless they are called 'random'."""
    fields = {
        "name": "tiny-vit",
        "weights": weights,
        "preprocess": preprocess_for(vit_model(), VIT),
        "labels": DIGITS,
        "model": vit_model(),
        "parameters": count_parameters(vit_model()),
    }
    assert len(DIGITS) == CLASSES
    return Subject(**{**fields, **changes})


@functools.cache
def digits() -> Dataset:
    """80 pictures to train on, 40 to judge by and 40 to test with."""
    return open_dataset(DataSpec(source="digits", val_fraction=0.2, train_limit=80, eval_limit=40))


def digits_evidence(**changes: Any) -> Evidence:
    data = digits()
    fields = {
        "probes": data.val.subset(range(16)),
        "calibration": data.train.subset(range(8)),
        "calibration_source": "the training split of digits",
        "judged": data.val,
        "tested": data.test,
    }
    return Evidence(**{**fields, **changes})


@functools.cache
def device_here() -> Device:
    return local_device()


def device_elsewhere(**changes: Any) -> Device:
    """A board of another architecture, whose preset ships what is best for a transformer."""
    os = device_here().os.model_copy(update={"python": ("3.11",), "glibc": "2.36"})
    fields = {"name": "a-board", "title": "A board", "arch": FOREIGN_ARCH, "os": os, **changes}
    return device_here().model_copy(update=fields)


def known_board() -> Device:
    """A board of another architecture, of whose cores it is known what instructions cost on them."""
    clusters = (device_here().cpu.clusters[0].model_copy(update={"model": load_costs()[0].models[0]}),)
    return device_elsewhere(cpu=device_here().cpu.model_copy(update={"clusters": clusters}))


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.updates: list[tuple[int, int, str]] = []
        self.notes: list[str] = []

    def stage(self, title: str) -> None:
        self.stages.append(title)

    def update(self, done: int, total: int, detail: str = "") -> None:
        self.updates.append((done, total, detail))

    def note(self, text: str) -> None:
        self.notes.append(text)


def steady(latency_ms: float, rounds: int = 16) -> Interleaved:
    """An artifact that took the same time in each of 4 runs a round."""
    return Interleaved(blocks=((latency_ms,) * 4,) * rounds, is_steady=True, version="9.9")


OPEN = Budget(max_drop=None)
DYNAMIC_WINS = {
    "fp32": steady(4.0),
    "int8-dynamic": steady(2.0),
    "int8-static": steady(3.0),
    "mixed": steady(5.0),
    "mixed-attention": steady(6.0),
    "int8-static-attention": steady(7.0),
    "exported": steady(4.4),
}
FP32_WINS = {**DYNAMIC_WINS, "fp32": steady(1.0)}
STATIC_WINS = {**DYNAMIC_WINS, "int8-static": steady(1.0)}


def assemble_as_if(
    target: Path, patch: pytest.MonkeyPatch, timings: dict[str, Interleaved], **changes: Any
) -> Assembled:
    """The tiny ViT's bundle at `target`; it is exported once for all tests, and measured as `timings` say."""

    def measure(runs: Mapping[str, ArtifactRun], on_round: object, min_seconds: float) -> dict[str, Interleaved]:
        return {name: timings[name] for name in runs}

    patch.setattr(build, "export_onnx", lambda model, shape, opset, dynamic_batch: vit_graph(dynamic_batch))
    patch.setattr(judging, "measure_interleaved", measure)
    arguments = {
        "subject": vit_subject(),
        "device": device_here(),
        "evidence": digits_evidence(),
        "spec": ExportSpec(runtime="onnxruntime", precision="int8-dynamic"),
        "budget": OPEN,
        "thresholds": ParityThresholds(),
        "target": target,
        "threads": 3,
        "progress": Told(),
        **changes,
    }
    return assemble_bundle(**arguments)
