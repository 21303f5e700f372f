"""Converted: what makers share that convert the rewritten ONNX graph to another runtime's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgevit.build import FORM, Form, exact_part, form_key
from edgevit.data.batches import predict_all
from edgevit.errors import EdgevitError, InputError
from edgevit.hops import approximate_parity, exact_parity
from edgevit.policies import FP32
from edgevit.policy import Policy
from edgevit.recipe import RuntimeName
from edgevit.results import Parity
from edgevit.workshop import Artifact, Logits, Workshop

NAMED_IN_NOTES = 5


def of_onnx(policy: Policy) -> Policy:
    """The same form of the graph, for ONNX Runtime, which proves it before it is converted."""
    return Policy.model_validate({**policy.model_dump(include=FORM), "runtime": "onnxruntime"})


def converted_artifact(policy: Policy, form: Form, path: Path, shop: Workshop) -> tuple[Artifact, Logits]:
    """The form as the fp32 file that was made of it, with the parity of that hop, and its logits on the probes."""
    artifact = replace(form.artifact, policy=policy, path=path, session={}, exported=None)
    logits = shop.logits(artifact, shop.probes)
    hop = conversion_parity(policy.runtime, of_onnx(policy), form.logits, logits, shop)
    return replace(artifact, parity=(*form.artifact.parity, hop)), logits


def quantized_artifact(
    name: str,
    policy: Policy,
    fp32: Artifact,
    reference: Logits,
    quantize: Callable[[Artifact], Artifact],
    shop: Workshop,
) -> Artifact:
    """What Maker.build gives: the policy's artifact of a form's fp32 file, whose logits on the probes are `reference`.

    quantize: writes the file of the artifact that it is given, and says of it what is in INT8.
    """
    artifact = replace(fp32, name=name, policy=policy, session=dict(policy.session))
    if policy.precision == FP32 or not artifact.is_sound:
        return artifact
    shop.progress.stage(f"Quantizing: {name}")
    artifact = replace(artifact, path=shop.folder / f"{name}{fp32.path.suffix}")
    try:
        artifact = quantize(artifact)
        logits = shop.logits(artifact, shop.probes)
    except InputError as error:
        if not artifact.path.exists():  # no picture to calibrate on: it is not this artifact's fault
            raise
        return replace(artifact, failed=str(error), parity=())
    except EdgevitError as error:
        return replace(artifact, failed=str(error), parity=())
    hop = approximate_parity(f"fp32 -> {name}", reference, logits, shop)
    return replace(artifact, parity=(*artifact.parity, hop))


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
