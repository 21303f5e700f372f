"""Measures several artifacts in turns, A B C A B C, each in a process of its own.

What the machine does meanwhile (heat, other work, a changing clock) then meets all of them alike.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgevit.bench.process import last_line
from edgevit.board.timer import MIN_RUNS, MIN_SECONDS
from edgevit.errors import MeasurementError
from edgevit.interpreter import child_environment, module_command

TURN_MIN_RUNS = 4
TURN_MIN_MS = 50.0
MAX_SECONDS = 300.0
DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class ArtifactRun:
    """One artifact and how it is run. `input_shape`: (N, C, H, W), all known."""

    path: Path
    runtime: str
    threads: int
    input_shape: tuple[int, int, int, int]
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Interleaved:
    """What one artifact took, in ms. `failed`: why it has no figures, else None.

    blocks[i]: its runs in the i-th round; all artifacts that did not fail have the same number of rounds.
    """

    blocks: tuple[tuple[float, ...], ...] = ()
    load_ms: float = 0.0
    first_inference_ms: float = 0.0
    peak_rss_mib: float = 0.0
    warmup_runs: int = 0
    is_steady: bool = False
    version: str = ""
    failed: str | None = None

    @property
    def samples_ms(self) -> tuple[float, ...]:
        return tuple(sample for block in self.blocks for sample in block)


class Worker(Protocol):
    """A process that holds one artifact. Both raise MeasurementError when it fails."""

    def receive(self) -> dict[str, Any]: ...

    def ask(self, runs: int) -> None: ...

    def kill(self) -> None: ...


@dataclass
class _Turns:
    """One artifact while it is measured."""

    worker: Worker
    ready: dict[str, Any]
    blocks: list[tuple[float, ...]] = field(default_factory=list)
    peak_rss_mib: float = 0.0
    runs: int = 0
    total_ms: float = 0.0

    def take(self) -> None:
        self.worker.ask(runs_per_turn(self.ready["typical_ms"]))
        answer = self.worker.receive()
        block = tuple(answer["samples_ms"])
        self.blocks.append(block)
        self.runs += len(block)
        self.total_ms += sum(block)
        self.peak_rss_mib = answer["peak_rss_mib"]

    def result(self) -> Interleaved:
        figures = {name: value for name, value in self.ready.items() if name != "typical_ms"}
        return Interleaved(blocks=tuple(self.blocks), peak_rss_mib=self.peak_rss_mib, **figures)


def measure_interleaved(
    artifacts: Mapping[str, ArtifactRun],
    *,
    min_seconds: float = MIN_SECONDS,
    min_runs: int = MIN_RUNS,
    max_seconds: float = MAX_SECONDS,
    deadline_s: float = DEADLINE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    start: Callable[[ArtifactRun, float], Worker] | None = None,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Interleaved]:
    """Samples by name, taken in turns of 4 runs or 50 ms until each has min_runs that add up to min_seconds.

    After max_seconds it ends with what there is. An artifact whose process crashes, or does not answer within
    deadline_s, is reported as failed, and the others go on. All processes are killed at the end, by Ctrl-C too.
    start: opens a worker (for tests). on_round: is told the number of each finished round (for progress).
    """
    failed: dict[str, Interleaved] = {}
    turns: dict[str, _Turns] = {}
    with contextlib.ExitStack() as stack:
        for name, artifact in artifacts.items():  # one after the other: warm-ups must not disturb each other
            worker = (start or _start)(artifact, deadline_s)
            stack.callback(worker.kill)
            try:
                turns[name] = _Turns(worker, worker.receive())
            except MeasurementError as error:
                failed[name] = Interleaved(failed=str(error))
        began = clock()
        rounds = 0
        while turns and clock() - began < max_seconds:
            for name, artifact_turns in list(turns.items()):
                try:
                    artifact_turns.take()
                except MeasurementError as error:
                    failed[name] = Interleaved(failed=str(error))
                    turns.pop(name).worker.kill()
            rounds += 1
            if on_round:
                on_round(rounds)
            if all(each.runs >= min_runs and each.total_ms >= min_seconds * 1000 for each in turns.values()):
                break
    return {name: failed[name] if name in failed else turns[name].result() for name in artifacts}


def runs_per_turn(typical_ms: float) -> int:
    """How many runs fill a turn: 4, and 50 ms."""
    return max(TURN_MIN_RUNS, math.ceil(TURN_MIN_MS / max(typical_ms, 1e-3)))


def artifact_words(artifact: ArtifactRun) -> list[str]:
    """How a worker is told what to run; process.artifact_parser reads it."""
    return [
        *("--path", str(artifact.path), "--threads", str(artifact.threads)),
        *("--config", json.dumps(dict(artifact.config)), "--shape", json.dumps(artifact.input_shape)),
    ]


class ProcessWorker:
    """A worker in a process of its own, which `command` starts at once."""

    def __init__(self, command: Sequence[str], deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._pending = b""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, closed in kill; a pipe could fill up and block the worker
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C reaches this process only, which then kills the worker
        )

    def ask(self, runs: int) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{runs}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise MeasurementError(self._how_it_ended()) from None

    def receive(self) -> dict[str, Any]:
        """The next answer. Raises MeasurementError for an error, a crash, or none within the deadline."""
        answer: dict[str, Any] = json.loads(self._read_line())
        if "error" in answer:
            raise MeasurementError(answer["error"])
        return answer

    def kill(self) -> None:
        """Ends the process; killing twice does no harm."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read_line(self) -> bytes:
        out = self._process.stdout
        assert out is not None
        ends = time.monotonic() + self._deadline_s
        while b"\n" not in self._pending:
            ready, _, _ = select.select([out], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise MeasurementError(f"It gave no answer within {self._deadline_s:g} s.")
            piece = os.read(out.fileno(), 65536)
            if not piece:
                raise MeasurementError(self._how_it_ended())
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._said.seek(0)
        reason = last_line(self._said.read().decode("utf-8", "replace"))
        return f"Its process {how}" + (f" ({reason})." if reason else ".")


def _start(artifact: ArtifactRun, deadline_s: float) -> ProcessWorker:
    words = ["--runtime", artifact.runtime, *artifact_words(artifact)]
    return ProcessWorker(module_command("edgevit.bench.worker", words), deadline_s)
