"""Cold starts: from the start of a fresh process to its first logits, and where the time goes.

Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, Any

from edgevit.board.child import run_agent_again

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# When the process was started, in seconds of time.monotonic, which all processes of a machine share.
STARTED_VARIABLE = "EDGEVIT_STARTED"
PHASES = ("python_ms", "check_ms", "import_ms", "load_ms", "first_inference_ms")
CACHED = (
    "Files may be cached: only a start soon after boot reads all of them from the disk, and edgevit drops no caches."
)


def measure_starts(
    count: int,
    arguments: Sequence[str],
    clock: Callable[[], float],
    on_progress: Callable[[int, float], object] | None = None,
    start: Callable[..., dict[str, Any]] = run_agent_again,
) -> list[dict[str, Any]]:
    """What `agent.py start` said in each of `count` processes, one after the other, with total_ms of each.

    clock: time.monotonic, or what a test has. start: child.run_agent_again.
    """
    began = clock()
    starts = []
    for done in range(1, count + 1):
        environment = {STARTED_VARIABLE: repr(clock()), "EDGEVIT_PROGRESS": ""}
        starts.append(start(arguments, environment))
        if on_progress is not None:
            on_progress(done, clock() - began)
    return starts


def start_document(moments: Sequence[float], batch: int, version: str, threads: int, rss_mib: float) -> dict[str, Any]:
    """What one start writes. moments: in s, of main's beginning, then after the check of the bundle's files, the
    import of the runtime, the load of the model and the first inference. total_ms runs from the start of the process,
    where the environment says when that was, else from main's beginning.
    """
    started = float(os.environ.get(STARTED_VARIABLE, repr(moments[0])))
    marks = [started, *moments]
    phases = {name: (end - begin) * 1000.0 for name, begin, end in zip(PHASES, marks, marks[1:])}
    return {
        "kind": "start",
        **phases,
        "total_ms": (moments[-1] - started) * 1000.0,
        "batch": batch,
        "threads": threads,
        "runtime_version": version,
        "peak_rss_mib": rss_mib,
    }


def summarize_starts(starts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report's `cold_start`: medians of the phases in ms, the first start's total, and the spread of all totals.

    spread_ms: slowest minus fastest.
    """
    totals = [start["total_ms"] for start in starts]
    return {
        "starts": len(starts),
        **{name: statistics.median(start[name] for start in starts) for name in PHASES},
        "first_start_ms": totals[0],
        "spread_ms": max(totals) - min(totals),
    }
