"""Verify: how near a candidate's logits are to those of its reference, hop by hop."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import InputError, ShapeMismatchError
from edgevit.results import Parity

# A record cannot hold -inf (a signal of all zeros beside an error): this stands for it, and for anything below.
SQNR_FLOOR_DB = -200.0

Array = NDArray[np.floating]


def cosine(reference: Array, candidate: Array) -> float:
    """Mean over pictures of the cosine between the two pictures' flattened values, in [-1, 1].

    reference, candidate: (N, ...), same pictures in the same order. Two all-zero pictures count as 1, one beside
    something else as 0, one that holds NaN or infinity as 0. With a single class it sees only the sign.
    Raises ShapeMismatchError when the shapes differ, InputError without pictures.
    """
    return float(_cosines(*_paired(reference, candidate)).mean())


def max_abs(reference: Array, candidate: Array) -> float:
    """Largest absolute difference between any two values; NaN or infinity where the inputs hold them.

    Raises ShapeMismatchError when the shapes differ, InputError without pictures.
    """
    reference, candidate = _paired(reference, candidate)
    return float(np.abs(_error(reference, candidate)).max())


def sqnr_db(reference: Array, candidate: Array) -> float:
    """Signal-to-quantization-noise ratio of `candidate` in dB; higher is better.

    reference, candidate: floats (N, ...), same pictures in the same order.
    Equal inputs give inf; an all-zero reference that differs gives -inf; NaN in either gives NaN.
    Raises ShapeMismatchError when the shapes differ, InputError without pictures.
    Source: 10*log10(signal power / error power).
    """
    reference, candidate = _paired(reference, candidate)
    return power_ratio_db(_power(reference), _power(_error(reference, candidate)))


def power_ratio_db(signal: float, error: float) -> float:
    """10*log10(signal / error) in dB: inf without error, -inf without signal, NaN when either is NaN."""
    if error == 0.0:
        return math.inf
    if signal == 0.0:
        return -math.inf
    ratio = signal / error
    return 10.0 * math.log10(ratio) if ratio > 0.0 else math.nan if math.isnan(ratio) else -math.inf


def top1_agreement(reference: Array, candidate: Array) -> float:
    """Fraction of pictures that both put in the same class, 0..1; of equal logits the first class counts.

    reference, candidate: (N, classes). A picture whose candidate holds NaN or infinity never agrees.
    Raises ShapeMismatchError when the shapes differ, InputError without pictures.
    """
    reference, candidate = _paired_logits(reference, candidate)
    return float(_agrees(reference, candidate).mean())


def divergence(reference: Array, candidate: Array) -> float:
    """KL divergence in nats of the candidate's class probabilities from the reference's, mean over pictures; >= 0.

    reference, candidate: logits (N, classes). NaN or infinity in the candidate gives infinity.
    """
    reference, candidate = _paired_logits(reference, candidate)
    if not np.isfinite(candidate).all():
        return math.inf
    wanted, found = _log_probabilities(reference), _log_probabilities(candidate)
    return float((np.exp(wanted) * (wanted - found)).sum(axis=1).mean())


def _log_probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def measure_parity(
    hop: str, reference: Array, candidate: Array, cosine_threshold: float, top1_threshold: float
) -> Parity:
    """Parity of one hop ('fp32 -> int8-static'): passed when both thresholds are reached and every logit is finite.

    reference, candidate: logits (N, classes), same pictures in the same order.
    Raises ShapeMismatchError when the shapes differ; InputError without pictures, or when the reference itself
    holds NaN or infinity, since nothing can be compared with it.
    """
    reference, candidate = _paired_logits(reference, candidate)
    if not np.isfinite(reference).all():
        raise InputError(f"{hop}: the reference's own logits hold NaN or infinity. Check the weights and the pictures.")
    finite = np.isfinite(candidate).all(axis=1)
    mean_cosine = float(_cosines(reference, candidate).mean())
    agreement = float(_agrees(reference, candidate).mean())
    ratio_db = sqnr_db(reference[finite], candidate[finite]) if finite.any() else SQNR_FLOOR_DB
    return Parity(
        hop=hop,
        n=len(reference),
        cosine=mean_cosine,
        max_abs=max_abs(reference[finite], candidate[finite]) if finite.any() else 0.0,
        sqnr_db=None if ratio_db == math.inf else max(ratio_db, SQNR_FLOOR_DB),
        top1_agreement=agreement,
        nonfinite=int((~finite).sum()),
        passed=bool(finite.all()) and mean_cosine >= cosine_threshold and agreement >= top1_threshold,
    )


def describe_parity(parity: Parity) -> str:
    """'fp32 -> int8-static: cosine 0.9731, top-1 agreement 95.3 % on 64 pictures', and what failed it, if known."""
    words = (
        f"{parity.hop}: cosine {parity.cosine:.4f}, top-1 agreement {100 * parity.top1_agreement:.1f} % "
        f"on {_pictures(parity.n)}"
    )
    if parity.nonfinite:
        words += f", NaN or infinity in {parity.nonfinite} of them"
    if parity.first_diverging_layer:
        words += f", first diverging layer: {parity.first_diverging_layer}"
    return words


def _paired(reference: Array, candidate: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reference, candidate = np.asarray(reference), np.asarray(candidate)
    if reference.shape != candidate.shape:
        raise ShapeMismatchError(
            f"Two outputs of shapes {reference.shape} and {candidate.shape} cannot be compared: "
            "both must come from the same pictures and classes."
        )
    if reference.size == 0:
        raise InputError("There is no picture to compare outputs on. Give at least one.")
    return reference.astype(np.float64), candidate.astype(np.float64)


def _paired_logits(reference: Array, candidate: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    paired = _paired(reference, candidate)
    if paired[0].ndim != 2:
        raise ShapeMismatchError(f"Logits must be (pictures, classes), not of shape {paired[0].shape}.")
    return paired


def _cosines(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) cosines; each picture is scaled by its largest value first, so that no square overflows or vanishes."""
    a, b = _unit(reference), _unit(candidate)
    products = (a * b).sum(axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1) & np.isfinite(candidate.reshape(len(candidate), -1)).all(axis=1)
    return np.clip(np.where(both_zero, 1.0, products), -1.0, 1.0)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, values per picture) of length 1; all-zero and non-finite pictures become all zero."""
    flat = values.reshape(len(values), -1)
    flat = np.where(np.isfinite(flat).all(axis=1, keepdims=True), flat, 0.0)
    largest = np.abs(flat).max(axis=1, keepdims=True)
    flat = flat / np.where(largest > 0.0, largest, 1.0)
    length = np.sqrt((flat * flat).sum(axis=1, keepdims=True))
    return flat / np.where(length > 0.0, length, 1.0)


def _error(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, and NaN is the answer
        return reference - candidate


def _power(values: NDArray[np.float64]) -> float:
    return float(np.square(values).mean())


def _agrees(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = reference.argmax(axis=1) == candidate.argmax(axis=1)
    return same & np.isfinite(candidate).all(axis=1)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"
