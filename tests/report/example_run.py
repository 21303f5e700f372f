"""Metrics of made-up runs, with figures of a likely size, for tests of what shows them."""

from __future__ import annotations

import math
from typing import Any

from example_bench import MACHINE, example_bench, latency_of, samples_around

from edgevit.recipe import Budget, DataSpec, ModelSpec, Recipe
from edgevit.results import (
    Accuracy,
    AccuracyDrop,
    Candidate,
    Epoch,
    LatencyRatio,
    Parity,
    Provenance,
    RunMetrics,
    TestResult,
    Verdict,
)

DIGITS = tuple("0123456789")


def example_metrics(**changes: Any) -> RunMetrics:
    """A run of digits on this machine: four candidates, int8-dynamic shipped. `changes` replace whole fields."""
    fields: dict[str, Any] = {
        "name": "digits-vit-tiny",
        "recipe": Recipe(
            name="digits-vit-tiny",
            model=ModelSpec(name="vit_tiny_patch16_224", image_size=32, weights="random"),
            data=DataSpec(source="digits", seed=7),
        ).model_dump(),
        "device": "local",
        "labels": DIGITS,
        "pictures": {"train": 1293, "val": 144, "test": 360},
        "weights": "random",
        "curves": tuple(_epoch(i) for i in range(1, 13)),
        "fp32_test": Accuracy(n=360, top1=98.6, ci95=(96.8, 99.4)),
        "shipped_test": TestResult(
            accuracy=Accuracy(n=360, top1=98.3, ci95=(96.4, 99.2)), confusion=example_confusion(10, 36, 6)
        ),
        "drop": AccuracyDrop(n=360, points=0.28, ci95=(-0.56, 1.11), p_value=1.0),
        "candidates": example_candidates(),
        "verdict": Verdict(
            shipped="int8-dynamic",
            budget=Budget(max_drop=1.0, max_latency_ms=4.0),
            within_budget=True,
            sentences=(
                "int8-dynamic is the fastest of three candidates inside the budget.",
                "int8-static lost: 1.07 times slower than int8-dynamic.",
                "mixed was not built: no layer stood out.",
            ),
        ),
        "bench": example_bench(),
        "bundle": "runs/digits-vit-tiny/bundle",
        "provenance": Provenance(
            edgevit="0.1.0",
            started="2026-01-15T09:30:00+00:00",
            machine=MACHINE,
            versions={"torch": "2.13.0", "timm": "1.0.31", "onnx": "1.23.2", "onnxruntime": "1.31.1"},
            seconds={"train": 118.4, "export": 9.8, "quantize": 4.1, "verify": 3.2, "bench": 21.0},
            skipped={"train/3/broken.png": "the file is truncated"},
        ),
    }
    return RunMetrics(**{**fields, **changes})


def example_candidates() -> tuple[Candidate, ...]:
    return (
        _candidate("fp32", 2.31, 3.20, 98.6, hops=("torch to ONNX fp32",), why="1.40 times slower than int8-dynamic."),
        _candidate(
            "int8-dynamic",
            0.71,
            2.28,
            98.3,
            ratio=(1.40, 1.38, 1.43),
            drop=0.28,
            shipped=True,
            why="Fastest that fits.",
        ),
        _candidate(
            "int8-static", 0.68, 2.44, 97.8, ratio=(1.31, 1.28, 1.33), drop=0.83, why="Slower than int8-dynamic."
        ),
        Candidate(name="mixed", precision="mixed", runtime="onnxruntime", size_mib=0.9, failed="no layer stood out"),
    )


def unmeasured(candidate: Candidate) -> Candidate:
    """The same candidate for a board that is not at hand."""
    return candidate.model_copy(update={"latency_ms": None, "samples_ms": (), "vs_fp32": None})


def unlabeled(candidate: Candidate) -> Candidate:
    return candidate.model_copy(update={"accuracy": None, "drop": None})


def example_confusion(classes: int, pictures: int, mistakes: int) -> tuple[tuple[int, ...], ...]:
    """Each class has `pictures`; mistake k is one picture of class 3k taken for the class after it (modulo classes)."""
    counts = [[pictures if i == j else 0 for j in range(classes)] for i in range(classes)]
    for k in range(mistakes):
        truth = 3 * k % classes
        counts[truth][truth] -= 1
        counts[truth][(truth + 1) % classes] += 1
    return tuple(map(tuple, counts))


def _candidate(
    precision: str,
    size_mib: float,
    p50: float,
    top1: float,
    *,
    ratio: tuple[float, float, float] | None = None,
    drop: float | None = None,
    hops: tuple[str, ...] = ("torch to ONNX fp32", "ONNX fp32 to int8"),
    shipped: bool = False,
    why: str,
) -> Candidate:
    samples = samples_around(p50, 700)
    return Candidate(
        name=precision,
        precision=precision,
        runtime="onnxruntime",
        size_mib=size_mib,
        latency_ms=latency_of(samples),
        samples_ms=samples,
        vs_fp32=LatencyRatio(ratio=ratio[0], ci95=ratio[1:]) if ratio else None,
        accuracy=Accuracy(n=360, top1=top1, ci95=(top1 - 1.9, top1 + 0.9)),
        drop=AccuracyDrop(n=360, points=drop, ci95=(drop - 0.83, drop + 0.83), p_value=0.5) if drop else None,
        parity=tuple(_parity(hop) for hop in hops),
        shipped=shipped,
        why=why,
    )


def _parity(hop: str) -> Parity:
    if hop.endswith("int8"):
        return Parity(hop=hop, n=128, cosine=0.99812, max_abs=0.41, sqnr_db=24.3, top1_agreement=0.992, passed=True)
    return Parity(hop=hop, n=128, cosine=0.9999998, max_abs=4e-6, sqnr_db=112.0, top1_agreement=1.0, passed=True)


def _epoch(i: int) -> Epoch:
    return Epoch(
        epoch=i,
        learning_rate=5e-4 * (1 + math.cos(math.pi * i / 12)) / 2,
        train_loss=0.55 + 1.9 * math.exp(-i / 2.5),
        val_loss=0.60 + 1.6 * math.exp(-i / 2.2) + 0.01 * (i % 3),
        val_top1=98.6 - 62 * math.exp(-i / 1.8) - 0.3 * (i % 2),
        seconds=9.7,
    )
