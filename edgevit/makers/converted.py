"""Converted: what makers share that convert the rewritten ONNX graph to another runtime's file."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.build import FORM
from edgevit.data.batches import predict_all
from edgevit.errors import InputError
from edgevit.hops import exact_parity
from edgevit.policy import Policy
from edgevit.recipe import RuntimeName
from edgevit.results import Parity
from edgevit.workshop import Logits, Workshop

NAMED_IN_NOTES = 5


def of_onnx(policy: Policy) -> Policy:
    """The same form of the graph, for ONNX Runtime, which proves it before it is converted."""
    return Policy.model_validate({**policy.model_dump(include=FORM), "runtime": "onnxruntime"})


def conversion_parity(runtime: RuntimeName, rewritten: Logits, converted: Logits, shop: Workshop) -> Parity:
    """Of the fp32 file with the torch model, or with the rewritten graph where the subject is an .onnx file."""
    subject = shop.subject
    if subject.model is None:
        return exact_parity(f"rewritten -> {runtime}", rewritten, converted, shop)
    from edgevit.train.evaluate import torch_run

    reference = predict_all(torch_run(subject.model), shop.probes, subject.preprocess)
    return exact_parity(f"torch -> {runtime}", reference, converted, shop)


def left_in_float(name: str, quantizer: str, nodes: Sequence[str]) -> str:
    """A note of the nodes that a quantizer left in float without a word."""
    more = f" and {len(nodes) - NAMED_IN_NOTES} more" if len(nodes) > NAMED_IN_NOTES else ""
    return f"{name}: {quantizer} left {', '.join(nodes[:NAMED_IN_NOTES])}{more} in float."


def require_single_pictures(runtime: RuntimeName, shop: Workshop) -> None:
    """Raises InputError where a free batch is asked for."""
    if shop.spec.dynamic_batch:
        raise InputError(f"--runtime {runtime} takes one picture at a time. Leave --dynamic-batch out.")
