"""A process that runs one model twice over, with and without ONNX Runtime's profiler.

It opens both sessions, warms up and writes a line {"typical_ms", "warmup_runs", "version", "executed": PATH}. For each
line N that it then reads, it runs N times without and N times with the profiler, and writes {"plain_ms": [...],
"profiled_ms": [...]}. For the line 0 it writes {"trace": PATH, "is_counted": [...], "gemm_ms": {NAME: fastest}}
and ends. What is wrong with the model is a line {"refused": "..."}, anything else {"error": "..."}.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.bench.process import Write, answers
from edgevit.bench.worker import random_pixels
from edgevit.board.timer import warm_up
from edgevit.errors import BadFileError, InputError
from edgevit.runtimes.onnxruntime import import_runtime, session_options

SEED = 0
TYPICAL_RUNS = 5
PROFILED_WARMUP_RUNS = 5
GEMM_MIN_RUNS = 5
GEMM_MIN_SECONDS = 0.3
EXECUTED, TRACE_PREFIX = "executed.onnx", "trace"
INPUT_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}

Clock = Callable[[], float]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code; the process's own output takes answers only, whatever the runtime prints goes to stderr."""
    arguments = _parse(argv)
    with answers() as write:
        try:
            serve(
                arguments.path,
                arguments.threads,
                config=json.loads(arguments.config),
                shape=json.loads(arguments.shape),
                folder=arguments.folder,
                gemms=json.loads(arguments.gemms),
                requests=sys.stdin,
                write=write,
                clock=time.perf_counter,
            )
        except InputError as error:
            write({"refused": str(error)})
            return error.exit_code
        except Exception as error:  # the runtime's own: the parent reports it as this bundle's failure
            write({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
            return 1
    return 0


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
    session = _open(path, threads, config)
    pixels = _pixels(session.get_inputs()[0].type, shape)
    plain, profiled = _Model(session, pixels), _Model(_open(path, threads, config, folder), pixels)
    gc.disable()
    try:
        warmup_runs, _ = warm_up(plain.run, clock)
        typical_ms = statistics.median(_timed(plain.run, TYPICAL_RUNS, clock))
        is_counted = [False] * PROFILED_WARMUP_RUNS
        _timed(profiled.run, PROFILED_WARMUP_RUNS, clock)
        version, executed = import_runtime().__version__, str(folder / EXECUTED)
        write({"typical_ms": typical_ms, "warmup_runs": warmup_runs, "version": version, "executed": executed})
        for runs in map(int, requests):
            if runs == 0:
                break
            # One run that does not count begins each turn: the caches still hold the other session's data.
            plain_ms = _timed(plain.run, 1 + runs, clock)[1:]
            profiled_ms = _timed(profiled.run, 1 + runs, clock)[1:]
            is_counted += [False] + [True] * runs
            write({"plain_ms": plain_ms, "profiled_ms": profiled_ms})
        trace = profiled.session.end_profiling()
        gemm_ms = {name: _fastest_ms(_open(Path(gemm), threads, config), clock) for name, gemm in gemms.items()}
        write({"trace": trace, "is_counted": is_counted, "gemm_ms": gemm_ms})
    finally:
        gc.enable()


class _Model:
    """A session with its input."""

    def __init__(self, session: Any, values: NDArray[Any]) -> None:
        self.session = session
        self._feed = {session.get_inputs()[0].name: values}

    def run(self) -> None:
        self.session.run(None, self._feed)


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


def _timed(run: Callable[[], None], runs: int, clock: Clock) -> list[float]:
    """Milliseconds."""
    samples_ms = []
    for _ in range(runs):
        start = clock()
        run()
        samples_ms.append((clock() - start) * 1000)
    return samples_ms


def _fastest_ms(session: Any, clock: Clock) -> float:
    left = session.get_inputs()[0]
    codes = np.random.default_rng(SEED).integers(0, 128, left.shape)
    model = _Model(session, codes.astype(INPUT_TYPES[left.type]))
    samples_ms = _timed(model.run, GEMM_MIN_RUNS, clock)
    while sum(samples_ms) < GEMM_MIN_SECONDS * 1000:
        samples_ms += _timed(model.run, 1, clock)
    return min(samples_ms)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="edgevit.profiling.worker", description=__doc__)
    parser.add_argument("--path", required=True, type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--config", required=True, help="the runtime's session entries, a JSON object")
    parser.add_argument("--shape", required=True, help="N, C, H, W as a JSON list")
    parser.add_argument("--folder", required=True, type=Path, help="where the profile is written")
    parser.add_argument("--gemms", required=True, help="paths of matrix products by name, a JSON object")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
