"""Real outputs of vcgencmd, the source of each beside it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.board.raspberrypi import parse_clock, parse_pmic, parse_supply, parse_temperature, parse_throttled

# A Pi 5 under load, powered by its own supply. Source: https://github.com/jfikar/RPi5-power, README
PMIC = """\
 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        # Source: https://www.jeffgeerling.com/blog/2023/overclocking-and-underclocking-raspberry-pi-5
        ("throttled=0x0\n", []),
        # Source: https://github.com/raspberrypi/firmware/issues/615
        ("throttled=0x50000\n", ["under-voltage-occurred", "throttled-occurred"]),
        (
            "throttled=0x50005\n",
            ["under-voltage", "throttled", "under-voltage-occurred", "throttled-occurred"],
        ),
        # Source: https://github.com/imrahil/OctoPrint-NavbarTemp/issues/75
        ("0x20002", None),
        ("throttled=0x20002", ["frequency-capped", "frequency-capped-occurred"]),
        ("throttled=0x80008", ["soft-temperature-limit", "soft-temperature-limit-occurred"]),
        ("", None),
        ("VCHI initialization failed", None),
        ("throttled=0x1234567890abcdef", None),
    ],
)
def test_throttle_bits_are_named_now_and_since_boot(text: str, flags: list[str] | None) -> None:
    assert parse_throttled(text) == flags


def test_temperature_and_clock_of_real_answers() -> None:
    # Source: https://github.com/raspberrypi/firmware/issues/615
    assert parse_temperature("temp=39.2'C\n") == 39.2
    # Source: https://github.com/duckietown/Software/issues/358, a Pi 3B+
    assert parse_clock("frequency(45)=1400000000\n") == 1400.0
    # Source: https://github.com/raspberrypi/linux/issues/7348, a clock that is switched off
    assert parse_clock("frequency(0)=0\n") is None


def test_other_words_say_nothing() -> None:
    error = 'error=1 error_msg="Command not registered"\n'  # a Pi without the chip
    readers = (parse_throttled, parse_temperature, parse_clock, parse_pmic, parse_supply)
    assert [read(error) for read in readers] == [None] * 5
    assert parse_temperature("temp=-3.5'C") == -3.5


def test_power_of_a_pi_5_is_the_sum_of_its_rails() -> None:
    by_hand = (
        0.06245952 * 3.306322 + 0.1610285 * 1.798289 + 0.00780744 * 1.102929 + 0.1756674 * 1.104394
        + 0.3279125 * 0.8025633 + 10.87674 * 0.8974594 + 0.0003663 * 3.304942 + 0.00042735 * 3.302194
        + 0.00579975 * 0.7973619 + 0.0136752 * 5.07056
    )  # fmt: skip
    assert parse_pmic(PMIC) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(10.80, abs=0.02)
    assert parse_supply(PMIC) == 5.06788


def test_a_rail_without_its_voltage_does_not_count() -> None:
    text = "A_A current(0)=1.0A\nA_V volt(1)=5.0V\nB_A current(2)=2.0A\nEXT5V_V volt(24)=5.1V"
    assert parse_pmic(text) == pytest.approx(5.0)


def test_a_voltage_that_is_no_number_is_left_out() -> None:
    # Source: what a firmware answered for a missing battery, BATT_V volt(25)=nanV
    assert parse_pmic("BATT_A current(1)=1.0A\nBATT_V volt(25)=nanV") is None


@given(st.text() | st.from_regex(r"(throttled=0x|temp=|frequency\(1\)=|X_A current\(1\)=)[-0-9a-f.]{0,40}[A'C]{0,2}"))
def test_any_text_is_read_without_an_error_or_nonsense(text: str) -> None:
    flags, degrees, mhz = parse_throttled(text), parse_temperature(text), parse_clock(text)
    assert flags is None or len(set(flags)) == len(flags) <= 8
    assert degrees is None or -1000 < degrees < 1000
    assert mhz is None or 0 < mhz < 1e6
    assert all(
        value is None or (math.isfinite(value) and value >= 0) for value in (parse_pmic(text), parse_supply(text))
    )


@given(st.integers(0, 80), st.integers(0, 80))
def test_a_cut_answer_never_counts_more_power(start: int, length: int) -> None:
    lines = PMIC.splitlines()[start : start + length]
    watts = parse_pmic("\n".join(lines))
    assert watts is None or 0 <= watts <= (parse_pmic(PMIC) or 0) + 1e-9
