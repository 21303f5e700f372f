"""Fleet: a bundle on many boards at once. One that fails does not stop the rest, and one that is slower is named."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Literal

from edgevit.benchreport import BenchDocument, BenchReport, BenchSweep
from edgevit.board.sweep import thread_words
from edgevit.errors import EdgevitError, MeasurementError
from edgevit.progress import Progress
from edgevit.remote.connection import Cancellation
from edgevit.remote.host import Host
from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion

POLL_SECONDS = 0.2
SHOWN_BOARDS = 3
# A modified z-score above 3.5 names an outlier. Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers",
# 1993. The least deviation keeps boards apart that agree to a hair and differ by chance.
OUTLIER_SCORE = 3.5
NORMAL_MAD = 0.6745
OUTLIER_LEAST = 0.05
OUTLIER_BOARDS = 3

Measure = Callable[[Host, Progress, Cancellation], BenchDocument]


class BoardResult(Record):
    """One board's report or sweep, or why there is none. exit_code: what the command would end with for it alone."""

    host: str
    report: BenchReport | None = None
    sweep: BenchSweep | None = None
    error: str | None = None
    exit_code: int = 0

    @property
    def reports(self) -> tuple[BenchReport, ...]:
        """The report, those of the sweep, or none."""
        if self.sweep is not None:
            return self.sweep.reports
        return () if self.report is None else (self.report,)


class Spread(Record):
    """Boards of one kind beside each other, by their medians. spread: highest minus lowest, over the median."""

    machine: str
    hosts: tuple[str, ...]
    median_ms: float
    lowest_ms: float
    highest_ms: float
    spread: float
    outliers: tuple[str, ...] = ()
    sentence: str


class FleetReport(Record):
    """The document that `edgevit bench --json` writes for more than one board."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["fleet"] = "fleet"
    boards: tuple[BoardResult, ...]
    spreads: tuple[Spread, ...]
    exit_code: int


def bench_fleet(hosts: Sequence[Host], measure: Measure, jobs: int, progress: Progress) -> FleetReport:
    """Measures on all boards, `jobs` at a time, in the order given. Ctrl-C ends it on every board."""
    progress.stage(f"Measuring on {len(hosts)} boards")
    lines = _Lines(progress, len(hosts))
    cancellation = Cancellation()

    def work(host: Host) -> BoardResult:
        try:
            found = measure(host, _BoardLine(host, lines), cancellation)
            report, sweep = (found, None) if isinstance(found, BenchReport) else (None, found)
            reasons = None if found.is_valid else " ".join(found.invalid_reasons)
            code = 0 if found.is_valid else MeasurementError.exit_code
            return BoardResult(host=str(host), report=report, sweep=sweep, error=reasons, exit_code=code)
        except EdgevitError as error:
            return BoardResult(host=str(host), error=str(error), exit_code=error.exit_code)
        except Exception as error:  # a fault of ours on one board does not stop the rest
            text = f"edgevit itself failed: {type(error).__name__}: {error}"
            return BoardResult(host=str(host), error=text, exit_code=EdgevitError.exit_code)
        finally:
            lines.finish(host)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [pool.submit(work, host) for host in hosts]
        try:
            while wait(futures, timeout=POLL_SECONDS).not_done:
                lines.show()
        except BaseException:
            for future in futures:
                future.cancel()
            cancellation.cancel()
            raise
    boards = tuple(future.result() for future in futures)
    return FleetReport(boards=boards, spreads=spreads(boards), exit_code=worst(board.exit_code for board in boards))


def worst(codes: Iterable[int]) -> int:
    """The exit code of a fleet: a board without figures is worse than one whose figures may not be used."""
    return max(codes, key=lambda code: (code != 0, code != MeasurementError.exit_code, code), default=0)


def spreads(boards: Sequence[BoardResult]) -> tuple[Spread, ...]:
    """Of each kind of which two boards or more have valid figures."""
    kinds: dict[tuple[object, ...], list[BenchReport]] = {}
    for report in (each for board in boards for each in board.reports if each.is_valid):
        machine = report.machine
        how = (report.mode, report.threads, report.batch, report.streams, report.cores)
        kinds.setdefault((machine.cpu, machine.arch, machine.cores, report.runtime_version, *how), []).append(report)
    return tuple(_spread(reports) for reports in kinds.values() if len(reports) > 1)


def outliers(medians_ms: Sequence[float]) -> tuple[int, ...]:
    """Which of three or more medians stand apart from the others, by their positions.

    Both must hold: a modified z-score above 3.5, and more than 5 % from the median of all.
    """
    if len(medians_ms) < OUTLIER_BOARDS:
        return ()
    middle = statistics.median(medians_ms)
    mad = statistics.median(abs(value - middle) for value in medians_ms)
    return tuple(
        index
        for index, value in enumerate(medians_ms)
        if abs(value - middle) > OUTLIER_LEAST * middle and NORMAL_MAD * abs(value - middle) > OUTLIER_SCORE * mad
    )


def _spread(reports: Sequence[BenchReport]) -> Spread:
    medians = [report.latency_ms.p50 for report in reports]
    hosts = tuple(report.host or report.device for report in reports)
    middle, low, high = statistics.median(medians), min(medians), max(medians)
    spread = (high - low) / middle if middle else 0.0
    apart = outliers(medians)
    machine = f"{reports[0].machine.cpu}, {reports[0].machine.arch}"
    sentence = (
        f"{len(reports)} boards with {machine}, {thread_words(reports[0].threads)}: medians from {low:.2f} to "
        f"{high:.2f} ms, {100 * spread:.1f} % apart."
    )
    for index in apart:
        word = "slower" if medians[index] > middle else "faster"
        factor = max(medians[index], middle) / min(medians[index], middle)
        sentence += f" {hosts[index]} stands out: {factor:.2f} times {word} than their median."
    return Spread(
        machine=machine,
        hosts=hosts,
        median_ms=middle,
        lowest_ms=low,
        highest_ms=high,
        spread=spread,
        outliers=tuple(hosts[index] for index in apart),
        sentence=sentence,
    )


class _Lines:
    """What each board is doing, gathered into the one line of a progress bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._doing: dict[str, str] = {}
        self._done = 0
        self._lock = threading.Lock()

    def say(self, host: Host, text: str) -> None:
        with self._lock:
            self._doing[str(host)] = text

    def note(self, host: Host, text: str) -> None:
        with self._lock:
            self._progress.note(f"{host}: {text}")

    def finish(self, host: Host) -> None:
        with self._lock:
            self._doing.pop(str(host), None)
            self._done += 1

    def show(self) -> None:
        with self._lock:
            texts = list(self._doing.values())
            more = f" and {len(texts) - SHOWN_BOARDS} more" if len(texts) > SHOWN_BOARDS else ""
            self._progress.update(self._done, self._total, "; ".join(texts[:SHOWN_BOARDS]) + more)


class _BoardLine:
    """One board's progress: a part of the line."""

    def __init__(self, host: Host, lines: _Lines) -> None:
        self._host, self._lines, self._title = host, lines, ""

    def stage(self, title: str) -> None:
        self._title = title
        self._lines.say(self._host, title)

    def update(self, done: int, total: int, detail: str = "") -> None:
        share = f" {100 * done // total} %" if total else ""
        self._lines.say(self._host, self._title + share)

    def note(self, text: str) -> None:
        self._lines.note(self._host, text)
