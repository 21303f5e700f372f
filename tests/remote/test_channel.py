"""A channel's limits, by a clock that the reader moves."""

from __future__ import annotations

import pytest

from edgevit.errors import MeasurementError
from edgevit.remote.channel import Channel
from edgevit.remote.host import parse_host

BOARD = parse_host("board")


def test_a_limit_of_silence_begins_anew_with_every_line() -> None:
    now = [0.0]
    seen = []
    with Channel(BOARD, ["printf", "a\\nb\\nc\\n"]) as channel:
        for line in channel.lines(1e6, silence_s=300.0, clock=lambda: now[0]):
            seen.append(line)
            now[0] += 299.0
    assert seen == [b"a", b"b", b"c"]


def test_silence_longer_than_its_limit_is_an_error() -> None:
    times = iter([0.0, 301.0])
    with (
        Channel(BOARD, ["cat"]) as channel,
        pytest.raises(MeasurementError, match=r"^board: says nothing for 300 s\. Is the board overloaded\?$"),
    ):
        list(channel.lines(1e6, silence_s=300.0, clock=lambda: next(times)))
