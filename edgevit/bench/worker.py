"""A process that holds one artifact open and times it when asked.

It opens the artifact, warms up and writes a line {"load_ms", "first_inference_ms", "warmup_runs", "is_steady",
"typical_ms", "version"}. For each line N that it then reads, it writes {"samples_ms": [N figures], "peak_rss_mib"}.
It ends when its input ends. An error is a line {"error": "..."}.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.bench.process import Write, answer, artifact_parser
from edgevit.board.measurement import peak_rss_mib
from edgevit.board.timer import warm_up
from edgevit.runtimes import open_session, runtime_module

SEED = 0
TYPICAL_RUNS = 5

Clock = Callable[[], float]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = artifact_parser("edgevit.bench.worker", __doc__)
    parser.add_argument("--runtime", required=True)
    words = vars(parser.parse_args(argv))
    return answer(lambda write: serve(**words, requests=sys.stdin, write=write, clock=time.perf_counter))


def serve(
    path: Path,
    runtime: str,
    threads: int,
    *,
    config: dict[str, str],
    shape: Sequence[int],
    requests: Iterable[str],
    write: Write,
    clock: Clock,
) -> None:
    """Opens, warms up, and answers requests until they end. shape: (N, C, H, W). The input is random_pixels."""
    runtime_module(runtime).import_runtime()  # is no part of the load time
    began = clock()
    session = open_session(path, runtime, threads, config)
    loaded = clock()
    pixels = random_pixels(shape, session.input_type)
    ready = clock()
    session.run(pixels)
    first = clock()
    gc.disable()
    try:
        warmup_runs, is_steady = warm_up(lambda: session.run(pixels), clock)
        write(
            {
                "load_ms": (loaded - began) * 1000,
                "first_inference_ms": (first - ready) * 1000,
                "warmup_runs": warmup_runs,
                "is_steady": is_steady,
                "typical_ms": statistics.median(turn(lambda: session.run(pixels), TYPICAL_RUNS, clock)),
                "version": session.version,
            }
        )
        for line in requests:
            samples_ms = turn(lambda: session.run(pixels), int(line), clock)
            write({"samples_ms": samples_ms, "peak_rss_mib": peak_rss_mib()})
    finally:
        gc.enable()
        session.close()


def random_pixels(shape: Sequence[int], input_type: str) -> NDArray[Any]:
    """The same for all artifacts of an input_type: normal float32 (N, C, H, W), or uniform uint8 (N, H, W, C)."""
    generator = np.random.default_rng(SEED)
    if input_type == "uint8":
        count, channels, height, width = shape
        return generator.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return generator.standard_normal(tuple(shape), dtype=np.float32)


def turn(run: Callable[[], object], runs: int, clock: Clock) -> list[float]:
    """Latencies in ms of `runs` runs after one that is not timed: the caches still hold another artifact's data."""
    run()
    return timed(run, runs, clock)


def timed(run: Callable[[], object], runs: int, clock: Clock) -> list[float]:
    """Latencies in ms."""
    samples_ms = []
    for _ in range(runs):
        start = clock()
        run()
        samples_ms.append((clock() - start) * 1000)
    return samples_ms


if __name__ == "__main__":
    sys.exit(main())
