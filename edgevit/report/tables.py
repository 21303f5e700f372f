"""A run's figures in words: the same on its page and in the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from edgevit.recipe import RANDOM, Budget
from edgevit.results import Accuracy, AccuracyDrop, Candidate, LatencyRatio, Parity, RunMetrics
from edgevit.units import format_mib, format_ms, format_percent

NOT_ON_BOARD = "not measured on the board"
NO_LABELS = "no labeled data"
NOT_MEASURED = "not measured"
NO_MEANING = "means nothing: random weights"


@dataclass(frozen=True)
class Cell:
    """`detail` stands smaller under `text`; `is_figure` is False where words stand for a missing figure."""

    text: str
    detail: str = ""
    is_figure: bool = True


@dataclass(frozen=True)
class CandidateRow:
    name: str
    runtime: str
    outcome: str
    accuracy: Cell
    drop: Cell
    p50: Cell
    p90: Cell
    p99: Cell
    vs_fp32: Cell
    size: Cell
    parity: Cell
    why: str


def candidate_rows(metrics: RunMetrics) -> tuple[CandidateRow, ...]:
    """One row of words for each candidate, in the order of `metrics.candidates`."""
    names = candidate_names(metrics.candidates)
    return tuple(_row(metrics, name, c) for name, c in zip(names, metrics.candidates, strict=True))


def candidate_names(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The precision, with the runtime where two candidates share a precision."""
    uses = Counter(c.precision for c in candidates)
    return tuple(c.precision if uses[c.precision] == 1 else f"{c.precision}, {c.runtime}" for c in candidates)


def shipped_candidate(metrics: RunMetrics) -> Candidate | None:
    return next((c for c in metrics.candidates if c.shipped), None)


def is_accuracy_meaningless(metrics: RunMetrics) -> bool:
    """True for random weights that no training followed."""
    return metrics.weights == RANDOM and not metrics.curves


def headline(metrics: RunMetrics) -> str:
    """The verdict in one sentence: what ships, how fast against fp32, how accurate."""
    shipped = shipped_candidate(metrics)
    if shipped is None:
        return "Nothing is shipped: no candidate meets the budget."
    parts = [_speed_words(shipped), _accuracy_words(metrics, shipped)]
    unmet = ", but the budget is not met" if metrics.verdict.within_budget is False else ""
    return f"{shipped.precision} ships{unmet}: {', '.join(part for part in parts if part)}."


def next_command(metrics: RunMetrics) -> tuple[str, str]:
    """(what for, command): the next thing to type."""
    if not metrics.bundle:
        return "Change the recipe or its budget, then run it again:", f"edgevit run {shlex.quote(metrics.name)}"
    bundle = shlex.quote(metrics.bundle)
    if metrics.device != "local":
        on_board = shlex.quote(PurePath(metrics.bundle).name)
        return f"Copy the bundle to the board ({metrics.device}), and there:", f"python3 {on_board}/agent.py bench"
    if is_accuracy_meaningless(metrics):
        return "Check the latency again:", f"edgevit bench {bundle}"
    return "Try it on a picture of yours:", f"edgevit predict picture.jpg --bundle {bundle}"


def budget_words(budget: Budget) -> str:
    """'at most 1 point below fp32, 50 ms, 6 MiB'."""
    limits = []
    if budget.max_drop is not None:
        limits.append(f"{budget.max_drop:g} {'point' if budget.max_drop == 1 else 'points'} below fp32")
    if budget.max_latency_ms is not None:
        limits.append(f"{budget.max_latency_ms:g} ms")
    if budget.max_size_mib is not None:
        limits.append(f"{budget.max_size_mib:g} MiB")
    return f"at most {', '.join(limits)}" if limits else "no limit was set"


def confused_pairs(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], most: int = 8
) -> tuple[tuple[int, int, str, str], ...]:
    """(mistaken, pictures of the true class, true class, taken for): at most `most` pairs, most mistakes first."""
    pairs = [
        (count, sum(row), labels[i], labels[j])
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair[0], -pair[0] / pair[1]))[:most])


def short_label(label: str, longest: int) -> str:
    """`label` on one line, cut to `longest` characters."""
    line = " ".join(label.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def accuracy_cell(metrics: RunMetrics, accuracy: Accuracy | None) -> Cell:
    if is_accuracy_meaningless(metrics):
        return Cell(NO_MEANING, is_figure=False)
    if accuracy is None:
        has_labels = metrics.fp32_test is not None or metrics.shipped_test is not None
        return Cell(NOT_MEASURED if has_labels else NO_LABELS, is_figure=False)
    low, high = accuracy.ci95
    return Cell(format_percent(accuracy.top1), f"[{low:.1f}, {high:.1f}]")


def drop_cell(drop: AccuracyDrop | None) -> Cell:
    """Points below fp32: positive is worse."""
    if drop is None:
        return Cell("not compared", is_figure=False)
    return Cell(f"{drop.points:+.2f}", f"[{drop.ci95[0]:+.2f}, {drop.ci95[1]:+.2f}]")


def ratio_cell(ratio: LatencyRatio | None) -> Cell:
    if ratio is None:
        return Cell("not compared", is_figure=False)
    return Cell(f"{ratio.ratio:.2f}×", f"[{ratio.ci95[0]:.2f}, {ratio.ci95[1]:.2f}]")


def sqnr_words(parity: Parity) -> str:
    return "identical" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB"


def _row(metrics: RunMetrics, name: str, candidate: Candidate) -> CandidateRow:
    is_fp32 = candidate.precision == "fp32"
    reference = Cell("reference", is_figure=False)
    drop = reference if is_fp32 and candidate.drop is None else drop_cell(candidate.drop)
    p50, p90, p99 = _latency_cells(candidate)
    return CandidateRow(
        name=name,
        runtime=candidate.runtime,
        outcome="failed" if candidate.failed else "shipped" if candidate.shipped else "not shipped",
        accuracy=accuracy_cell(metrics, candidate.accuracy),
        drop=Cell(NO_MEANING, is_figure=False) if is_accuracy_meaningless(metrics) else drop,
        p50=p50,
        p90=p90,
        p99=p99,
        vs_fp32=reference if is_fp32 and candidate.vs_fp32 is None else ratio_cell(candidate.vs_fp32),
        size=Cell(format_mib(candidate.size_mib)),
        parity=_parity_cell(candidate.parity),
        why=candidate.failed or candidate.why,
    )


def _latency_cells(candidate: Candidate) -> tuple[Cell, Cell, Cell]:
    latency = candidate.latency_ms
    if latency is None:
        nothing = Cell(NOT_MEASURED if candidate.failed else NOT_ON_BOARD, is_figure=False)
        return nothing, nothing, nothing
    too_few = Cell("not claimed", f"{latency.runs} runs, 662 needed", is_figure=False)
    p99 = too_few if latency.p99 is None else Cell(format_ms(latency.p99))
    return Cell(format_ms(latency.p50)), Cell(format_ms(latency.p90)), p99


def _parity_cell(hops: Sequence[Parity]) -> Cell:
    if not hops:
        return Cell("not checked", is_figure=False)
    worst = min(hops, key=lambda hop: (hop.passed, hop.cosine))
    return Cell(f"{worst.cosine:.4f}", sqnr_words(worst) if worst.passed else f"failed, {sqnr_words(worst)}")


def _speed_words(shipped: Candidate) -> str:
    if shipped.latency_ms is None:
        return f"its speed is {NOT_ON_BOARD}"
    if shipped.precision == "fp32":
        return f"{format_ms(shipped.latency_ms.p50)} a picture"
    if shipped.vs_fp32 is None:
        return f"{format_ms(shipped.latency_ms.p50)} a picture, not compared with fp32"
    if not shipped.vs_fp32.is_real:
        return "no real difference in speed from fp32"
    ratio = shipped.vs_fp32.ratio
    return f"{ratio:.2f}× as fast as fp32" if ratio > 1 else f"{1 / ratio:.2f}× slower than fp32"


def _accuracy_words(metrics: RunMetrics, shipped: Candidate) -> str:
    if is_accuracy_meaningless(metrics):
        return "its accuracy means nothing"
    tested = metrics.shipped_test.accuracy if metrics.shipped_test else shipped.accuracy
    if tested is None:
        return "no accuracy is claimed"
    right = f"{format_percent(tested.top1)} right on the test pictures"
    drop = metrics.drop or shipped.drop
    if shipped.precision == "fp32" or drop is None:
        return right
    side = "below" if drop.points > 0 else "above"
    return f"{right} ({abs(drop.points):.2f} points {side} fp32)" if drop.points else f"{right} (as many as fp32)"
