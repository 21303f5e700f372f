"""Wording: the verdict's sentences, plain English with figures and units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgevit.device import QuantizationPreset
from edgevit.recipe import Budget
from edgevit.results import AccuracyDrop, Candidate, LatencyRatio
from edgevit.units import format_mib, format_ms
from edgevit.verify import describe_parity

FP32 = "fp32"


def names_of(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """'int8-static', or 'int8-static (torchscript)' where a precision was tried on several runtimes."""
    count = Counter(candidate.precision for candidate in candidates)
    return tuple(c.precision if count[c.precision] == 1 else f"{c.precision} ({c.runtime})" for c in candidates)


def shipped(
    name: str, winner: Candidate, fp32: Candidate | None, is_measured: bool, rival: tuple[str, Candidate] | None
) -> str:
    """Why the winner was shipped: its figures beside fp32's; for fp32 itself, what its fastest `rival` did not gain."""
    if winner.precision == FP32:
        reason = _fp32_reason(rival, winner is fp32)
        return f"{name} was shipped{reason}: {_joined(_own_latency(winner, is_measured), format_mib(winner.size_mib))}."
    latency = _latency_beside_fp32(winner, fp32, is_measured)
    accuracy = drop_words(winner.drop) if winner.drop else ""
    size = (
        f"{format_mib(winner.size_mib)} instead of {format_mib(fp32.size_mib)}" if fp32 else format_mib(winner.size_mib)
    )
    return f"{name} was shipped: {_joined(latency, accuracy, size)}."


def not_shipped(name: str, reason: str) -> str:
    return f"{name} was not shipped: {reason}."


def not_asked_for(name: str, asked: str) -> str:
    return f"{name} was not shipped: --precision {asked} was asked for; it is here to be compared with."


def ranked_after(name: str, winner_name: str) -> str:
    return not_shipped(name, f"the device's preset ranks {winner_name} before it")


def outrun(name: str, loser: Candidate, winner_name: str, winner: Candidate, ratio: LatencyRatio | None) -> str:
    """Why a candidate inside the budget lost: slower, or no faster beyond chance.

    ratio: the winner's latency over the loser's, interleaved, where it was measured.
    """
    if not loser.latency_ms or not winner.latency_ms:
        return not_shipped(name, "it could not be measured")
    ours, theirs = loser.latency_ms.p50, winner.latency_ms.p50
    words = f" ({_ratio_words(ratio)})" if ratio else ""
    if (ratio.ratio > 1) if ratio else (ours < theirs):
        return not_shipped(
            name,
            f"its {format_ms(ours)} cannot be told from the {format_ms(theirs)} of {winner_name}{words}, "
            "and of equals the one nearer to fp32 is taken",
        )
    return not_shipped(name, f"{format_ms(ours)} against {format_ms(theirs)} for {winner_name}{words}")


def drop_words(drop: AccuracyDrop) -> str:
    """'0.10 points less accurate on 360 pictures [-0.90, +1.10]'; the interval is read in the words' direction."""
    low, high = drop.ci95
    if drop.points < 0:
        amount, low, high = f"{-drop.points:.2f} points more accurate", -high, -low
    elif drop.points > 0:
        amount = f"{drop.points:.2f} points less accurate"
    else:
        amount = "as accurate"
    return f"{amount} on {drop.n:,} validation picture{'' if drop.n == 1 else 's'} [{low:+.2f}, {high:+.2f}]"


def too_inaccurate(drop: AccuracyDrop, allowed: float) -> str:
    return f"it is {drop_words(drop)} and may lose {allowed:.2f}"


def too_slow(p50_ms: float, allowed: float) -> str:
    return f"it takes {format_ms(p50_ms)} and may take {format_ms(allowed)}"


def too_large(size_mib: float, allowed: float) -> str:
    return f"it is {format_mib(size_mib)} large and may be {format_mib(allowed)}"


def caveats(
    name: str, winner: Candidate, budget: Budget, preset: QuantizationPreset, is_measured: bool
) -> tuple[str, ...]:
    """What a reader must know beside the choice itself."""
    found = []
    if not is_measured:
        found.append(f"Not measured on the board: the device's preset chose. {preset.why}")
    drop = winner.drop
    if drop and budget.max_drop is not None and drop.ci95[1] > budget.max_drop:
        found.append(
            f"{name} is within the budget of {budget.max_drop:.2f} points by its estimate; "
            f"the interval reaches {drop.ci95[1]:.2f}."
        )
    return tuple(found)


def unchecked(name: str, winner: Candidate, budget: Budget, is_measured: bool) -> tuple[str, ...]:
    """The limits that were asked for and could not be checked, one sentence each."""
    found = []
    if budget.max_latency_ms is not None and not is_measured:
        limit = format_ms(budget.max_latency_ms)
        found.append(f"The limit of {limit} was not checked: nothing was measured on the board.")
    if budget.max_drop is not None and winner.drop is None and winner.precision != FP32:
        worst = min(winner.parity, key=lambda parity: parity.cosine, default=None)
        stand_in = (
            f"parity with fp32 stands in ({describe_parity(worst)})" if worst else "nothing was compared in its stead"
        )
        found.append(f"Without labelled pictures the accuracy of {name} was not checked; {stand_in}.")
    return tuple(found)


def _fp32_reason(rival: tuple[str, Candidate] | None, is_reference: bool) -> str:
    """is_reference: the ratios were taken against this fp32 artifact, not against one of another runtime."""
    name, other = rival if rival else ("", None)
    if other is None or other.latency_ms is None:
        return ""
    ratio = other.vs_fp32 if is_reference else None
    if ratio is None:
        return f" because {name} takes {format_ms(other.latency_ms.p50)} here"
    if ratio.is_real and ratio.ratio < 1:
        times, interval = _times(ratio)
        return f" because {name} is {times} here ({interval})"
    return f" because {name} is not faster here beyond chance ({_ratio_words(ratio)})"


def _latency_beside_fp32(winner: Candidate, fp32: Candidate | None, is_measured: bool) -> str:
    own = _own_latency(winner, is_measured)
    if not own or not fp32 or not fp32.latency_ms:
        return own
    ratio = f" ({_ratio_words(winner.vs_fp32)})" if winner.vs_fp32 else ""
    return f"{own} against {format_ms(fp32.latency_ms.p50)} for fp32{ratio}"


def _own_latency(candidate: Candidate, is_measured: bool) -> str:
    return format_ms(candidate.latency_ms.p50) if is_measured and candidate.latency_ms else ""


def _ratio_words(ratio: LatencyRatio) -> str:
    return ", ".join(_times(ratio))


def _times(ratio: LatencyRatio) -> tuple[str, str]:
    """('1.86× faster', '95 % interval 1.83–1.90'), or ('1.20× slower', …) with the reciprocals."""
    value, (low, high) = ratio.ratio, ratio.ci95
    word = "faster"
    if value < 1:
        value, low, high, word = 1 / value, 1 / high, 1 / low, "slower"
    return f"{value:.2f}× {word}", f"95 % interval {low:.2f}–{high:.2f}"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
