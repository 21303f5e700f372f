"""An Examiner whose figures are arithmetic, so that the true front of its space is known.

DeiT-Ti's proportions, roughly: linear layers are two thirds of the time, INT8 saves half of theirs, dropping tokens
saves in proportion, and each of them costs accuracy.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import EdgevitError
from edgevit.policy import Policy
from edgevit.search.space import SearchSpace, TokenSpace, dimensions, policy_of
from edgevit.search.trials import canonical

BLOCKS, PATCH = 12, 16
FP32_TOP1 = 80.0
SIZES = (224, 192, 160, 128)


def constant_schedule(blocks: int, tokens: int, kept: float, start: int) -> tuple[int, ...]:
    """As many tokens fewer in every block from `start` on, so that `kept` of them leave the last one."""
    each = int(tokens * (1 - kept) / (blocks - start))
    return (0,) * start + (each,) * (blocks - start)


SPACE = SearchSpace(
    image_sizes=SIZES,
    rewrites={"onnxruntime": ("class-token",)},
    approximations={"gelu": ("tanh-gelu", "quick-gelu")},
    tokens=TokenSpace(
        methods=("fuse", "merge"), blocks=BLOCKS, tokens={side: (side // PATCH) ** 2 + 1 for side in SIZES},
        starts=(0, 3, 6),
    ),
    linear=("fp32", "int8-dynamic", "int8-static"),
    conv=("fp32", "int8-static"),
    attention=("fp32", "int8-static"),
    sensitive_nodes=tuple(f"node {number}" for number in range(8)),
    calibrators=("minmax", "percentile"),
    smooth_alphas=(None, 0.5),
    sessions={"onnxruntime": {"default": {}, "no arena": {"session.enable_cpu_mem_arena": "0"}}},
)  # fmt: skip


def exact_latency_ms(policy: Policy) -> float:
    share = ((policy.image_size or SIZES[0]) / SIZES[0]) ** 2
    tokens = 197 * share
    removed = policy.tokens.removed if policy.tokens else ()
    left = sum(tokens - sum(removed[: block + 1]) for block in range(BLOCKS)) / BLOCKS / 197
    linear = {"fp32": 14.0, "int8-dynamic": 7.6, "int8-static": 7.0}[policy.linear]
    linear += 0.35 * len(policy.float_nodes) if policy.linear != "fp32" else 0.0
    attention = {"fp32": 3.0, "int8-static": 2.6}[policy.attention] * left
    gelu = 2.2 - 0.6 * ("tanh-gelu" in policy.rewrites) - 1.1 * ("quick-gelu" in policy.rewrites)
    conv = {"fp32": 1.0, "int8-static": 0.7, "int8-weights": 1.0}[policy.conv] * share
    method = 0.25 * (policy.tokens is not None) + 0.15 * (policy.tokens is not None and policy.tokens.method == "merge")
    return (linear + attention + gelu) * left + conv + method + (0.4 if policy.session else 0.0)


def exact_drop(policy: Policy) -> float:
    """Points below fp32 at its own size."""
    side = policy.image_size or SIZES[0]
    tokens = (side // PATCH) ** 2 + 1
    lost = 0.4 * (SIZES[0] / side - 1) * 10 ** (SIZES[0] / side - 1)
    if policy.tokens:
        gone = sum(policy.tokens.removed) / tokens
        early = 1.0 if policy.tokens.removed[0] else 0.8 if policy.tokens.removed[3] else 1.4
        lost += early * 6 * gone**3 * (1.0 if policy.tokens.method == "fuse" else 0.85)
    if policy.linear != "fp32":
        outliers = 1.0 if policy.smooth_alpha is None else 0.3
        scale = {"int8-dynamic": 0.25, "int8-static": 0.9}[policy.linear]
        scale *= 0.7 if policy.linear == "int8-static" and policy.calibrator == "percentile" else 1.0
        lost += scale * (0.4 + outliers * math.exp(-len(policy.float_nodes) / 2))
    lost += 0.35 * (policy.attention == "int8-static") + 0.1 * (policy.conv == "int8-static")
    return lost + 0.02 * ("tanh-gelu" in policy.rewrites) + 0.5 * ("quick-gelu" in policy.rewrites)


class ArithmeticBench:
    """`failing`: a word in a policy's JSON that makes its build fail. `noise`: of latency, relative, 0 for none."""

    unit = "ms"

    def __init__(self, pictures: int = 2000, failing: str | None = None, noise: float = 0.0) -> None:
        self.pictures, self.failing, self.noise = pictures, failing, noise
        self.built: list[str] = []
        self.anchors: list[tuple[Policy, float]] = []
        self.seen = 0
        order = np.random.default_rng(0).permutation(pictures)
        self._difficulty = 100 * (order + 0.5) / pictures  # a picture is right where the top-1 exceeds it

    def build(self, policy: Policy) -> str:
        text = canonical(policy)
        if self.failing and self.failing in text:
            raise EdgevitError(f"No kernel for {self.failing}.")
        self.built.append(text)
        return hashlib.sha256(text.encode()).hexdigest()

    def cost(self, policy: Policy) -> float:
        digest = hashlib.sha256(canonical(policy).encode()).digest()
        return exact_latency_ms(policy) * (1 + self.noise * (digest[0] / 127.5 - 1))

    def anchor(self, policy: Policy, cost: float) -> None:
        self.anchors.append((policy, cost))

    def correct(self, policy: Policy, start: int, stop: int) -> NDArray[np.bool_]:
        self.seen += stop - start
        verdicts: NDArray[np.bool_] = self._difficulty[start:stop] < FP32_TOP1 - exact_drop(policy)
        return verdicts


def every_policy(space: SearchSpace = SPACE) -> Iterator[Policy]:
    axes = dimensions(space)
    for values in itertools.product(*(axis.choices for axis in axes)):
        yield policy_of(dict(zip((axis.name for axis in axes), values, strict=True)), space, constant_schedule)


def hypervolume(points: list[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area of what the points dominate within `reference`; (latency, drop), less is better."""
    area, least = 0.0, reference[1]
    for latency, drop in sorted(points):
        if latency < reference[0] and drop < least:
            area += (reference[0] - latency) * (least - drop)
            least = drop
    return area
