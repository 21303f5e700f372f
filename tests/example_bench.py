"""A report of 'edgevit bench', with figures of a likely size."""

from __future__ import annotations

import math
from typing import Any

from edgevit.benchreport import BenchReport, Latency, Machine, SensorReading
from edgevit.board.stats import summarize

MACHINE = Machine(cpu="AMD EPYC 7B13", arch="x86_64", cores=2, os="Debian GNU/Linux 12", python="3.11.2")


def example_bench(**changes: Any) -> BenchReport:
    samples = samples_around(2.28, 900)
    fields: dict[str, Any] = {
        "edgevit": "0.1.0",
        "model": "vit_tiny_patch16_224",
        "device": "local",
        "machine": MACHINE,
        "runtime": "onnxruntime",
        "runtime_version": "1.31.1",
        "precision": "int8-dynamic",
        "threads": 1,
        "batch": 1,
        "artifact_sha256": "ab" * 32,
        "latency_ms": latency_of(samples),
        "warmup_runs": 24,
        "load_ms": 41.2,
        "first_inference_ms": 3.9,
        "peak_rss_mib": 96.4,
        "sensors": (
            SensorReading(at="before", governor="performance", clock_mhz=2450.0, load_1min=0.31),
            SensorReading(at="after", governor="performance", clock_mhz=2449.0, temperature_c=54.0, throttled=False),
        ),
        "is_valid": True,
        "samples_ms": samples,
    }
    return BenchReport(**{**fields, **changes})


def samples_around(p50: float, runs: int) -> tuple[float, ...]:
    """A narrow hump around `p50` with a tail to the right, as timings have; no random generator, no surprise."""
    waves = ((math.sin(12.9898 * i) + math.sin(78.233 * i)) * p50 * 0.02 for i in range(runs))
    return tuple(p50 + wave + (p50 * 0.6 if i % 97 == 0 else 0.0) for i, wave in enumerate(waves))


def latency_of(samples: tuple[float, ...]) -> Latency:
    return Latency(**summarize(samples))
