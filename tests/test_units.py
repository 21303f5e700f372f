from __future__ import annotations

import pytest

from edgevit import units


@pytest.mark.parametrize(
    ("latency_ms", "words"),
    [(None, "not measured"), (0.256, "0.26 ms"), (13.22, "13.2 ms"), (108.4, "108 ms"), (0.0, "0.00 ms")],
)
def test_a_latency_has_three_digits_and_its_unit(latency_ms: float | None, words: str) -> None:
    assert units.format_ms(latency_ms) == words


@pytest.mark.parametrize(
    ("size_mib", "words"), [(None, "not measured"), (5.845, "5.84 MiB"), (21.94, "21.9 MiB"), (110.0, "110.0 MiB")]
)
def test_a_size_has_its_unit(size_mib: float | None, words: str) -> None:
    assert units.format_mib(size_mib) == words


def test_a_percentage_stands_with_its_interval() -> None:
    assert units.format_percent(98.328, (96.402, 99.232)) == "98.3 % [96.4, 99.2]"
    assert units.format_percent(100.0) == "100.0 %"


def test_a_difference_is_signed_and_zero_is_never_negative() -> None:
    assert units.format_points(-0.3, (-0.8, 0.2)) == "-0.30 points [-0.80, +0.20]"
    assert units.format_points(-0.0) == "+0.00 points"


@pytest.mark.parametrize(
    ("seconds", "words"), [(44.6, "45 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3725, "1 h 02 min")]
)
def test_a_duration_is_read_at_a_glance(seconds: float, words: str) -> None:
    assert units.format_seconds(seconds) == words
