"""What a Raspberry Pi's `vcgencmd` prints, read. Pure functions: text in, a value or None out.

Source: raspberrypi.com, documentation, "vcgencmd".
Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import re

# Bits 0 to 3 of get_throttled. Bits 16 to 19 say that the same has happened since boot.
THROTTLE_BITS = ("under-voltage", "frequency-capped", "throttled", "soft-temperature-limit")
HAS_OCCURRED = "-occurred"
# The Pi 5's power chip gives 12 rails; the USB ports, a HAT and an NVMe disk hang on the 5 V before it.
PMIC_NAME = "the sum of a Raspberry Pi 5's power rails, USB and HATs not included"


def parse_throttled(text: str) -> list[str] | None:
    """Flags of 'throttled=0x50005'; an empty list when all is well, None when there is no such answer."""
    match = re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", text)
    if match is None:
        return None
    bits = int(match.group(1), 16)
    now = [flag for bit, flag in enumerate(THROTTLE_BITS) if bits >> bit & 1]
    return now + [flag + HAS_OCCURRED for bit, flag in enumerate(THROTTLE_BITS) if bits >> (bit + 16) & 1]


def parse_temperature(text: str) -> float | None:
    """Degrees Celsius of "temp=48.3'C"."""
    match = re.search(r"temp=(-?[0-9]{1,3}(?:\.[0-9]{1,3})?)'C", text)
    return float(match.group(1)) if match else None


def parse_clock(text: str) -> float | None:
    """MHz of 'frequency(48)=1500398464'; None for 0, which the firmware says of a clock that is switched off."""
    match = re.search(r"frequency\([0-9]+\)=([0-9]{1,11})\b", text)
    return int(match.group(1)) / 1e6 if match and int(match.group(1)) else None


def parse_pmic(text: str) -> float | None:
    """Watts of a Raspberry Pi 5's rails: the sum of current times voltage over `vcgencmd pmic_read_adc`.

    What the power chip itself and the USB ports take is not in it: against a meter at the plug, one user found
    1.1451 times this sum plus 0.5879 W. Source: https://github.com/jfikar/RPi5-power
    """
    # the answer names a rail's current NAME_A and its voltage NAME_V
    currents = dict(re.findall(r"(\w+)_A\s+current\([0-9]+\)=([0-9]{1,4}(?:\.[0-9]{1,12})?)A\b", text))
    volts = _pmic_volts(text)
    both = [float(currents[rail]) * volts[rail] for rail in currents if rail in volts]
    return sum(both) if both else None


def parse_supply(text: str) -> float | None:
    """Volts at a Raspberry Pi 5's input, from `vcgencmd pmic_read_adc`."""
    return _pmic_volts(text).get("EXT5V")


def _pmic_volts(text: str) -> dict[str, float]:
    found = re.findall(r"(\w+)_V\s+volt\([0-9]+\)=([0-9]{1,4}(?:\.[0-9]{1,12})?)V\b", text)
    return {rail: float(volts) for rail, volts in found}
