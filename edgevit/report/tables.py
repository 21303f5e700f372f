"""A run's figures in words: the same on its page and in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from edgevit.recipe import RANDOM, Budget
from edgevit.results import Accuracy, AccuracyDrop, Candidate, LatencyRatio, Parity, RunMetrics
from edgevit.search.describe import describe, details
from edgevit.units import format_mib, format_ms, format_percent
from edgevit.wording import int8_words, million_instructions, not_calibrated

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
    """`details`: what `policy` leaves out, or ''. `rewrites`: those that changed the candidate's graph."""

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
    policy: str
    details: str
    rewrites: Cell
    int8: Cell


def candidate_rows(metrics: RunMetrics) -> tuple[CandidateRow, ...]:
    """One row of words for each candidate, in the order of `metrics.candidates`."""
    return tuple(_row(metrics, c) for c in metrics.candidates)


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
    return f"{shipped.name} ships{unmet}: {', '.join(part for part in parts if part)}."


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


def latency_cell(candidate: Candidate) -> Cell:
    """The median; where nothing was measured, words, with the estimated instructions as their detail."""
    if candidate.latency_ms:
        return Cell(format_ms(candidate.latency_ms.p50))
    if candidate.failed:
        return Cell(NOT_MEASURED, is_figure=False)
    return Cell(NOT_ON_BOARD, estimate_words(candidate), is_figure=False)


def estimate_words(candidate: Candidate) -> str:
    """'an estimated 257 million instructions on Cortex-A76, error up to 9 %'; '' when there is no estimate."""
    estimate = candidate.estimate
    if estimate is None:
        return ""
    error = f"error up to {100 * estimate.relative_error:.0f} %"
    guessed = f"; only guessed: {not_calibrated(estimate)}" if estimate.not_calibrated else ""
    return f"an estimated {million_instructions(estimate)} on {estimate.core}, {error}{guessed}"


def vs_exported_words(candidate: Candidate) -> str:
    """'1.12× as fast as exported [1.10, 1.14]': what exact rewrites bought; '' where that was not measured."""
    if candidate.vs_exported is None:
        return ""
    ratio = ratio_cell(candidate.vs_exported)
    return f"{ratio.text} as fast as exported {ratio.detail}"


def sqnr_words(parity: Parity) -> str:
    return "identical" if parity.sqnr_db is None else f"{parity.sqnr_db:.1f} dB"


def _row(metrics: RunMetrics, candidate: Candidate) -> CandidateRow:
    is_fp32 = candidate.precision == "fp32"
    reference = Cell("reference", is_figure=False)
    drop = reference if is_fp32 and candidate.drop is None else drop_cell(candidate.drop)
    p90, p99 = _slow_cells(candidate)
    speed = ratio_cell(candidate.vs_fp32)
    if is_fp32 and candidate.vs_fp32 is None:
        speed = Cell("reference", vs_exported_words(candidate), is_figure=False)
    return CandidateRow(
        name=candidate.name,
        runtime=candidate.runtime,
        outcome="failed" if candidate.failed else "shipped" if candidate.shipped else "not shipped",
        accuracy=accuracy_cell(metrics, candidate.accuracy),
        drop=Cell(NO_MEANING, is_figure=False) if is_accuracy_meaningless(metrics) else drop,
        p50=latency_cell(candidate),
        p90=p90,
        p99=p99,
        vs_fp32=speed,
        size=Cell(format_mib(candidate.size_mib)),
        parity=_parity_cell(candidate.parity),
        why=candidate.failed or candidate.why,
        policy=describe(candidate.policy),
        details=details(candidate.policy.model_copy(update={"rewrites": ()})),  # those asked for; shown are those done
        rewrites=_words_cell(", ".join(candidate.rewrites)),
        int8=_words_cell(int8_words(candidate)),
    )


def _slow_cells(candidate: Candidate) -> tuple[Cell, Cell]:
    """p90 and p99."""
    latency = candidate.latency_ms
    if latency is None:
        nothing = Cell(NOT_MEASURED if candidate.failed else NOT_ON_BOARD, is_figure=False)
        return nothing, nothing
    too_few = Cell("not claimed", f"{latency.runs} runs, 662 needed", is_figure=False)
    return Cell(format_ms(latency.p90)), too_few if latency.p99 is None else Cell(format_ms(latency.p99))


def _words_cell(words: str) -> Cell:
    return Cell(words or "none", is_figure=bool(words))


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
    return f"{shipped.vs_fp32.ratio:.2f}× as fast as fp32"


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
