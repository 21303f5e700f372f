"""A Policy in plain words."""

from __future__ import annotations

from edgevit.board.sweep import thread_words
from edgevit.policy import Policy, TokenReduction
from edgevit.search.trials import Variant

EVERY_CONV = Policy().conv_kinds
PRECISIONS = {
    "fp32": "float", "int8-dynamic": "INT8 dynamic", "int8-static": "INT8 static", "int8-weights": "INT8 weights",
}  # fmt: skip
APPROXIMATIONS = {"gelu-tanh": "tanh", "gelu-sigmoid": "a sigmoid", "gelu-piecewise": "a clipped line"}
METHODS = {"prune": "dropped", "fuse": "fused into one", "merge": "merged"}


def in_words(variant: Variant) -> str:
    """As `describe`, behind the model's name where a search has several: 'deit_tiny: fp32, 192 px'."""
    words = describe(variant.policy)
    return f"{variant.model}: {words}" if variant.model else words


def describe(policy: Policy) -> str:
    """'linear layers INT8 dynamic, convolutions INT8 static, 12 tokens dropped in each of 11 blocks, 192 px'.

    Of exact rewrites, session entries and calibrators nothing is said: `details` does.
    """
    parts = [*_precision(policy)]
    parts += [f"GELU by {form}" for name, form in APPROXIMATIONS.items() if name in policy.rewrites]
    if policy.tokens:
        parts.append(_tokens(policy.tokens))
    if policy.image_size:
        parts.append(f"{policy.image_size} px")
    if policy.input_type == "uint8":
        parts.append("pictures as bytes")
    if policy.threads:
        parts.append(thread_words(policy.threads))
    if policy.runtime != "onnxruntime":
        parts.append(f"on {policy.runtime}")
    return ", ".join(parts)


def details(policy: Policy) -> str:
    """What `describe` leaves out: rewrites, how INT8 was prepared, the runtime's entries; '' when there is nothing."""
    parts = []
    if policy.rewrites:
        parts.append(f"rewrites {', '.join(policy.rewrites)}")
    if policy.needs_calibration:
        parts.append(f"calibrated by {policy.calibrator}")
    if policy.smooth_alpha is not None:
        parts.append(f"SmoothQuant {policy.smooth_alpha:g}")
    parts += ["equalized"] * policy.equalize + ["bias corrected"] * policy.correct_bias
    parts += [f"{key}={value}" for key, value in policy.session.items()]
    return ", ".join(parts)


def _precision(policy: Policy) -> list[str]:
    if policy.precision == "fp32":
        return ["fp32"]
    convolutions = "convolutions"
    if policy.conv_kinds != EVERY_CONV:
        convolutions = f"{' and '.join(policy.conv_kinds)} convolutions"
    kinds = (
        ("linear layers", policy.linear),
        (convolutions, policy.conv),
        ("attention", policy.attention),
        ("residual sums", policy.residual),
    )
    parts = [f"{name} {PRECISIONS[precision]}" for name, precision in kinds if precision != "fp32"]
    kept = len(policy.float_nodes)
    return [*parts, f"{kept} node{'' if kept == 1 else 's'} in float"] if kept else parts


def _tokens(tokens: TokenReduction) -> str:
    """'12 tokens dropped in each of 11 blocks', or '130 tokens dropped over 4 blocks' where they differ."""
    counts = [count for count in tokens.removed if count]
    total = counts[0] if len(set(counts)) == 1 else sum(counts)
    blocks = f"{len(counts)} blocks"
    where = f"in each of {blocks}" if len(set(counts)) == 1 else f"over {blocks}"
    if len(counts) == 1:
        where = "after one block"
    return f"{total} token{'' if total == 1 else 's'} {METHODS[tokens.method]} {where}"
