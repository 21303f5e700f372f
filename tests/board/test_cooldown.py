from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgevit.benchreport import CoolDown
from edgevit.board.cooldown import cool_down, cool_down_note, is_at_rest


def waited(degrees: Sequence[float | None]) -> dict[str, Any]:
    """cool_down on a clock that only sleeping moves; the last of `degrees` stays."""
    now, left = [0.0], list(degrees)

    def read() -> float | None:
        return left.pop(0) if len(left) > 1 else left[0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    found = cool_down(read, lambda: now[0], sleep)
    CoolDown.model_validate(found)
    return found


def test_a_machine_is_waited_for_until_it_falls_by_less_than_a_degree_in_20_s() -> None:
    # 71, 70, ... 61 and 60 from then on: a look every 2 s. At the 21st look (40 s) ten steps back it was 61: a degree.
    # At the 22nd (42 s) it was 60.
    found = waited([*(71.0 - step for step in range(11)), 60.0])
    assert found == {"seconds": 42.0, "from_c": 71.0, "to_c": 60.0, "is_at_rest": True}
    assert cool_down_note(found) == "Waited 42 s before measuring: 71 °C, then 60 °C."


def test_a_machine_at_rest_is_looked_at_for_20_s() -> None:
    assert waited([40.0])["seconds"] == 20.0


def test_a_machine_that_never_rests_is_measured_after_five_minutes() -> None:
    found = waited([500.0 - step for step in range(200)])
    assert (found["seconds"], found["is_at_rest"]) == (300.0, False)
    assert cool_down_note(found) == "Waited 300 s before measuring: 500 °C, then 350 °C, and still falling."


def test_without_a_sensor_nothing_is_waited_for() -> None:
    found = waited([None])
    assert found == {"seconds": 0.0, "from_c": None, "to_c": None, "is_at_rest": False}
    assert cool_down_note(found) == "This machine has no temperature sensor: it was not waited for to cool down."


def test_a_sensor_that_fails_once_does_not_end_the_wait() -> None:
    assert waited([50.0, None, 50.0])["to_c"] == 50.0


@pytest.mark.parametrize(
    ("seen", "rests"),
    [
        ([50.0] * 10, False),
        ([50.0] * 11, True),
        ([51.0] + [50.0] * 10, False),
        ([40.0] + [50.0] * 10, True),
        ([], False),
    ],
)
def test_rest_is_judged_by_the_last_eleven_looks(seen: list[float], rests: bool) -> None:
    assert is_at_rest(seen) is rests
