"""Choose: which of the artifacts that were tried goes into the bundle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgevit import wording
from edgevit.bench.ratios import ratio
from edgevit.device import QuantizationPreset
from edgevit.errors import BudgetError, EdgevitError, ParityError
from edgevit.policy import Kind
from edgevit.recipe import Budget
from edgevit.results import Candidate, CostEstimate, Verdict
from edgevit.verify import describe_parity
from edgevit.wording import FP32

# fp16 is a GPU's, where INT8 is often no faster: both are to be measured there. Convolutions gain from INT8 only when
# their activations' ranges are known beforehand: ONNX Runtime's dynamic ConvInteger is slower than float. A transformer
# is nearly all MatMul, where dynamic INT8 is the more accurate.
AUTO_ORDER: dict[Kind, tuple[str, ...]] = {
    "transformer": ("fp16", "int8-dynamic", "int8-static", FP32),
    "hybrid": ("fp16", "int8-static", FP32),
    "cnn": ("fp16", "int8-static", FP32),
}


@dataclass(frozen=True)
class Excess:
    """A limit that a candidate breaks: by which part of the limit, in words, and the option that sets it."""

    part: float
    words: str
    option: str


@dataclass(frozen=True)
class Contest:
    """The candidates, and which of those that fit were measured here, or estimated where none can be measured."""

    candidates: Sequence[Candidate]
    fp32: Candidate | None
    timed: Sequence[int]
    estimated: Sequence[int]
    is_beyond_chance: Callable[[int, int], bool]  # whether the first is faster than the second


def choose(
    candidates: Sequence[Candidate],
    budget: Budget,
    measured_here: bool,
    preset: QuantizationPreset,
    kind: Kind,
    asked: str | None = None,
) -> tuple[tuple[Candidate, ...], Verdict]:
    """The candidates, each with `shipped` and `why` filled in, and the verdict.

    A candidate counts when it was built, its every hop passed parity and it keeps the budget's limits, accuracy by
    the estimate of its drop. Of these the fastest measured one is shipped; where the interleaved ratio cannot tell two
    apart, the one nearer to fp32. With measured_here False (a board of another architecture) latencies are ignored:
    the estimated instructions decide, fp32 unless another takes surely fewer; without estimates the preset does: its
    precision, for 'auto' what suits the `kind` of model, fp32 when that one fell out.
    asked: the one precision that the user wants; fp32 is then there to be compared with, and is not shipped.
    A limit that could not be checked never excludes: within_budget is None then, and a sentence names the limit.

    Raises BudgetError when nothing fits, naming the nearest candidate and the limit that binds; ParityError, or
    EdgevitError, when no candidate was both built and verified.
    """
    assert candidates, "choose() was called without a candidate"
    defects = [_defect(candidate) for candidate in candidates]
    wanted = [i for i, candidate in enumerate(candidates) if asked in (None, candidate.precision)]
    usable = [i for i in wanted if not defects[i]]
    if not usable:
        raise _nothing_usable(candidates, defects)
    excesses = {i: _excesses(candidates[i], budget, measured_here) for i in usable}
    fitting = [i for i in usable if not excesses[i]]
    if not fitting:
        raise _nothing_fits([(candidates[i].name, excesses[i]) for i in usable])
    contest = _contest(candidates, fitting, measured_here)
    winner = _winner(contest, fitting, preset, kind)

    def why(i: int) -> str:
        if i not in wanted:
            return wording.not_asked_for(candidates[i], asked or "")
        if i not in fitting:
            return wording.not_shipped(candidates[i], defects[i] or "; ".join(excess.words for excess in excesses[i]))
        return _why_shipped(contest, winner) if i == winner else _why_beaten(contest, i, winner)

    judged = tuple(c.model_copy(update={"shipped": i == winner, "why": why(i)}) for i, c in enumerate(candidates))
    return judged, _verdict(judged, winner, contest, budget, preset)


def _contest(candidates: Sequence[Candidate], fitting: Sequence[int], measured_here: bool) -> Contest:
    return Contest(
        candidates=candidates,
        fp32=next((candidate for candidate in candidates if candidate.precision == FP32), None),
        timed=[i for i in fitting if candidates[i].latency_ms] if measured_here else [],
        estimated=[] if measured_here else [i for i in fitting if candidates[i].estimate],
        # a bootstrap, which takes its time: once for a pair
        is_beyond_chance=functools.cache(lambda a, b: _is_beyond_chance(candidates[a], candidates[b])),
    )


def _winner(contest: Contest, fitting: Sequence[int], preset: QuantizationPreset, kind: Kind) -> int:
    if contest.timed:
        return _fastest(contest)
    if contest.estimated:
        return _cheapest(contest)
    return _preset_choice(contest.candidates, fitting, preset, kind)


def _why_shipped(contest: Contest, winner: int) -> str:
    rivals = [i for i in contest.timed if i != winner]
    fastest = min(rivals, key=lambda i: _p50(contest.candidates[i]), default=None)
    rival = None if fastest is None else contest.candidates[fastest]
    return wording.shipped(contest.candidates[winner], contest.fp32, bool(contest.timed), rival)


def _why_beaten(contest: Contest, loser: int, winner: int) -> str:
    ours, theirs = contest.candidates[loser], contest.candidates[winner]
    if contest.timed:
        vs_fp32 = ours.vs_fp32 if theirs is contest.fp32 else None
        is_tied = loser in contest.timed and not contest.is_beyond_chance(winner, loser)
        return wording.outrun(ours, theirs, vs_fp32, is_tied)
    if contest.estimated:
        return wording.outweighed(ours, theirs)
    return wording.ranked_after(ours, theirs)


def _verdict(
    judged: Sequence[Candidate], winner: int, contest: Contest, budget: Budget, preset: QuantizationPreset
) -> Verdict:
    shipped, is_measured = judged[winner], bool(contest.timed)
    unchecked = wording.unchecked(shipped, budget, is_measured)
    sentences = [
        shipped.why,
        *wording.steps(shipped, contest.fp32),
        *(candidate.why for candidate in judged if not candidate.shipped),
        *wording.what_int8_saves([judged[i] for i in contest.estimated]),
        *wording.caveats(shipped, budget, preset, is_measured),
        *unchecked,
    ]
    return Verdict(
        shipped=shipped.name,
        budget=budget,
        within_budget=None if unchecked else True,
        sentences=tuple(sentences),
    )


def _defect(candidate: Candidate) -> str:
    """Why it cannot be shipped whatever the budget; '' when it can."""
    if candidate.failed:
        return candidate.failed.rstrip(".")
    failed = next((parity for parity in candidate.parity if not parity.passed), None)
    return f"its parity failed ({describe_parity(failed)})" if failed else ""


def _excesses(candidate: Candidate, budget: Budget, measured_here: bool) -> tuple[Excess, ...]:
    found = []
    if budget.max_drop is not None and candidate.drop and candidate.drop.points > budget.max_drop:
        # A limit of 0 has no part of itself: below one point the excess counts in points.
        part = (candidate.drop.points - budget.max_drop) / max(1.0, budget.max_drop)
        found.append(Excess(part, wording.too_inaccurate(candidate.drop, budget.max_drop), "--max-drop"))
    p50 = candidate.latency_ms.p50 if candidate.latency_ms and measured_here else 0.0
    if budget.max_latency_ms is not None and p50 > budget.max_latency_ms:
        part = p50 / budget.max_latency_ms - 1
        found.append(Excess(part, wording.too_slow(p50, budget.max_latency_ms), "--max-latency-ms"))
    if budget.max_size_mib is not None and candidate.size_mib > budget.max_size_mib:
        part = candidate.size_mib / budget.max_size_mib - 1
        found.append(Excess(part, wording.too_large(candidate.size_mib, budget.max_size_mib), "--max-size-mib"))
    return tuple(found)


def _nothing_usable(candidates: Sequence[Candidate], defects: Sequence[str]) -> EdgevitError:
    failures = "; ".join(f"{c.name}: {defect}" for c, defect in zip(candidates, defects, strict=True) if defect)
    kind = EdgevitError if all(candidate.failed for candidate in candidates) else ParityError
    return kind(f"No artifact can be shipped: {failures}.")


def _nothing_fits(broken: Sequence[tuple[str, tuple[Excess, ...]]]) -> BudgetError:
    name, excesses = min(broken, key=lambda item: max(excess.part for excess in item[1]))
    words = " and ".join(excess.words for excess in excesses)
    options = " and ".join(excess.option for excess in excesses)
    return BudgetError(
        f"No artifact is within the budget. The nearest is {name}: {words}. Raise {options}, or take another model."
    )


def _fastest(contest: Contest) -> int:
    """The fastest by estimate, or whichever is nearest to fp32 among those that cannot be told apart from it."""
    first = min(contest.timed, key=lambda i: _p50(contest.candidates[i]))
    tied = [i for i in contest.timed if i == first or not contest.is_beyond_chance(first, i)]
    return min(tied, key=lambda i: _distance_from_fp32(contest.candidates[i]))


def _cheapest(contest: Contest) -> int:
    """The fewest estimated instructions; fp32 when it is nearer to that than the estimate's own error."""
    cost = {i: contest.candidates[i].estimate for i in contest.estimated}
    first = min(cost, key=lambda i: _million(cost[i]))
    fp32 = next((i for i in cost if contest.candidates[i].precision == FP32), first)
    best = cost[first]
    assert best is not None
    return fp32 if _million(cost[fp32]) <= _million(best) * (1 + best.relative_error) else first


def _million(estimate: CostEstimate | None) -> float:
    assert estimate is not None
    return estimate.million_instructions


def _p50(candidate: Candidate) -> float:
    assert candidate.latency_ms
    return candidate.latency_ms.p50


def _is_beyond_chance(faster: Candidate, slower: Candidate) -> bool:
    """By the rounds in which both took turns; by their medians where there is no pair of rounds."""
    if min(len(faster.rounds_ms), len(slower.rounds_ms)) < 2:
        return _p50(faster) < _p50(slower)
    return ratio(slower.rounds_ms, faster.rounds_ms).ci95[0] > 1


def _distance_from_fp32(candidate: Candidate) -> tuple[bool, float, float, float]:
    drop = candidate.drop.points if candidate.drop else 0.0
    cosine = min((parity.cosine for parity in candidate.parity), default=1.0)
    return candidate.precision != FP32, drop, -cosine, candidate.size_mib


def _preset_choice(
    candidates: Sequence[Candidate], fitting: Sequence[int], preset: QuantizationPreset, kind: Kind
) -> int:
    order = AUTO_ORDER[kind] if preset.precision == "auto" else (preset.precision, FP32)
    built = [candidate.precision for candidate in candidates if not candidate.failed]
    wanted = next((precision for precision in order if precision in built), FP32)
    ranks = {wanted: 0, FP32: 0 if wanted == FP32 else 1}
    return min(fitting, key=lambda i: (ranks.get(candidates[i].precision, 2), candidates[i].size_mib))
