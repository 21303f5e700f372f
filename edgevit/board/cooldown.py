"""Waiting until a machine is no longer hot from what it did before: a measurement that begins hot ends throttled.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COOL_DOWN_MAX_SECONDS = 300.0
LOOK_SECONDS = 2.0
# At rest: within 20 s it fell by less than a degree, the step in which many sensors count.
REST_LOOKS, REST_C = 11, 1.0


def cool_down(
    read_c: Callable[[], float | None],
    clock: Callable[[], float],
    sleep: Callable[[float], object],
    tell: Callable[[float, float], object] | None = None,
) -> dict[str, Any]:
    """The report's `cool_down`: waits until the temperature no longer falls, 300 s at most.

    read_c: degrees Celsius, None where there is no sensor; then nothing is waited for. tell: is told seconds and
    degrees at each look. seconds: waited; from_c, to_c; is_at_rest: False when the time was over before.
    """
    began = clock()
    first_c = read_c()
    seen_c = [] if first_c is None else [first_c]
    while seen_c and not is_at_rest(seen_c) and clock() - began < COOL_DOWN_MAX_SECONDS:
        sleep(LOOK_SECONDS)
        now_c = read_c()
        seen_c.append(seen_c[-1] if now_c is None else now_c)
        if tell is not None:
            tell(clock() - began, seen_c[-1])
    return {
        "seconds": clock() - began if seen_c else 0.0,
        "from_c": first_c,
        "to_c": seen_c[-1] if seen_c else None,
        "is_at_rest": is_at_rest(seen_c),
    }


def is_at_rest(seen_c: Sequence[float]) -> bool:
    """Whether temperatures, one every LOOK_SECONDS, have stopped falling; one that rises is not cooling either."""
    return len(seen_c) >= REST_LOOKS and seen_c[-REST_LOOKS] - seen_c[-1] < REST_C


def cool_down_note(cooled: dict[str, Any]) -> str:
    """What a reader must know of the wait."""
    if cooled["from_c"] is None:
        return "This machine has no temperature sensor: it was not waited for to cool down."
    what = f"Waited {cooled['seconds']:.0f} s before measuring: {cooled['from_c']:.0f} °C, then {cooled['to_c']:.0f} °C"
    return f"{what}." if cooled["is_at_rest"] else f"{what}, and still falling."
