from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.bench.interleave import ArtifactRun, Interleaved, ProcessWorker, measure_interleaved
from edgevit.errors import MeasurementError

READY = {
    "load_ms": 5.0, "first_inference_ms": 2.0, "warmup_runs": 16, "is_steady": True, "typical_ms": 25.0, "version": "1",
}  # fmt: skip


class FakeWorker:
    """Answers each request with `latency_ms`, and notes in `log` when it is asked; fails in round `fails_at`."""

    def __init__(self, name: str, log: list[str], latency_ms: float = 25.0, fails_at: int | None = None) -> None:
        self.name = name
        self.log = log
        self.latency_ms = latency_ms
        self.fails_at = fails_at
        self.rounds = 0
        self.asked: int | None = None
        self.kills = 0

    def ask(self, runs: int) -> None:
        self.log.append(self.name)
        self.asked = runs

    def receive(self) -> dict[str, Any]:
        if self.rounds == self.fails_at:
            raise MeasurementError("Its process was killed by signal 9.")
        self.rounds += 1
        if self.asked is None:
            return {**READY, "typical_ms": self.latency_ms}
        return {"samples_ms": [self.latency_ms] * self.asked, "peak_rss_mib": 10.0 + self.rounds}

    def kill(self) -> None:
        self.kills += 1


def artifact(name: str) -> ArtifactRun:
    return ArtifactRun(Path(name), "onnxruntime", 1, (1, 3, 8, 8))


class Fleet:
    """Starts fake workers by the artifact's path."""

    def __init__(self, **workers: dict[str, Any]) -> None:
        self.log: list[str] = []
        self.workers = {name: FakeWorker(name, self.log, **options) for name, options in workers.items()}
        self.artifacts = {name: artifact(name) for name in workers}

    def start(self, run: ArtifactRun, deadline_s: float) -> FakeWorker:
        return self.workers[str(run.path)]

    def measure(self, **options: Any) -> dict[str, Interleaved]:
        return measure_interleaved(self.artifacts, start=self.start, **options)


def test_artifacts_take_turns_until_each_has_enough() -> None:
    fleet = Fleet(a={}, b={"latency_ms": 50.0}, c={})
    found = fleet.measure(min_seconds=0.0, min_runs=8)
    assert fleet.log == ["a", "b", "c"] * 2
    assert found["a"].blocks == ((25.0,) * 4,) * 2
    assert found["b"].samples_ms == (50.0,) * 8
    assert all(worker.kills == 1 for worker in fleet.workers.values())


def test_a_turn_is_four_runs_or_fifty_milliseconds() -> None:
    fleet = Fleet(slow={"latency_ms": 100.0}, fast={"latency_ms": 0.5})
    found = fleet.measure(min_seconds=0.0, min_runs=1)
    assert [len(found[name].blocks[0]) for name in ("slow", "fast")] == [4, 100]


def test_measuring_goes_on_until_the_fastest_has_three_seconds() -> None:
    found = Fleet(a={}, b={"latency_ms": 100.0}).measure()
    assert len(found["a"].blocks) == len(found["b"].blocks) == 30  # 3 s of 4 * 25 ms


def test_what_the_worker_said_at_first_and_its_last_memory_are_kept() -> None:
    found = Fleet(a={}).measure(min_seconds=0.0, min_runs=8)["a"]
    assert (found.load_ms, found.first_inference_ms, found.warmup_runs, found.version) == (5.0, 2.0, 16, "1")
    assert (found.is_steady, found.peak_rss_mib, found.failed) == (True, 13.0, None)


def test_measuring_ends_after_max_seconds() -> None:
    times = iter([0.0, 1.0, 2.0, 3.0, 4.0])
    found = Fleet(a={}).measure(min_seconds=1e9, max_seconds=2.5, clock=lambda: next(times))
    assert len(found["a"].blocks) == 2


def test_one_that_fails_while_running_does_not_stop_the_others() -> None:
    fleet = Fleet(a={}, b={"fails_at": 2}, c={})
    found = fleet.measure(min_seconds=0.0, min_runs=12)
    assert found["b"] == Interleaved(failed="Its process was killed by signal 9.")
    assert (len(found["a"].blocks), len(found["c"].blocks)) == (3, 3)
    assert list(found) == ["a", "b", "c"]
    assert fleet.workers["b"].kills >= 1


def test_one_that_cannot_start_does_not_stop_the_others() -> None:
    found = Fleet(a={"fails_at": 0}, b={}).measure(min_seconds=0.0, min_runs=4)
    assert found["a"].failed
    assert found["b"].failed is None


def test_when_all_fail_it_ends() -> None:
    found = Fleet(a={"fails_at": 0}, b={"fails_at": 1}).measure()
    assert all(each.failed for each in found.values())


def test_ctrl_c_kills_every_worker() -> None:
    fleet = Fleet(a={}, b={})

    def interrupt(rounds: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet.measure(on_round=interrupt)
    assert [worker.kills for worker in fleet.workers.values()] == [1, 1]


def test_progress_is_told_the_number_of_rounds() -> None:
    rounds: list[int] = []
    Fleet(a={}).measure(min_seconds=0.0, min_runs=12, on_round=rounds.append)
    assert rounds == [1, 2, 3]


def python(script: str, deadline_s: float = 60.0) -> ProcessWorker:
    return ProcessWorker([sys.executable, "-c", script], deadline_s)


def test_a_process_that_dies_is_told_with_its_signal_and_last_words() -> None:
    worker = python("import os, sys; print('bad\\nlast words', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)")
    with pytest.raises(MeasurementError, match=r"Its process was killed by signal 9 \(last words\)\."):
        worker.receive()
    worker.kill()
    worker.kill()


def test_a_process_that_ends_is_told_with_its_code() -> None:
    worker = python("raise SystemExit(3)")
    with pytest.raises(MeasurementError, match=r"Its process ended with code 3\."):
        worker.receive()
    with pytest.raises(MeasurementError, match=r"Its process ended with code 3\."):
        worker.ask(1)
    worker.kill()


def test_a_process_that_does_not_answer_in_time_is_given_up() -> None:
    worker = python("import sys; sys.stdin.read()", deadline_s=0.0)
    with pytest.raises(MeasurementError, match=r"It gave no answer within 0 s\."):
        worker.receive()
    worker.kill()


def test_a_process_that_answers_with_an_error_fails_with_its_words() -> None:
    worker = python('print(\'{"error": "m.onnx: there is no such file."}\')')
    with pytest.raises(MeasurementError, match=r"m.onnx: there is no such file\."):
        worker.receive()
    worker.kill()


def test_a_process_may_say_more_on_stderr_than_a_pipe_holds() -> None:
    worker = python("import sys; sys.stderr.write('x' * 300_000); print('{}', flush=True)")
    assert worker.receive() == {}
    worker.kill()


def test_real_artifacts_are_measured_in_processes_of_their_own(make_onnx: Callable[..., Path], tmp_path: Path) -> None:
    artifacts = {
        "one": ArtifactRun(make_onnx("one.onnx"), "onnxruntime", 1, (1, 3, 8, 8)),
        "free": ArtifactRun(make_onnx("free.onnx", "N"), "onnxruntime", 1, (2, 3, 8, 8), {"any.entry": "1"}),
        "none": ArtifactRun(tmp_path / "none.onnx", "onnxruntime", 1, (1, 3, 8, 8)),
    }  # fmt: skip
    found = measure_interleaved(artifacts, min_seconds=0.0, min_runs=4)
    assert found["none"].failed == f"{tmp_path / 'none.onnx'}: there is no such file."
    for name in ("one", "free"):
        assert found[name].failed is None
        assert len(found[name].blocks) == 1
        assert len(found[name].samples_ms) >= 4
        assert found[name].peak_rss_mib > 10
