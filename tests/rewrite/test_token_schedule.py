from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.rewrite.token_schedule import schedule


def test_each_step_leaves_the_same_share_and_later_blocks_remove_none() -> None:
    # 256 to 16 in four steps: half of them each time; 81 to 16: two thirds.
    assert schedule(8, 256, 1 / 16) == (128, 64, 32, 16, 0, 0, 0, 0)
    assert schedule(6, 81, 16 / 81) == (27, 18, 12, 8, 0, 0)


def test_a_start_leaves_the_blocks_before_it_alone() -> None:
    assert schedule(8, 256, 1 / 16, start=2) == (0, 0, 128, 64, 32, 16, 0, 0)


def test_steps_are_fewer_where_fewer_blocks_can() -> None:
    assert schedule(3, 100, 0.25) == (50, 25, 0)
    assert schedule(2, 100, 0.25) == (75, 0)


def test_keeping_all_removes_none() -> None:
    assert schedule(3, 196, 1.0) == (0, 0, 0)


def test_two_tokens_are_left_at_least() -> None:
    assert sum(schedule(3, 16, 0.001)) == 14
    assert sum(schedule(3, 1, 0.5)) == 0


@given(
    blocks=st.integers(2, 24),
    tokens=st.integers(2, 400),
    ratio=st.floats(0.01, 1),
    start=st.integers(0, 22),
)
def test_what_is_left_is_the_share_that_was_asked_for(blocks: int, tokens: int, ratio: float, start: int) -> None:
    start = min(start, blocks - 2)
    removed = schedule(blocks, tokens, ratio, start)
    assert len(removed) == blocks
    assert min(removed) >= 0
    assert not any(removed[:start])
    assert removed[-1] == 0
    assert tokens - sum(removed) == max(2, round(tokens * ratio))


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(InputError, match=r"^Share of tokens kept is \S+: it must be above 0 and at most 1\.$"):
        schedule(12, 196, ratio)


@pytest.mark.parametrize("start", [-1, 11, 12])
def test_a_start_outside_the_blocks_that_can_is_refused(start: int) -> None:
    message = rf"^Tokens cannot go from block {start} on: of 12 blocks, 0 to 10 can\.$"
    with pytest.raises(InputError, match=message):
        schedule(12, 196, 0.5, start)
