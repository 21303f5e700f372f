from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.board.validity import (
    drift,
    drift_reasons,
    governor_reasons,
    load_reasons,
    moving_governors,
    throttle_reasons,
)

COOL = "let it cool down, add a heat sink or a fan, and measure again."
SUPPLY = "use the board's own power supply and a short cable (Pi 5: 27 W, Pi 4: 15 W)."


def reading(at: str, *flags: str, throttled: bool | None = None, **more: Any) -> dict[str, Any]:
    return {"at": at, "throttle_flags": list(flags), "throttled": throttled, "governor": None, **more}


def test_a_calm_run_has_no_reason_to_be_invalid() -> None:
    calm = [reading("before", throttled=False), reading("after", throttled=False)]
    assert throttle_reasons(calm, (5, 5)) == []
    assert throttle_reasons([], (None, None)) == []


def test_heat_during_the_run_is_a_reason_and_cooling_the_fix() -> None:
    readings = [reading("before", throttled=False), reading("during", "throttled", throttled=True)]
    assert throttle_reasons(readings, (None, None)) == [f"The CPU was throttled during the run (throttled): {COOL}"]


def test_under_voltage_is_a_reason_and_the_supply_the_fix() -> None:
    readings = [reading("before", "under-voltage", "throttled", throttled=True)]
    assert throttle_reasons(readings, (None, None)) == [
        f"The CPU was throttled before the run (under-voltage, throttled): {SUPPLY}"
    ]


def test_a_past_flag_counts_only_when_it_is_new() -> None:
    old = "throttled-occurred"
    new = "under-voltage-occurred"
    readings = [reading("before", old, throttled=False), reading("after", old, new, throttled=False)]
    assert throttle_reasons(readings, (None, None)) == [
        f"The CPU throttled between two looks at it (under-voltage-occurred): {SUPPLY}"
    ]


def test_a_counter_that_grew_is_a_reason() -> None:
    assert throttle_reasons([reading("before")], (2, 5)) == [
        f"The CPU throttled 3 times during the run (the machine's counter): {COOL}"
    ]


@pytest.mark.parametrize(
    ("governor", "span", "moving"),
    [
        ("performance", (600.0, 2400.0), []),
        ("userspace", (600.0, 2400.0), []),
        ("ondemand", (600.0, 2400.0), ["ondemand"]),
        ("performance,schedutil", None, ["schedutil"]),
        ("ondemand", (2400.0, 2400.0), []),  # jetson_clocks leaves the governor and ties lowest to highest
        (None, (600.0, 2400.0), []),
        ("", None, []),
    ],
)
def test_a_governor_moves_the_clock_where_it_has_a_choice(governor: str | None, span: Any, moving: list[str]) -> None:
    assert moving_governors({"governor": governor, "clock_range_mhz": span}) == moving


def test_a_governor_that_scales_is_a_reason_with_the_command_that_mends_it() -> None:
    look = reading("before", governor="ondemand", clock_range_mhz=(600.0, 2400.0))
    assert governor_reasons([look, look]) == [
        "The governor ondemand moves the CPU's clock between 600 and 2400 MHz: "
        "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
    ]
    assert governor_reasons([{**look, "governor": "performance"}]) == []
    (unknown,) = governor_reasons([{**look, "clock_range_mhz": None}])
    assert unknown.startswith("The governor ondemand moves the CPU's clock: echo")


@pytest.mark.parametrize("share", [None, 0.0, 0.05])
def test_up_to_five_percent_for_others_are_allowed(share: float | None) -> None:
    assert load_reasons(share) == []


def test_more_than_five_percent_for_others_is_a_reason() -> None:
    (reason,) = load_reasons(0.117)
    assert reason.startswith("Other programs had 12 % of the processors during the run, and 5 % are allowed: stop them")


def test_a_run_that_gets_slower_or_faster_is_a_reason() -> None:
    rising = [100.0] * 10 + [104.0] * 10 + [108.0] * 10
    assert drift(rising) == pytest.approx(0.08)
    assert drift_reasons(rising)[0].startswith("The last third of the run was 8 % slower: the machine throttles")
    falling = rising[::-1]
    assert drift(falling) == pytest.approx(100 / 108 - 1)
    assert drift_reasons(falling)[0].startswith("The last third of the run was 7 % faster: it was not warm")


def test_five_percent_are_allowed() -> None:
    assert drift_reasons([100.0] * 10 + [104.9] * 20) == []


def test_what_noise_explains_is_no_drift() -> None:
    noise = random.Random(1)
    samples = [100.0 + noise.gauss(0, 30) for _ in range(60)]
    assert drift(samples) == 0.0
    assert drift_reasons(samples) == []


def test_steady_runs_with_noise_are_all_but_never_called_drifting() -> None:
    noise = random.Random(2)
    runs = [[abs(noise.gauss(50, 4)) for _ in range(64)] for _ in range(400)]
    assert sum(bool(drift_reasons(run)) for run in runs) <= 1


@pytest.mark.parametrize("samples", [[], [400.0] * 8, [1.0] * 999])
def test_a_run_that_is_too_short_is_not_judged(samples: list[float]) -> None:
    assert drift(samples) is None
    assert drift_reasons(samples) == []


@given(st.lists(st.floats(0, 1e6), max_size=90))
def test_drift_of_any_run_is_a_number_above_minus_one(samples: list[float]) -> None:
    change = drift(samples)
    assert change is None or change >= -1
