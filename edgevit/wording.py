"""Wording: the verdict's sentences, plain English with figures and units."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgevit.board.sweep import thread_words
from edgevit.device import QuantizationPreset
from edgevit.recipe import Budget
from edgevit.results import AccuracyDrop, Candidate, CostEstimate, LatencyPrediction, LatencyRatio
from edgevit.units import format_mib, format_ms
from edgevit.verify import describe_parity

FP32 = "fp32"
# Runtimes whose kernels' instructions nobody counted, as they are called.
UNCOUNTED_KERNELS = {"litert": "LiteRT", "executorch": "ExecuTorch"}


def shipped(winner: Candidate, fp32: Candidate | None, is_measured: bool, rival: Candidate | None) -> str:
    """Why the winner was shipped: its figures beside fp32's; for fp32 itself, what its fastest `rival` did not gain."""
    size = format_mib(winner.size_mib)
    if winner.precision == FP32:
        reason = _fp32_reason(rival, winner is fp32)
        return f"{winner.name} was shipped{reason}: {_joined(_own_latency(winner, is_measured), size)}."
    latency = _latency_beside_fp32(winner, fp32, is_measured)
    accuracy = drop_words(winner.drop) if winner.drop else ""
    beside = f" instead of {format_mib(fp32.size_mib)}" if fp32 else ""
    return f"{winner.name} was shipped: {_joined(latency, accuracy, size + beside)}."


def steps(winner: Candidate, fp32: Candidate | None) -> tuple[str, ...]:
    """What the rewrites bought, and what computes in INT8, with what is to be remarked of it."""
    found = []
    if winner.rewrites:
        bought = ""
        if fp32 and fp32.vs_exported:
            times, interval = _times(fp32.vs_exported)
            bought = f": fp32 is {times} as before ({interval})"
            if not fp32.vs_exported.is_real:
                bought = f": fp32 is no faster for it beyond chance ({times}, {interval})"
        found.append(f"The graph was rewritten ({', '.join(winner.rewrites)}){bought}.")
    if winner.precision != FP32 and winner.int8:
        found.append(f"In INT8: {int8_words(winner)}. LayerNorm, Softmax and GELU stay in float, where they are exact.")
    return (*found, *winner.remarks)


def not_shipped(loser: Candidate, reason: str) -> str:
    return f"{loser.name} was not shipped: {reason}."


def not_asked_for(loser: Candidate, asked: str) -> str:
    return not_shipped(loser, f"--precision {asked} was asked for; it is here to be compared with")


def outweighed(loser: Candidate, winner: Candidate) -> str:
    """Why a candidate lost where nothing was measured and instructions were estimated."""
    if not loser.estimate or not winner.estimate:
        return not_shipped(loser, "its instructions could not be estimated")
    ours, theirs = loser.estimate, winner.estimate
    words = f"an estimated {million_instructions(ours)} against {million_instructions(theirs)} for {winner.name}"
    if ours.million_instructions < theirs.million_instructions:
        words += f", which is less than the estimate's error of {theirs.relative_error:.0%}"
    return not_shipped(loser, words)


def what_int8_saves(estimated: Sequence[Candidate]) -> tuple[str, ...]:
    """What INT8 is worth on this core, by the best of the estimated candidates that use it."""
    fp32 = next((c.estimate for c in estimated if c.precision == FP32), None)
    others = [c for c in estimated if c.precision != FP32]
    best = min(others, key=lambda c: c.estimate.million_instructions if c.estimate else 0.0, default=None)
    if fp32 is None or best is None or best.estimate is None:
        return ()
    ratio = fp32.million_instructions / best.estimate.million_instructions
    if ratio > 1 + best.estimate.relative_error:
        return (f"On {fp32.core} INT8 takes 1/{ratio:.1f} of fp32's instructions ({best.name}, estimated).",)
    return (
        f"On {fp32.core} INT8 saves no instructions beyond the estimate's error: {million_instructions(best.estimate)} "
        f"({best.name}) against {million_instructions(fp32)} for fp32. What it saves is memory.",
    )


def ranked_after(loser: Candidate, winner: Candidate) -> str:
    return not_shipped(loser, f"the device's preset ranks {winner.name} before it")


def outrun(loser: Candidate, winner: Candidate, ratio: LatencyRatio | None, is_tied: bool) -> str:
    """Why a candidate inside the budget lost: slower, or no faster beyond chance, which is_tied says.

    ratio: the winner's latency over the loser's, interleaved, where it was measured.
    """
    if not loser.latency_ms or not winner.latency_ms:
        return not_shipped(loser, "it could not be measured")
    ours, theirs = _apart(loser.latency_ms.p50, winner.latency_ms.p50, format_ms)
    words = f" ({_ratio_words(ratio)})" if ratio else ""
    if is_tied:
        return not_shipped(
            loser,
            f"its {ours} cannot be told from the {theirs} of {winner.name}{words}, "
            "and of equals the one nearer to fp32 is taken",
        )
    return not_shipped(loser, f"{ours} against {theirs} for {winner.name}{words}")


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
    ours, limit = _apart(p50_ms, allowed, format_ms)
    return f"it takes {ours} and may take {limit}"


def too_large(size_mib: float, allowed: float) -> str:
    ours, limit = _apart(size_mib, allowed, format_mib)
    return f"it is {ours} large and may be {limit}"


def caveats(winner: Candidate, budget: Budget, preset: QuantizationPreset, is_measured: bool) -> tuple[str, ...]:
    """What a reader must know beside the choice itself."""
    found = []
    if not is_measured and winner.estimate:
        error = f"{winner.estimate.relative_error:.0%}"
        found.append(f"Not measured on the board: estimated instructions (error up to {error}) chose, not a latency.")
        guessed = not_calibrated(winner.estimate)
        if guessed:
            found.append(
                f"Only guessed in the estimate of {winner.name}: {guessed}. Nothing was counted for them on "
                f"{winner.estimate.core}, and the error does not cover them."
            )
    elif not is_measured:
        found.append(f"Not measured on the board: the device's preset chose. {preset.why}")
        if winner.runtime in UNCOUNTED_KERNELS:
            whose = UNCOUNTED_KERNELS[winner.runtime]
            found.append(f"Nothing was estimated either: it is not known what {whose}'s kernels cost on that core.")
    drop = winner.drop
    if drop and budget.max_drop is not None and drop.ci95[1] > budget.max_drop:
        found.append(
            f"{winner.name} is within the budget of {budget.max_drop:.2f} points by its estimate; "
            f"the interval reaches {drop.ci95[1]:.2f}."
        )
    return tuple(found)


def unchecked(winner: Candidate, budget: Budget, is_measured: bool) -> tuple[str, ...]:
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
        found.append(f"Without labelled pictures the accuracy of {winner.name} was not checked; {stand_in}.")
    return tuple(found)


def int8_words(candidate: Candidate) -> str:
    """'48 of 49 linear layers, 1 of 1 convolutions': what computes in INT8; '' for fp32."""
    return ", ".join(f"{done} of {total} {kind}" for kind, (done, total) in candidate.int8.items())


def not_calibrated(estimate: CostEstimate) -> str:
    """'2 × GridSample f32, 1 × Softplus f32': nodes of kernels that nothing was counted for; '' when all were."""
    return ", ".join(f"{count} × {kernel}" for kernel, count in estimate.not_calibrated.items())


def million_instructions(estimate: CostEstimate) -> str:
    """'246 million instructions', with three significant digits."""
    digits = 1 if estimate.million_instructions < 100 else 0
    return f"{estimate.million_instructions:.{digits}f} million instructions"


def predicted(prediction: LatencyPrediction) -> str:
    """'predicted, not measured: p50 26.4 ms on rpi5, 4 threads (90 % interval 19.1 ms to 36.5 ms)', and by what."""
    low, high = prediction.interval90_milliseconds
    return (
        f"{prediction.what}: p50 {format_ms(prediction.median_milliseconds)} on {prediction.device}, "
        f"{thread_words(prediction.threads)} (90 % interval {format_ms(low)} to {format_ms(high)}); {prediction.basis}"
    )


def _fp32_reason(rival: Candidate | None, is_reference: bool) -> str:
    """is_reference: the ratios were taken against this fp32 artifact, not against one of another runtime."""
    if rival is None or rival.latency_ms is None:
        return ""
    ratio = rival.vs_fp32 if is_reference else None
    if ratio is None:
        return f" because {rival.name} takes {format_ms(rival.latency_ms.p50)} here"
    if ratio.is_real and ratio.ratio < 1:
        times, interval = _times(ratio)
        return f" because {rival.name} is {times} here ({interval})"
    return f" because {rival.name} is not faster here beyond chance ({_ratio_words(ratio)})"


def _latency_beside_fp32(winner: Candidate, fp32: Candidate | None, is_measured: bool) -> str:
    own = _own_latency(winner, is_measured)
    if is_measured and winner.latency_ms and fp32 and fp32.latency_ms:
        ours, theirs = _apart(winner.latency_ms.p50, fp32.latency_ms.p50, format_ms)
        ratio = f" ({_ratio_words(winner.vs_fp32)})" if winner.vs_fp32 else ""
        return f"{ours} against {theirs} for fp32{ratio}"
    if not is_measured and own and fp32 and fp32.estimate:
        return f"{own} against {million_instructions(fp32.estimate)} for fp32"
    return own


def _own_latency(candidate: Candidate, is_measured: bool) -> str:
    if is_measured and candidate.latency_ms:
        return format_ms(candidate.latency_ms.p50)
    estimate = candidate.estimate
    return f"an estimated {million_instructions(estimate)} on {estimate.core}" if estimate and not is_measured else ""


def _apart(ours: float, theirs: float, words: Callable[[float], str]) -> tuple[str, str]:
    """Both in `words`, 'figure unit'; with as many digits more as tell them apart, where they would read the same."""
    texts = words(ours), words(theirs)
    unit = texts[0].split()[-1]
    for digits in range(3, 7):
        if texts[0] != texts[1] or ours == theirs:
            break
        texts = f"{ours:.{digits}f} {unit}", f"{theirs:.{digits}f} {unit}"
    return texts


def _ratio_words(ratio: LatencyRatio) -> str:
    return ", ".join(_times(ratio))


def _times(ratio: LatencyRatio) -> tuple[str, str]:
    """('1.86× as fast', '95 % interval 1.83–1.90')."""
    return f"{ratio.ratio:.2f}× as fast", f"95 % interval {ratio.ci95[0]:.2f}–{ratio.ci95[1]:.2f}"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
