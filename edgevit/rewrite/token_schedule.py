"""Token schedule: how many tokens each block does without, from three figures that a search can vary."""

from __future__ import annotations

import itertools
from typing import Literal

from edgevit.errors import InputError

Shape = Literal["constant", "early", "few"]

LEAST_KEPT = 2
FEW_STEPS = 4


def schedule(
    total_blocks: int, tokens: int, keep_ratio: float, start: int = 0, shape: Shape = "constant"
) -> tuple[int, ...]:
    """`removed` of a TokenReduction: tokens fewer after the attention of each of `total_blocks` blocks.

    tokens: those that may go, the patches. keep_ratio: the share of them that is left in the end, rounded to a whole
    number, 2 at least. start: the first block that removes any. The last block removes none: behind its attention a
    classifier by class token saves nothing.
    shape 'constant' removes as many in each block, 'early' falls evenly to the last; 'few' leaves the same share in
    each of the first FEW_STEPS blocks and removes none later, because each removal has its own cost.
    Raises InputError for a keep_ratio outside (0, 1], or a start that is not before the last block.
    """
    if not 0 < keep_ratio <= 1:
        raise InputError(f"Share of tokens kept is {keep_ratio:g}: it must be above 0 and at most 1.")
    if not 0 <= start < total_blocks - 1:
        raise InputError(
            f"Tokens cannot go from block {start} on: of {total_blocks} blocks, 0 to {total_blocks - 2} can."
        )
    kept = min(tokens, max(LEAST_KEPT, round(tokens * keep_ratio)))
    reducing = total_blocks - 1 - start
    left = [_left(shape, tokens, kept, done, reducing) for done in range(reducing + 1)]
    removed = [before - after for before, after in itertools.pairwise(left)]
    return (*[0] * start, *removed, 0)


def _left(shape: Shape, tokens: int, kept: int, done: int, reducing: int) -> int:
    """How many of `tokens` are left after `done` of `reducing` blocks, when `kept` are in the end."""
    if shape == "few":
        steps = min(FEW_STEPS, reducing)
        share: float = (kept / tokens) ** (min(done, steps) / steps)
        return round(tokens * share)
    weights = [reducing - index if shape == "early" else 1 for index in range(reducing)]
    return tokens - (tokens - kept) * sum(weights[:done]) // sum(weights)


def few_steps(total_blocks: int, tokens: int, keep_ratio: float, start: int) -> tuple[int, ...]:
    """`schedule` of the shape 'few', as a search asks for it."""
    return schedule(total_blocks, tokens, keep_ratio, start, "few")
