"""Converted: what makers share that convert the rewritten ONNX graph to another runtime's file."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.build import FORM, exact_part, form_key
from edgevit.data.batches import predict_all
from edgevit.errors import InputError
from edgevit.hops import approximate_parity, exact_parity
from edgevit.policy import Policy
from edgevit.recipe import RuntimeName
from edgevit.results import Parity
from edgevit.workshop import Logits, Workshop

NAMED_IN_NOTES = 5


def of_onnx(policy: Policy) -> Policy:
    """The same form of the graph, for ONNX Runtime, which proves it before it is converted."""
    return Policy.model_validate({**policy.model_dump(include=FORM), "runtime": "onnxruntime"})


def conversion_parity(
    runtime: RuntimeName, policy: Policy, rewritten: Logits, converted: Logits, shop: Workshop
) -> Parity:
    """Of a form's fp32 file with the torch model, or, where that says something else, with the rewritten graph.

    policy: of the rewritten graph. Of two tokens that are alike, rounding decides which one goes.
    """
    subject, hop = shop.subject, f"rewritten -> {runtime}"
    if policy.tokens is not None:
        return approximate_parity(hop, rewritten, converted, shop)
    is_exact = policy.image_size is None and form_key(exact_part(policy)) == form_key(policy)
    if subject.model is None or not is_exact:
        return exact_parity(hop, rewritten, converted, shop)
    from edgevit.train.evaluate import torch_run

    reference = predict_all(torch_run(subject.model), shop.probes, subject.preprocess)
    return exact_parity(f"torch -> {runtime}", reference, converted, shop)


def left_in_float(quantizer: str, nodes: Sequence[str]) -> str:
    """What a quantizer left in float without a word."""
    more = f" and {len(nodes) - NAMED_IN_NOTES} more" if len(nodes) > NAMED_IN_NOTES else ""
    return f"{quantizer} left {', '.join(nodes[:NAMED_IN_NOTES])}{more} in float."


def require_single_pictures(runtime: RuntimeName, shop: Workshop) -> None:
    """Raises InputError where a free batch is asked for."""
    if shop.spec.dynamic_batch:
        raise InputError(f"--runtime {runtime} takes one picture at a time. Leave --dynamic-batch out.")
