"""Measures a bundle on this machine, in a fresh process for each configuration."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from edgevit.bench.process import last_line
from edgevit.benchreport import DOCUMENT_KIND, BenchDocument, BenchReport
from edgevit.board.options import BenchOptions
from edgevit.board.timer import MIN_RUNS, MIN_SECONDS
from edgevit.errors import EdgevitError, MeasurementError, error_by_code
from edgevit.interpreter import child_environment, module_command

# starting, loading and checking a large bundle on a slow machine
OVERHEAD_SECONDS = 120.0
MEASURED = (0, MeasurementError.exit_code)

Run = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]


def bench_bundle(
    bundle: Path,
    threads: int | None = None,
    *,
    min_seconds: float = MIN_SECONDS,
    min_runs: int = MIN_RUNS,
    device: str = "local",
    run: Run | None = None,
) -> BenchReport:
    """The report of a bundle on this machine; look at its is_valid. threads: the bundle's own number when None.

    The rest is as for bench_document.
    """
    counts = () if threads is None else (threads,)
    options = BenchOptions(threads=counts, min_seconds=min_seconds, min_runs=min_runs)
    document = bench_document(bundle, options, device=device, run=run)
    assert isinstance(document, BenchReport)
    return document


def bench_document(
    bundle: Path, options: BenchOptions, *, device: str = "local", run: Run | None = None
) -> BenchDocument:
    """A report, or a sweep where `options` names several thread counts; look at its is_valid.

    device: what the report calls this machine. run: starts the words with a limit in seconds (for tests).
    Raises what the measuring process ended with: InputError for a bad bundle, MeasurementError when it did not end
    in time, EdgevitError when it crashed. Ctrl-C ends that process, too.
    """
    arguments = ["--bundle", str(bundle), "--json", "bench", "--device", device, *options.words()]
    limit_s = options.longest_s + OVERHEAD_SECONDS
    try:
        ended = (run or _run)(module_command("edgevit.board.agent", arguments), limit_s)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{bundle}: was not measured within {limit_s:.0f} s. Use a smaller model.") from None
    if ended.returncode not in MEASURED or not ended.stdout:
        raise _failure(bundle, ended)
    try:
        return DOCUMENT_KIND.validate_json(ended.stdout)
    except ValidationError as error:
        raise EdgevitError(
            f"{bundle}: the measuring process wrote no report ({error.error_count()} faults)."
        ) from error


def _run(words: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    # A session of its own: Ctrl-C reaches this process only, which then kills the child and what it started.
    # subprocess.run would not wait for its end.
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=child_environment(),
        start_new_session=True,
    ) as process:
        try:
            out, said = process.communicate(timeout=limit_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, said)


def _failure(bundle: Path, ended: subprocess.CompletedProcess[str]) -> EdgevitError:
    if ended.returncode < 0:
        return EdgevitError(
            f"{bundle}: the measuring process was killed by signal {-ended.returncode} "
            "(9: probably out of memory, 4: the runtime has instructions that this CPU lacks)."
        )
    said = last_line(ended.stderr)
    return error_by_code(ended.returncode, said) or EdgevitError(
        f"{bundle}: the measuring process ended with code {ended.returncode} ({said or 'no word'})."
    )
