from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgevit.rewrite.factors import Move, Sizes, Step, best_move


def applied(array: NDArray[np.int64], steps: list[Step]) -> NDArray[np.int64]:
    for step in steps:
        array = array.transpose(step.order) if step.order else array.reshape(step.sizes)
    return array


@st.composite
def chains(draw: st.DrawFn) -> tuple[Sizes, list[Step]]:
    """Sizes of products of 2 and 3, and steps that part, merge and permute them."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    start, steps = shape, []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            order = tuple(draw(st.permutations(range(len(shape)))))
            shape = tuple(shape[axis] for axis in order)
            steps.append(Step(order=order))
        else:
            shape = reshaped(draw, math.prod(shape))
            steps.append(Step(sizes=shape))
    return start, steps


def reshaped(draw: st.DrawFn, count: int) -> Sizes:
    shape = []
    while count > 1:
        size = draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
        shape.append(size)
        count //= size
    return tuple(shape) or (1,)


@settings(max_examples=200, deadline=None)
@given(chains())
def test_a_move_puts_every_element_where_its_chain_puts_it(chain: tuple[Sizes, list[Step]]) -> None:
    start, steps = chain
    source = np.arange(math.prod(start)).reshape(start)
    target = applied(source, steps)
    move = best_move(start, steps)
    if move is None:  # an axis that is cut across a factor: 2 x 3 as 3 x 2, permuted
        return
    moved = source.reshape(move.before).transpose(move.order).reshape(target.shape)
    np.testing.assert_array_equal(moved, target)
    assert move.steps(start, target.shape) <= 3
    if np.array_equal(target.ravel(), source.ravel()):
        assert not move.is_transposed


def test_windows_are_cut_by_one_transpose_instead_of_three() -> None:
    """EfficientViT's window partition, (B, C, 2·7, 2·7) to (B·2·2, C, 7, 7)."""
    steps = [
        Step(order=(0, 2, 3, 1)),
        Step(sizes=(1, 2, 7, 2, 7, 64)),
        Step(order=(0, 1, 3, 2, 4, 5)),
        Step(sizes=(4, 7, 7, 64)),
        Step(order=(0, 3, 1, 2)),
    ]
    assert best_move((1, 64, 14, 14), steps) == Move((64, 2, 7, 2, 7), (1, 3, 0, 2, 4))


def test_two_transposes_keep_the_axes_as_they_are() -> None:
    move = best_move((1, 7, 3, 4), [Step(order=(0, 2, 1, 3)), Step(order=(0, 1, 3, 2))])
    assert move == Move((1, 7, 3, 4), (0, 2, 3, 1))
    assert move.steps((1, 7, 3, 4), (1, 3, 4, 7)) == 1


def test_moving_an_axis_of_one_is_no_transpose() -> None:
    move = best_move((4, 1, 5), [Step(order=(1, 0, 2))])
    assert move is not None
    assert not move.is_transposed
    assert move.steps((4, 1, 5), (1, 4, 5)) == 1


def test_an_axis_cut_across_a_factor_has_no_move() -> None:
    assert best_move((2, 3), [Step(order=(1, 0)), Step(sizes=(2, 3)), Step(order=(1, 0))]) is None
