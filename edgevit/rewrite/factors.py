"""Factors: a chain of Reshapes and Transposes as one permutation of its input's factors.

A factor is a (size, stride) pair as in a strided view; an axis is one or several of them. Whatever its length, a chain
can be written as Reshape, Transpose, Reshape, of which only the Transpose moves bytes; and as a single Reshape when the
factors are still in the input's order. Shapes alone: nothing here knows ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Sizes = tuple[int, ...]
Factor = tuple[int, int]  # (size, stride in the chain's input)


@dataclass(frozen=True)
class Step:
    """One operator of a chain: a Transpose by `order`, or else a Reshape to `sizes`."""

    order: Sizes = ()
    sizes: Sizes = ()


@dataclass(frozen=True)
class Move:
    """Reshape to `before`, Transpose by `order`; the Reshape to the chain's output sizes is implied."""

    before: Sizes
    order: Sizes

    @property
    def after(self) -> Sizes:
        return tuple(self.before[axis] for axis in self.order)

    @property
    def is_transposed(self) -> bool:
        return list(self.order) != sorted(self.order)

    def steps(self, source: Sizes, target: Sizes) -> int:
        """How many operators it takes from an input of sizes `source` to an output of sizes `target`."""
        if not self.is_transposed:
            return int(source != target)
        return 1 + (self.before != source) + (self.after != target)


def best_move(start: Sizes, steps: Sequence[Step]) -> Move | None:
    """The chain of `steps` from an input of sizes `start` as one move; None when no factors express it.

    Of equal moves the one of the fewest operators; a Transpose only where one is needed.
    """
    permuted = _permuted(start, steps)
    if permuted is None:
        return None
    factors, target = permuted
    moves = [_in_factors(factors), _in_axes(factors, start, target)]
    return min((move for move in moves if move is not None), key=lambda m: (m.is_transposed, m.steps(start, target)))


def _permuted(start: Sizes, steps: Sequence[Step]) -> tuple[list[Factor], Sizes] | None:
    """(the input's factors in the order in which the output holds them, the output's sizes)."""
    axes: list[list[Factor]] | None = [[factor] for factor in _axes(start)]
    target = start
    for step in steps:
        assert axes is not None
        if step.order:
            axes = [axes[axis] for axis in step.order]
            target = tuple(target[axis] for axis in step.order)
        else:
            axes = _regrouped([factor for axis in axes for factor in axis], step.sizes)
            target = step.sizes
        if axes is None:
            return None
    assert axes is not None
    return _merged([factor for axis in axes for factor in axis]), target


def _axes(shape: Sizes) -> list[Factor]:
    """(size, stride) of each axis of a contiguous tensor."""
    return [(size, math.prod(shape[axis + 1 :])) for axis, size in enumerate(shape)]


def _regrouped(factors: Sequence[Factor], shape: Sizes) -> list[list[Factor]] | None:
    """The factors dealt out to the axes of a Reshape, split where an axis ends within one; None if one cannot be."""
    rest = [factor for factor in reversed(factors) if factor[0] != 1]
    axes: list[list[Factor]] = []
    for wanted in shape:
        axis: list[Factor] = []
        while wanted > 1:
            size, stride = rest.pop()
            if wanted % size == 0:
                axis.append((size, stride))
                wanted //= size  # noqa: PLW2901
            elif size % wanted == 0:
                inner = size // wanted
                axis.append((wanted, stride * inner))
                rest.append((inner, stride))
                wanted = 1  # noqa: PLW2901
            else:
                return None
        axes.append(axis)
    return axes


def _merged(factors: Sequence[Factor]) -> list[Factor]:
    """Neighbours that are neighbours in the input too are one factor."""
    merged: list[Factor] = []
    for size, stride in factors:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged


def _in_factors(merged: Sequence[Factor]) -> Move:
    """The move of the fewest axes."""
    in_source = sorted(merged, key=lambda factor: -factor[1])
    return Move(tuple(size for size, _ in in_source), tuple(in_source.index(factor) for factor in merged))


def _in_axes(merged: Sequence[Factor], start: Sizes, target: Sizes) -> Move | None:
    """The move of the input's own axes, which needs no Reshape before it; None when it splits one of them."""
    axes = _axes(start)
    order: list[int] = []
    for size, stride in merged:
        inside = [axis for axis, (n, s) in enumerate(axes) if n != 1 and stride <= s < stride * size]
        if math.prod(start[axis] for axis in inside) != size or axes[inside[-1]][1] != stride:
            return None
        order += inside
    ones = [axis for axis, size in enumerate(start) if size == 1]
    if len(target) == len(start) and sum(size == 1 for size in target) == len(ones):  # each where the output has one
        moved, unit = iter(order), iter(ones)
        return Move(start, tuple(next(unit) if size == 1 else next(moved) for size in target))
    return Move(start, (*ones, *order))
