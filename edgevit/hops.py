"""Hops: whether an artifact still says what the one before it says, and where it begins not to."""

from __future__ import annotations

from edgevit.data.batches import input_batches
from edgevit.export.diverge import first_diverging_layer
from edgevit.results import Parity
from edgevit.verify import measure_parity
from edgevit.workshop import Artifact, Logits, Workshop

RANDOM_COSINE = 0.8


def exact_parity(hop: str, reference: Logits, candidate: Logits, shop: Workshop) -> Parity:
    """Of two that are to say the same but for rounding."""
    least = shop.thresholds
    return measure_parity(hop, reference, candidate, least.exact_cosine, least.exact_top1_agreement)


def approximate_parity(hop: str, reference: Logits, candidate: Logits, shop: Workshop) -> Parity:
    """Of an approximation, such as INT8. Random weights have no classes to agree on, and pass rounding on from layer to
    layer that trained ones would not: only a broken artifact falls below RANDOM_COSINE.
    """
    least = shop.thresholds
    if shop.subject.weights == "random":
        return measure_parity(hop, reference, candidate, RANDOM_COSINE, 0.0)
    return measure_parity(hop, reference, candidate, least.int8_cosine, least.int8_top1_agreement)


def located(hop: Parity, reference: Artifact, candidate: Artifact, threshold_db: float, shop: Workshop) -> Parity:
    """The same parity, with the first diverging layer when it failed."""
    if hop.passed:
        return hop
    pixels = next(input_batches(shop.probes, reference.preprocess, 4))
    layer = first_diverging_layer(reference.path, candidate.path, pixels, threshold_db)
    return hop.model_copy(update={"first_diverging_layer": layer})
