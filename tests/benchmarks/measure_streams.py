"""Two streams at a time as threads of one process, and as two processes: which is slower, and by how much?

    python tests/benchmarks/measure_streams.py BUNDLE [--seconds 5]

Both in turns, three times. Needs two free cores; what it found stands in edgevit/board/streams.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

from edgevit.board.bench import bench_pixels
from edgevit.board.contents import open_bundle
from edgevit.board.session import open_artifact
from edgevit.board.stats import percentiles
from edgevit.board.streams import measure_streams

STREAMS, ROUNDS = 2, 3


def measure_here(bundle_path: Path, streams: int, seconds: float) -> tuple[list[float], float]:
    """Latencies in ms and runs a second of so many streams in this process."""
    bundle = open_bundle(str(bundle_path))
    sessions = [open_artifact(bundle, 1) for _ in range(streams)]
    pixels = bench_pixels(bundle, sessions[0], sessions[0].input_shape[0] or 1)
    runs = [lambda session=session: session.run(pixels) for session in sessions]
    measured = measure_streams(runs, time.perf_counter, min_seconds=seconds)
    return measured["samples_ms"], len(measured["samples_ms"]) / measured["wall_s"]


def _child(bundle_path: Path, seconds: float, together, results) -> None:
    together.wait()
    results.put(measure_here(bundle_path, 1, seconds))


def measure_processes(bundle_path: Path, seconds: float) -> tuple[list[float], float]:
    """The same of so many processes with one stream each."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(STREAMS), context.Queue()
    children = [context.Process(target=_child, args=(bundle_path, seconds, together, results)) for _ in range(STREAMS)]
    for child in children:
        child.start()
    found = [results.get() for _ in children]
    for child in children:
        child.join()
    return [sample for samples, _ in found for sample in samples], sum(rate for _, rate in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    for _ in range(ROUNDS):
        for name, (samples_ms, rate) in (
            ("threads", measure_here(arguments.bundle, STREAMS, arguments.seconds)),
            ("processes", measure_processes(arguments.bundle, arguments.seconds)),
        ):
            p50, p99 = percentiles(samples_ms, (50, 99))
            print(f"{name:>9}: p50 {p50:.4f} ms, p99 {p99:.4f} ms, {rate:.1f} runs a second")


if __name__ == "__main__":
    main()
