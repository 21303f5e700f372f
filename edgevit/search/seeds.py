"""Seeds: where a search begins, the policies that usually win."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from edgevit.search.space import Choice, Parameters, Schedule, SearchSpace, policy_of
from edgevit.search.trials import Variant
from edgevit.search.variants import Spaces

MOST_SMALLER_SIZES = 1
KINDS = "linear", "conv", "attention", "residual"
MOST_OF_SEVERAL = 24  # where several models share one search


class Seed(NamedTuple):
    """`parameters`: what the variant's policy was made of."""

    variant: Variant
    parameters: Parameters


def seeds(spaces: Spaces, schedule: Schedule) -> tuple[Seed, ...]:
    """Different variants, those with the best prospects first; several models take turns, and MOST_OF_SEVERAL are left.

    fp32; dynamic linear layers; static, without and with its residual sums; mixed (linear layers dynamic, convolutions
    static, all of them or the pointwise ones, without and with INT8 attention); and all static with its own rewrites,
    as far as the space has them: each alone on every runtime; then each, on further runtimes dynamic linear layers and
    the richest only, at the next smaller image size and with a moderate and a strong token reduction.
    """
    turns = itertools.zip_longest(*(_of_model(model, space, schedule) for model, space in spaces.items()))
    found = tuple(seed for turn in turns for seed in turn if seed is not None)
    return found if len(spaces) == 1 else found[:MOST_OF_SEVERAL]


def _of_model(model: str, space: SearchSpace, schedule: Schedule) -> tuple[Seed, ...]:
    found: dict[str, Seed] = {}
    for parameters in _wanted(space):
        variant = Variant(model, policy_of(parameters, space, schedule))
        found.setdefault(variant.key, Seed(variant, parameters))
    return tuple(found.values())


def _wanted(space: SearchSpace) -> Iterator[Parameters]:
    precisions = _precisions(space)
    for runtime in space.runtimes:
        for precision in precisions:
            yield {"runtime": runtime, **precision}
    for runtime in space.runtimes:
        for precision in precisions if runtime == space.runtimes[0] else (*precisions[1:2], *precisions[-1:]):
            for size in space.image_sizes[1 : 1 + MOST_SMALLER_SIZES]:
                yield {"runtime": runtime, "image_size": size, **precision}
            for kept in _moderate_and_strong(space):
                yield {"runtime": runtime, "kept": kept, **precision}


def _precisions(space: SearchSpace) -> tuple[dict[str, Choice], ...]:
    """Without those that the space does not have in full: half a policy is not the one that usually wins."""
    by_kinds: list[dict[str, Choice]] = [
        {"linear": "int8-dynamic", "conv": "int8-static", "conv_kinds": kinds} for kinds in _other_kinds(space)
    ]
    rewritten: dict[str, Choice] = {
        "linear": "int8-static", "conv": "int8-static", "attention": "int8-static", "int8_rewrites": True,
    }  # fmt: skip
    static: dict[str, Choice] = {
        "linear": "int8-static" if "int8-static" in space.linear else "fp32",
        "conv": "int8-static" if "int8-static" in space.conv else "fp32",
    }
    wanted: tuple[dict[str, Choice], ...] = (
        {"linear": "fp32", "conv": "fp32"},
        {"linear": "int8-dynamic", "conv": "int8-weights" if "int8-weights" in space.conv else "fp32"},
        static,
        *({**static, "residual": "int8-static", "conv_kinds": kinds} for kinds in _other_kinds(space)[:1]),
        {"linear": "int8-dynamic", "conv": "int8-static"},
        *by_kinds,
        {"linear": "int8-dynamic", "conv": "int8-static", "attention": "int8-static"},
        *([rewritten] if any(space.int8_rewrites.values()) else []),
    )
    return tuple(
        kinds for kinds in wanted if all(kinds.get(name, "fp32") in (*getattr(space, name), "fp32") for name in KINDS)
    )


def _other_kinds(space: SearchSpace) -> tuple[str, ...]:
    """The search's sets of convolutions but the plain one, as its dimension names them."""
    return tuple("+".join(kinds) for kinds in space.conv_kinds[1:])


def _moderate_and_strong(space: SearchSpace) -> tuple[float, ...]:
    """A third and two thirds of the way through the shares that are searched."""
    kept = space.tokens.kept if space.tokens else ()
    return tuple(dict.fromkeys((kept[len(kept) // 3], kept[2 * len(kept) // 3]))) if kept else ()
