from __future__ import annotations

from typing import Any

import pytest

from edgevit.board.sweep import best_threads, describe_sweep, sweep_document, sweep_rows


def report(threads: int, p50: float, *, is_valid: bool = True, mj: float | None = None) -> dict[str, Any]:
    return {
        "threads": threads, "latency_ms": {"p50": p50, "p90": p50 + 1}, "pictures_per_s": 1000 / p50,
        "energy": None if mj is None else {"mj_per_picture": mj}, "is_valid": is_valid,
        "invalid_reasons": [] if is_valid else ["It throttled."],
    }  # fmt: skip


def test_speed_up_is_over_one_thread_and_efficiency_is_that_by_threads() -> None:
    one, two, four = sweep_rows([report(1, 40.0, mj=80.0), report(2, 25.0), report(4, 16.0)])
    assert (one["speed_up"], one["efficiency"], one["mj_per_picture"]) == (1.0, 1.0, 80.0)
    assert (two["speed_up"], two["efficiency"], two["mj_per_picture"]) == (1.6, 0.8, None)
    assert (four["speed_up"], four["efficiency"]) == (2.5, 0.625)
    assert (four["p50_ms"], four["p90_ms"], four["pictures_per_s"]) == (16.0, 17.0, 62.5)


def test_without_one_thread_there_is_no_speed_up() -> None:
    assert [row["speed_up"] for row in sweep_rows([report(2, 25.0), report(4, 16.0)])] == [None, None]


def test_the_best_count_is_the_fewest_threads_that_bring_the_lowest_median() -> None:
    assert best_threads([report(1, 40.0), report(2, 25.0), report(4, 16.0)]) == 4
    assert best_threads([report(4, 16.0), report(3, 16.4), report(1, 40.0)]) == 3  # 2.5 % is no gain
    assert best_threads([report(3, 16.6), report(4, 16.0)]) == 4  # 3.75 % is one
    assert best_threads([report(1, 10.0), report(2, 30.0)]) == 1


def test_what_is_invalid_is_never_best_and_makes_the_sweep_invalid() -> None:
    document = sweep_document([report(1, 40.0), report(2, 5.0, is_valid=False)])
    assert (document["best_threads"], document["is_valid"]) == (1, False)
    assert document["invalid_reasons"] == ["2 threads: It throttled."]
    nothing = sweep_document([report(1, 40.0, is_valid=False)])
    assert nothing["best_threads"] is None
    assert nothing["sentence"] == "No count of threads is best: none was measured validly."


@pytest.mark.parametrize(
    ("reports", "sentence"),
    [
        ([report(1, 40.0), report(4, 16.0)], "4 threads are best: p50 16.00 ms, 2.50 times as fast as one."),
        ([report(1, 10.0), report(2, 30.0)], "1 thread is best: p50 10.00 ms."),
        ([report(2, 25.0), report(4, 16.0)], "4 threads are best: p50 16.00 ms."),
        (
            [report(1, 40.0), report(2, 16.4), report(4, 16.0)],
            "2 threads are best: p50 16.40 ms, 2.44 times as fast as one; 4 threads gain 2.5 % more, too little to "
            "tell from chance.",
        ),
    ],
)
def test_a_sentence_says_which_count_is_best(reports: list[dict[str, Any]], sentence: str) -> None:
    assert sweep_document(reports)["sentence"] == sentence


def test_people_read_a_table_and_the_sentence() -> None:
    lines = describe_sweep(sweep_document([report(1, 40.0, mj=80.0), report(2, 25.0, is_valid=False)])).splitlines()
    assert lines[0].split() == ["threads", "p50", "p90", "pictures/s", "mJ/picture", "speed-up", "efficiency"]
    assert lines[1].split() == ["1", "40.00", "ms", "41.00", "ms", "25.0", "80", "1.00×", "100", "%"]
    assert lines[2].split() == ["2", "25.00", "ms", "26.00", "ms", "40.0", "–", "1.60×", "80", "%", "invalid"]
    assert lines[3] == "1 thread is best: p50 40.00 ms."
