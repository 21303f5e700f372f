"""A process that runs one model twice over, with and without ONNX Runtime's profiler.

It opens both sessions, warms up and writes a line {"typical_ms", "warmup_runs", "is_steady", "version", "executed":
PATH}. For each line N that it then reads, it runs N times without and N times with the profiler, and writes
{"plain_ms": [...], "profiled_ms": [...], "passed_s", "waited_s"}: how long that took, and how much of it this process
waited for a core. For the line 0 it writes {"trace": PATH, "is_counted": [...], "gemm_ms": {NAME: fastest}} and ends.
What is wrong with the model is a line {"refused": "..."}, anything else {"error": "..."}.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.bench.process import Write, answer, artifact_parser
from edgevit.bench.worker import TYPICAL_RUNS, Clock, random_pixels, timed, turn
from edgevit.board.timer import warm_up
from edgevit.errors import BadFileError, InputError
from edgevit.runtimes.onnxruntime import import_runtime, session_options

SEED = 0
PROFILED_WARMUP_RUNS = 5
GEMM_MIN_RUNS = 5
GEMM_MIN_SECONDS = 0.3
EXECUTED, TRACE_PREFIX = "executed.onnx", "trace"
INPUT_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
SCHEDULED = Path("/proc/thread-self/schedstat")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = artifact_parser("edgevit.profiling.worker", __doc__)
    parser.add_argument("--folder", required=True, type=Path, help="where the profile is written")
    parser.add_argument("--gemms", required=True, type=json.loads, help="paths of matrix products, an object by name")
    words = vars(parser.parse_args(argv))
    return answer(
        lambda write: serve(**words, requests=sys.stdin, write=write, clock=time.perf_counter), InputError, "refused"
    )


def serve(
    path: Path,
    threads: int,
    *,
    config: dict[str, str],
    shape: Sequence[int],
    folder: Path,
    gemms: dict[str, str],
    requests: Iterable[str],
    write: Write,
    clock: Clock,
) -> None:
    """Answers requests until a 0. shape: (N, C, H, W); the input is bench.worker.random_pixels."""
    plain = opened_model(path, threads, config, shape)
    profiled = opened_model(path, threads, config, shape, folder)
    gc.disable()
    try:
        warmup_runs, is_steady = warm_up(plain.run, clock)
        typical_ms = statistics.median(turn(plain.run, TYPICAL_RUNS, clock))
        timed(profiled.run, PROFILED_WARMUP_RUNS, clock)
        write(
            {
                "typical_ms": typical_ms,
                "warmup_runs": warmup_runs,
                "is_steady": is_steady,
                "version": import_runtime().__version__,
                "executed": str(folder / EXECUTED),
            }
        )
        is_counted = [False] * PROFILED_WARMUP_RUNS
        for runs in map(int, requests):
            if runs == 0:
                break
            began, waited = clock(), waited_s()
            times = {"plain_ms": turn(plain.run, runs, clock), "profiled_ms": turn(profiled.run, runs, clock)}
            write({**times, "passed_s": clock() - began, "waited_s": waited_s() - waited})
            is_counted += [False] + [True] * runs
        trace = profiled.session.end_profiling()
        gemm_ms = {name: _fastest_ms(_open(Path(gemm), threads, config), clock) for name, gemm in gemms.items()}
        write({"trace": trace, "is_counted": is_counted, "gemm_ms": gemm_ms})
    finally:
        gc.enable()


def waited_s(scheduled: Path = SCHEDULED) -> float:
    """For how long this thread could have run, and had no core; 0 where the kernel does not count that.

    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """
    try:
        return int(scheduled.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Model:
    """A session with its input."""

    def __init__(self, session: Any, values: NDArray[Any]) -> None:
        self.session = session
        self._feed = {session.get_inputs()[0].name: values}

    def run(self) -> None:
        self.session.run(None, self._feed)


def opened_model(
    path: Path, threads: int, config: dict[str, str], shape: Sequence[int], folder: Path | None = None
) -> Model:
    """The model with random pixels (N, C, H, W). With a folder it profiles into it, and leaves EXECUTED there.

    Raises BadFileError for what ONNX Runtime cannot load, InputError for a model that takes no pictures.
    """
    session = _open(path, threads, config, folder)
    return Model(session, _pixels(session.get_inputs()[0].type, shape))


def _open(path: Path, threads: int, config: dict[str, str], folder: Path | None = None) -> Any:
    """A session as bundles are run. With a folder it profiles into it, and leaves the graph that it executes there."""
    onnxruntime = import_runtime()
    try:
        options = session_options(threads, config)
    except Exception as error:
        raise BadFileError(path, f"asks for what ONNX Runtime {onnxruntime.__version__} has not: {error}.") from error
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / TRACE_PREFIX)
        options.optimized_model_filepath = str(folder / EXECUTED)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no class but this one
        reason = " ".join(str(error).split())[:300]
        raise BadFileError(path, f"ONNX Runtime {onnxruntime.__version__} cannot load it ({reason}).") from error


def _pixels(kind: str, shape: Sequence[int]) -> NDArray[Any]:
    if kind not in INPUT_TYPES:
        raise InputError(f"A model that takes {kind} cannot be profiled: pictures are float32 or uint8.")
    return random_pixels(shape, INPUT_TYPES[kind])


def _fastest_ms(session: Any, clock: Clock) -> float:
    left = session.get_inputs()[0]
    codes = np.random.default_rng(SEED).integers(0, 128, left.shape)
    model = Model(session, codes.astype(INPUT_TYPES[left.type]))
    samples_ms = timed(model.run, GEMM_MIN_RUNS, clock)
    while sum(samples_ms) < GEMM_MIN_SECONDS * 1000:
        samples_ms += timed(model.run, 1, clock)
    return min(samples_ms)


if __name__ == "__main__":
    sys.exit(main())
