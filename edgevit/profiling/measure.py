"""Measures where bundles' time goes: each in a process of its own, all of them in turns."""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from edgevit.bench.interleave import (
    DEADLINE_SECONDS,
    MAX_SECONDS,
    TURN_MIN_RUNS,
    ProcessWorker,
    Worker,
    artifact_words,
    runs_per_turn,
)
from edgevit.bench.sides import bundle_run
from edgevit.board.sensors import detect_sensors, read_sensors, read_throttle_count
from edgevit.bundle import Bundle
from edgevit.errors import InputError, MeasurementError
from edgevit.interpreter import module_command
from edgevit.profiling import gemm
from edgevit.profiling.document import Profile
from edgevit.profiling.summary import MachineState, Measured, profile_of

RUNTIME = "onnxruntime"
# Neither its Interpreter nor its CompiledModel has a profiler in Python. What is timed up to an operator, by a file cut
# off behind it, is another graph: XNNPACK joins operators and places tensors by the whole of it.
NO_TIMES = {
    "litert": "whose Python API tells no times of operators (https://github.com/tensorflow/tensorflow/issues/59095)"
}
MIN_SECONDS = 2.0
MIN_RUNS = 16
# An event is 0.7 KiB of JSON: what a small model executes in 2 s would fill hundreds of MiB.
MAX_EVENTS = 100_000
TURNS = 8  # into which a model's events are divided at the least

Start = Callable[[Sequence[str]], Worker]


@dataclass
class _Turns:
    """One bundle while it is profiled. `nodes`: of the graph that the runtime executes."""

    bundle: Bundle
    worker: Worker
    ready: dict[str, Any]
    nodes: int
    plain_ms: list[float] = field(default_factory=list)
    profiled_ms: list[float] = field(default_factory=list)
    passed_s: float = 0.0
    waited_s: float = 0.0

    @property
    def is_done(self) -> bool:
        is_long = sum(self.profiled_ms) >= MIN_SECONDS * 1000 and len(self.profiled_ms) >= MIN_RUNS
        return is_long or len(self.profiled_ms) * self.nodes >= MAX_EVENTS

    def take(self) -> None:
        most = MAX_EVENTS // TURNS // max(1, self.nodes)
        answer = self._answer(max(TURN_MIN_RUNS, min(runs_per_turn(self.ready["typical_ms"]), most)))
        self.plain_ms += answer["plain_ms"]
        self.profiled_ms += answer["profiled_ms"]
        self.passed_s += answer["passed_s"]
        self.waited_s += answer["waited_s"]

    def finish(self, threads: int, machine: MachineState) -> Profile:
        last = self._answer(0)
        measured = Measured(
            threads=threads,
            version=self.ready["version"],
            warmup_runs=self.ready["warmup_runs"],
            is_steady=self.ready["is_steady"],
            plain_ms=statistics.median(self.plain_ms),
            profiled_ms=statistics.median(self.profiled_ms),
            events=json.loads(Path(last["trace"]).read_text(encoding="utf-8")),
            is_counted=last["is_counted"],
            gemm_ms=last["gemm_ms"],
            executed=onnx.load(self.ready["executed"]),
            waited_share=self.waited_s / self.passed_s,
            machine=machine,
        )
        return profile_of(self.bundle, measured)

    def _answer(self, request: int) -> dict[str, Any]:
        with _naming(self.bundle):
            self.worker.ask(request)
            return self.worker.receive()


def profile_bundles(
    bundles: Sequence[Bundle],
    threads: int | None = None,
    *,
    on_round: Callable[[int], None] | None = None,
    start: Start | None = None,
) -> tuple[Profile, ...]:
    """A profile of each bundle, in the order given. threads: for all; the first bundle's own number when None.

    Each is run for 2 s and 16 runs with the profiler and as often without it, or until it has written 100 000 events.
    start: opens a bundle's worker (for tests). on_round: is told the number of each finished round (for progress).
    Raises InputError for a bundle of another runtime or a model that cannot be loaded, MeasurementError when a process
    crashes or gives no answer.
    """
    for bundle in bundles:
        if bundle.manifest.runtime.name != RUNTIME:
            name = bundle.manifest.runtime.name
            why = NO_TIMES.get(name, "which tells no times of operators")
            raise InputError(f"{bundle.path}: runs in {name}, {why}. Profile a bundle of {RUNTIME}.")
    count = threads or bundles[0].manifest.device.threads
    with tempfile.TemporaryDirectory(prefix="edgevit-profile-") as root, contextlib.ExitStack() as stack:
        gemms = gemm.write_gemms(Path(root))
        kind = detect_sensors()
        before, counted = read_sensors("before", kind), read_throttle_count()
        all_turns = []
        for index, bundle in enumerate(bundles):  # one after the other: warm-ups must not disturb each other
            folder = Path(root) / str(index)
            folder.mkdir()
            worker = (start or _start)(_words(bundle, count, folder, gemms))
            stack.callback(worker.kill)
            all_turns.append(_opened(bundle, worker))
        _take_turns(all_turns, on_round)
        machine = MachineState((before, read_sensors("after", kind)), (counted, read_throttle_count()))
        return tuple(turns.finish(count, machine) for turns in all_turns)


def _take_turns(all_turns: Sequence[_Turns], on_round: Callable[[int], None] | None) -> None:
    began, rounds = time.monotonic(), 0
    while not all(turns.is_done for turns in all_turns) and time.monotonic() - began < MAX_SECONDS:
        for turns in all_turns:
            if not turns.is_done:
                turns.take()
        rounds += 1
        if on_round:
            on_round(rounds)


def _opened(bundle: Bundle, worker: Worker) -> _Turns:
    with _naming(bundle):
        ready = worker.receive()
    if "refused" in ready:
        raise InputError(ready["refused"])
    nodes = len(onnx.load(ready["executed"], load_external_data=False).graph.node)
    return _Turns(bundle, worker, ready, nodes)


@contextlib.contextmanager
def _naming(bundle: Bundle) -> Iterator[None]:
    try:
        yield
    except MeasurementError as error:
        raise MeasurementError(f"{bundle.path}: could not be profiled. {error}") from error


def _words(bundle: Bundle, threads: int, folder: Path, gemms: Mapping[str, Path]) -> list[str]:
    paths = json.dumps({name: str(path) for name, path in gemms.items()})
    return [*artifact_words(bundle_run(bundle, threads)), "--folder", str(folder), "--gemms", paths]


def _start(words: Sequence[str]) -> Worker:
    return ProcessWorker(module_command("edgevit.profiling.worker", words), DEADLINE_SECONDS)
