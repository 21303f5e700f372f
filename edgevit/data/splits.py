"""Splitting and thinning labelled pictures so that every class keeps its share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgevit.data.pictures import PictureSet
from edgevit.errors import InputError

# Drawn first: the same pictures whatever val_fraction is, so that 'evaluate' never tests on what was trained on.
TEST_FRACTION = 0.2


def split_off(
    pictures: PictureSet, fractions: Sequence[float], seed: int, classes: Sequence[str], where: str
) -> list[PictureSet]:
    """The rest, then one part for each of `fractions`: stratified, disjoint, every class in every part.

    A part takes round(n * fraction) pictures of a class of n, and at least one. The same seed gives the same parts.
    Raises InputError naming `where` and the class that is too small.
    """
    if sum(fractions) >= 1.0:
        most = 1.0 - sum(fractions[:-1])
        raise InputError(f"data.val_fraction: {fractions[-1]:g} leaves nothing to train on. Choose less than {most:g}.")
    random = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
    for label, title in enumerate(classes):
        members = random.permutation(np.flatnonzero(pictures.labels == label))
        if len(members) < len(parts):
            raise InputError(
                f"{where}: class '{title}' has {len(members)} pictures, and a split into {len(parts)} parts "
                f"takes at least {len(parts)}. Add pictures, or give train/, val/ and test/ folders."
            )
        bounds = np.cumsum(_part_sizes(len(members), fractions))
        for part, chosen in zip(
            parts, [members[bounds[-1] :], *np.split(members[: bounds[-1]], bounds[:-1])], strict=True
        ):
            part.append(chosen)
    return [pictures.subset(np.sort(np.concatenate(part))) for part in parts]


def stratified_subset(pictures: PictureSet, limit: int | None, seed: int) -> PictureSet:
    """At most `limit` pictures, each class in proportion (largest remainders, and one of each class while it lasts).

    None, or a limit above the number of pictures, takes all. They keep their order.
    """
    if limit is None or limit >= len(pictures):
        return pictures
    random = np.random.default_rng(seed)
    labels, counts = np.unique(pictures.labels, return_counts=True)
    wanted = _shares(counts, limit)
    chosen = [
        random.permutation(np.flatnonzero(pictures.labels == label))[:size]
        for label, size in zip(labels, wanted, strict=True)
    ]
    return pictures.subset(np.sort(np.concatenate(chosen)))


def shuffled(pictures: PictureSet, seed: int) -> PictureSet:
    """The same pictures in an order fixed by `seed`, so that any first few are a fair sample of all."""
    return pictures.subset(np.random.default_rng(seed).permutation(len(pictures)))


def _shares(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """How many of each class: they sum to `limit`, and none is above its count. Needs limit < sum(counts)."""
    exact = counts * (limit / counts.sum())
    shares: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    if limit >= len(counts):
        shares = np.maximum(shares, 1)
    while shares.sum() < limit:
        shares[np.argmax(np.where(shares < counts, exact - shares, -np.inf))] += 1
    while shares.sum() > limit:
        shares[np.argmax(np.where(shares > 1, shares - exact, -np.inf))] -= 1
    return shares


def _part_sizes(count: int, fractions: Sequence[float]) -> list[int]:
    """round(count * fraction) each, at least one, and one left over; needs count > len(fractions)."""
    sizes = [max(1, round(count * fraction)) for fraction in fractions]
    while sum(sizes) >= count:
        sizes[sizes.index(max(sizes))] -= 1
    return sizes
