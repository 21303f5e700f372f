"""Token schedule: how many tokens each block does without, from three figures that a search can vary."""

from __future__ import annotations

import itertools

from edgevit.errors import InputError

LEAST_KEPT = 2
STEPS = 4  # each removal has its own cost, so a few large ones beat one in every block


def schedule(total_blocks: int, tokens: int, keep_ratio: float, start: int = 0) -> tuple[int, ...]:
    """`removed` of a TokenReduction: tokens fewer after the attention of each of `total_blocks` blocks.

    tokens: those that may go, the patches. keep_ratio: the share of them that is left in the end, rounded to a whole
    number, 2 at least. start: the first block that removes any. It and the next ones, STEPS in all, each leave the same
    share of what they get. The last block removes none: behind its attention a classifier by class token saves nothing.
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
    steps = min(STEPS, reducing)
    left = [round(tokens * (kept / tokens) ** (min(done, steps) / steps)) for done in range(reducing + 1)]
    removed = [before - after for before, after in itertools.pairwise(left)]
    return (*[0] * start, *removed, 0)
