from __future__ import annotations

import re
from typing import Any

import pytest

from edgevit.board.options import (
    BenchOptions,
    core_numbers,
    parse_cores,
    parse_duration,
    parse_percentiles,
    parse_starts,
    parse_threads,
)
from edgevit.errors import InputError


def test_thread_counts_are_read_in_the_order_given() -> None:
    assert parse_threads("4,1, 2") == (4, 1, 2)
    assert parse_threads("8") == (8,)


@pytest.mark.parametrize("text", ["0", "-1", "1025", "", "1,", "two", "1.5", "1;2", "99999999999"])
def test_what_is_no_thread_count_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a whole number from 1 to 1024"):
        parse_threads(text)


def test_a_thread_count_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"^2 is named twice$"):
        parse_threads("1,2,2")


def test_percentiles_are_read_and_sorted() -> None:
    assert parse_percentiles("99.9,50") == (50.0, 99.9)


@pytest.mark.parametrize("text", ["0", "100", "101", "-5", "nan", "p99", "", "99.99999", "50,,90"])
def test_what_is_no_percentile_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a percentile between 0 and 100"):
        parse_percentiles(text)


@pytest.mark.parametrize("text", ["99.9999", "0.0001", "50,99.9997"])
def test_percentiles_that_no_report_can_hold_are_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"^'\S+' is a percentile of \d,\d{3},\d{3} runs, and a report holds 2,000,000$"
    ):
        parse_percentiles(text)
    assert parse_percentiles("99.9996,0.0004") == (0.0004, 99.9996)


def test_percentiles_that_are_equal_or_too_many_are_refused() -> None:
    with pytest.raises(InputError, match=r"^99\.9 is named twice$"):
        parse_percentiles("99.9,99.90")
    with pytest.raises(InputError, match="33 percentiles are more than 32"):
        parse_percentiles(",".join(map(str, range(1, 34))))


def test_cores_are_read_in_linuxs_list_format() -> None:
    assert core_numbers("0,2,4-7") == [0, 2, 4, 5, 6, 7]
    assert [parse_cores(text) for text in ("big", "little", "4-7")] == ["big", "little", "4-7"]


@pytest.mark.parametrize("text", ["", "huge", "7-4", "-1", "1-", "9000", "0,,1"])
def test_what_is_no_list_of_cores_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not big, little or a list of cores"):
        parse_cores(text)


def test_a_core_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"^2 is named twice$"):
        parse_cores("0-3,2")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "86401", "soon"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_duration(text)


def test_two_starts_have_no_spread_worth_the_name() -> None:
    with pytest.raises(InputError, match="'2' is not a whole number from 3 to 1000"):
        parse_starts("2")


def test_what_is_not_asked_for_is_the_rule_of_the_mode() -> None:
    plain, mlperf = BenchOptions(), BenchOptions(single_stream=True)
    assert (plain.mode, plain.runs, plain.seconds, plain.max_seconds) == ("latency", 64, 3.0, 180.0)
    assert (mlperf.mode, mlperf.runs, mlperf.seconds, mlperf.max_seconds) == ("single-stream", 1024, 60.0, 3600.0)
    assert BenchOptions(streams=1).mode == "latency"
    assert BenchOptions(streams=2).mode == "streams"
    assert BenchOptions(cold_start=3).mode == "cold-start"


def test_a_duration_lifts_the_cap() -> None:
    assert (BenchOptions(duration=10.0).seconds, BenchOptions(duration=10.0).max_seconds) == (10.0, 180.0)
    assert (BenchOptions(duration=600.0).seconds, BenchOptions(duration=600.0).max_seconds) == (600.0, 660.0)


def test_the_longest_time_counts_all_that_is_done() -> None:
    assert BenchOptions().longest_s == 180 + 10
    assert BenchOptions(cool_down=True).longest_s == 180 + 10 + 300
    assert BenchOptions(cold_start=5).longest_s == 5 * 120
    assert BenchOptions(threads=(1, 2, 4)).longest_s == 3 * (180 + 10) + 2 * 120  # and two more processes' starts


def test_options_are_passed_on_as_they_were_asked_for() -> None:
    assert BenchOptions().words() == []
    asked = BenchOptions(
        threads=(1, 2), min_runs=70, duration=2.5, percentiles=(95.0, 99.9), batch=4, streams=2, cores="0-1",
        cool_down=True, set_governor=True,
    )  # fmt: skip
    assert " ".join(asked.words()) == (
        "--min-runs 70 --duration 2.5 --batch 4 --streams 2 --percentiles 95,99.9 --cores 0-1 --cool-down "
        "--set-governor --threads 1,2"
    )
    assert BenchOptions(single_stream=True).words() == ["--single-stream"]
    assert BenchOptions(cold_start=5).words() == ["--cold-start", "5"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"duration": 3.0, "min_seconds": 3.0}, "--duration and --min-seconds both say how long to measure."),
        ({"cold_start": 5, "duration": 3.0}, "--duration does not go with --cold-start, which starts the program anew"),
        ({"cold_start": 5, "min_seconds": 0.0}, "--min-seconds does not go with --cold-start"),
        ({"cold_start": 5, "min_runs": 64}, "--min-runs does not go with --cold-start"),
        ({"cold_start": 5, "streams": 2}, "--streams does not go with --cold-start"),
        ({"cold_start": 5, "percentiles": (99.0,)}, "--percentiles does not go with --cold-start"),
        ({"cold_start": 5, "single_stream": True}, "--cold-start and --single-stream are two ways to measure."),
        ({"single_stream": True, "streams": 2}, "--streams does not go with --single-stream"),
        ({"single_stream": True, "batch": 4}, "--batch does not go with --single-stream: a query is one picture."),
        ({"single_stream": True, "min_runs": 1023}, "--single-stream asks for 1,024 queries at least, not 1023."),
        ({"single_stream": True, "duration": 59.5}, "--single-stream asks for 60 s at least, not 59.5."),
        ({"single_stream": True, "min_seconds": 0.0}, "--single-stream asks for 60 s at least, not 0."),
    ],
)
def test_options_that_make_no_sense_together_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(words)}"):
        BenchOptions(**asked).check()


@pytest.mark.parametrize(
    "asked",
    [
        {"single_stream": True, "duration": 600.0, "min_runs": 5000},
        {"single_stream": True, "batch": 1, "threads": (1, 2)},
        {"cold_start": 5, "batch": 4, "cores": "0", "threads": (2,)},
        {"streams": 4, "batch": 8, "duration": 5.0, "percentiles": (99.9,)},
    ],
)
def test_options_that_go_together_are_taken(asked: dict[str, Any]) -> None:
    BenchOptions(**asked).check()
