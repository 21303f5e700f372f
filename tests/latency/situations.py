"""Situations and coefficients for tests of the roofline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgevit.device import CoreCluster
from edgevit.latency.coefficients import Key, prior_of
from edgevit.latency.machine import MachineFigures
from edgevit.latency.operators import Operator
from edgevit.latency.roofline import Roofline, Situation, keys_of

CORE = CoreCluster(
    model="Core", cores=4, clock_mhz=1000, fp32_flops_per_cycle=16, fp16_flops_per_cycle=32, int8_ops_per_cycle=64
)
MACHINE = MachineFigures(clusters=(CORE,), bandwidth_gb_s=8)
LINEAR = Operator("linear", "fp32", macs=80_000_000, weights=1000, activations=1000)


def situation(*operators: Operator, **changes: Any) -> Situation:
    fields: dict[str, Any] = {
        "model": "model", "operators": operators or (LINEAR,), "machine": MACHINE, "board": "board",
        "runtime": "onnxruntime", "threads": 1,
    }  # fmt: skip
    return Situation(**{**fields, **changes})


def ideal(item: Situation) -> dict[Key, float]:
    """The whole of every peak, no overhead, nothing serial."""
    nothing = {"overhead": -math.inf, "serial": -math.inf}
    return {key: nothing.get(key[0], 0.0) for key in keys_of(item)}


def priors(item: Situation) -> dict[Key, float]:
    return {key: prior_of(key).mean for key in keys_of(item)}


def time_ms(item: Situation, coefficients: Mapping[Key, float]) -> float:
    """Milliseconds of one inference. coefficients: all of keys_of(item)."""
    keys = keys_of(item)
    return float(Roofline([item], keys).times_ms(np.array([coefficients[key] for key in keys]))[0])


def total_macs(operators: Iterable[Operator]) -> int:
    return sum(operator.macs * operator.count for operator in operators)
