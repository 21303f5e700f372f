"""Build: artifacts by policies, each with the parity of every hop that led to it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import TensorsData

from edgevit.board.preprocess import Preprocess
from edgevit.data.batches import input_batches, predict_all
from edgevit.errors import EdgevitError, InputError
from edgevit.export.diverge import EXACT_THRESHOLD_DB, INT8_THRESHOLD_DB
from edgevit.export.onnx import checked, export_onnx, write_onnx
from edgevit.hops import approximate_parity, exact_parity, located
from edgevit.policies import FP32
from edgevit.policy import Kind, Policy
from edgevit.quantize.apply import Calibration, QuantizedGraph, quantize
from edgevit.quantize.calibration import observe_activations, ranges_by
from edgevit.quantize.calibrators import Distribution
from edgevit.quantize.nodes import QuantizableNodes, model_kind, quantizable_nodes
from edgevit.recipe import Calibrator
from edgevit.results import Parity
from edgevit.rewrite import EXACT
from edgevit.rewrite.form import reformed
from edgevit.rewrite.uint8_input import take_uint8_pixels
from edgevit.verify import divergence
from edgevit.workshop import Artifact, Logits, Workshop

FORM = {"image_size", "rewrites", "tokens", "input_type", "runtime"}
KEPT_FORMS = 6  # in memory; a search goes through many, of 20 MB each, and as much again for its activations
AUTO_CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "mse")

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Form:
    """The fp32 graph in one form: a size, rewrites, tokens. `logits`: its own, on the probes."""

    graph: onnx.ModelProto
    artifact: Artifact
    logits: Logits


class Calibrating(Protocol):
    """What builds artifacts by policies and can say how far they are from their fp32 form."""

    def build(self, name: str, policy: Policy) -> Artifact: ...

    def divergences(self, policy: Policy, artifacts: Iterable[Artifact]) -> list[float]:
        """Of each one's class probabilities from those of the policy's fp32 form, on the calibration pictures, in nats.

        They need no labels; infinite for an artifact that failed.
        """


def by_best_calibrator(builder: Calibrating, policies: dict[str, Policy], asked: str) -> dict[str, Policy]:
    """The policies, with the calibrator that suits the first of them that needs one, unless another is asked for."""
    calibrated = [name for name, policy in policies.items() if policy.needs_calibration]
    if asked != "auto" or not calibrated:
        return policies
    best = best_calibrated(builder, calibrated[0], policies[calibrated[0]]).policy.calibrator
    return {**policies, **{name: by_calibrator(policies[name], best) for name in calibrated}}


def best_calibrated(builder: Calibrating, name: str, policy: Policy) -> Artifact:
    """The policy's artifact by the calibrator that keeps it nearest to its fp32 form; others are built beside it.

    No calibrator is best for all: a few outliers among a hybrid's activations take the steps of min-max ranges away
    from all other values, and a transformer's outliers carry what it says.
    """
    tried = [builder.build(f"{name}-{by}", by_calibrator(policy, by)) for by in AUTO_CALIBRATORS]
    found = builder.divergences(policy, tried)
    return tried[found.index(min(found))]


def divergences(reference: Artifact, artifacts: Iterable[Artifact], shop: Workshop) -> list[float]:
    """Of each one's class probabilities from the reference's, as in Calibrating."""
    logits = shop.logits(reference, shop.calibration)
    return [
        math.inf if artifact.failed else divergence(logits, shop.logits(artifact, shop.calibration))
        for artifact in artifacts
    ]


def by_calibrator(policy: Policy, calibrator: Calibrator) -> Policy:
    return policy.model_copy(update={"calibrator": calibrator})


class Builder:
    """Builds one artifact after the other; keeps what they share: exported and rewritten graphs, calibrated ranges."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._exported: dict[int | None, Form] = {}
        self._forms: dict[str, Form] = {}
        self._made = 0
        self._distributions: dict[str, dict[str, Distribution]] = {}

    @property
    def files(self) -> set[Path]:
        """Of the forms that it has in memory."""
        return {form.artifact.path for form in (*self._exported.values(), *self._forms.values())}

    def nodes(self, policy: Policy) -> QuantizableNodes:
        """What INT8 is offered to in the policy's form of the graph."""
        return quantizable_nodes(self.form(policy).graph)

    def kind(self, policy: Policy) -> Kind:
        return model_kind(self.form(policy).graph)

    def build(self, name: str, policy: Policy) -> Artifact:
        """The artifact, or, when INT8 fails, one that says why.

        Raises InputError for what the user can mend, EdgevitError when the fp32 graph cannot be made.
        """
        shop, form = self._shop, self.form(policy)
        artifact = replace(form.artifact, name=name, policy=policy, session=dict(policy.session))
        if policy.precision == FP32 or not artifact.is_sound:
            return artifact
        shop.progress.stage(f"Quantizing: {name}")
        artifact = replace(artifact, path=shop.folder / f"{name}.onnx")
        try:
            quantized = self._quantized(policy)
            write_onnx(quantized.graph, artifact.path)
            session = {**quantized.session, **policy.session}
            artifact = replace(artifact, session=session, int8=quantized.int8)
        except InputError:  # no picture to calibrate on, or no place to write to: it is not this artifact's fault
            raise
        except EdgevitError as error:
            return replace(artifact, failed=str(error), parity=())
        try:
            logits = shop.logits(artifact, shop.probes)
        except EdgevitError as error:  # a file that the runtime does not take is an InputError elsewhere
            return replace(artifact, failed=str(error), parity=())
        hop = approximate_parity(f"fp32 -> {name}", form.logits, logits, shop)
        return replace(
            artifact, parity=(*artifact.parity, located(hop, form.artifact, artifact, INT8_THRESHOLD_DB, shop))
        )

    def quantized(self, policy: Policy) -> onnx.ModelProto:
        """The policy's graph alone: neither written nor checked. Raises EdgevitError."""
        return self._quantized(policy).graph

    def divergences(self, policy: Policy, artifacts: Iterable[Artifact]) -> list[float]:
        """See Calibrating."""
        return divergences(self.form(policy).artifact, artifacts, self._shop)

    def _quantized(self, policy: Policy) -> QuantizedGraph:
        preset = self._shop.device.quantization
        return quantize(self.form(policy).graph, policy, preset, self.calibration(policy))

    def form(self, policy: Policy) -> Form:
        key = form_key(policy)
        if key not in self._forms:
            exported, exact = self.exported(policy), exact_part(policy)
            reference = exported if form_key(exact) == key else self.form(exact)
            self._shop.progress.stage("Rewriting")
            self._made += 1
            self._forms[key] = _rewritten(exported, reference, policy, f"form-{self._made}", self._shop)
        return used(self._forms, key, KEPT_FORMS)

    def exported(self, policy: Policy) -> Form:
        if policy.image_size not in self._exported:
            self._shop.progress.stage("Exporting to ONNX")
            self._exported[policy.image_size] = _exported(policy, self._shop)
        return self._exported[policy.image_size]

    def calibration(self, policy: Policy) -> Calibration:
        """A graph is run on the pictures once for all tensors that INT8 is offered to, whatever calibrates them."""
        shop, preprocess = self._shop, self.form(policy).artifact.preprocess

        def batches() -> Iterator[NDArray[np.float32]]:
            return input_batches(shop.calibration, preprocess, 1, policy.input_type)

        def ranges(graph: onnx.ModelProto) -> TensorsData:
            key = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
            if key not in self._distributions:
                shop.progress.stage("Calibrating")
                self._distributions[key] = observe_activations(
                    graph,
                    batches(),
                    quantizable_nodes(graph).all,
                    lambda done: shop.progress.update(done, len(shop.calibration)),
                )
            distributions = used(self._distributions, key, KEPT_FORMS)
            return ranges_by(policy.calibrator, distributions)

        return Calibration(batches, ranges)


def used(kept: dict[str, Kept], key: str, most: int) -> Kept:
    """What lies under the key; of all, the `most` that were used last are kept."""
    kept[key] = kept.pop(key)
    while len(kept) > most:
        kept.pop(next(iter(kept)))
    return kept[key]


def form_key(policy: Policy) -> str:
    """Equal for policies that have one form of the graph."""
    return policy.model_dump_json(include=FORM)


def exact_part(policy: Policy) -> Policy:
    """What of the policy's form computes the same as the exported graph."""
    rewrites = tuple(name for name in policy.rewrites if name in EXACT)
    return Policy(image_size=policy.image_size, rewrites=rewrites, runtime=policy.runtime)


def _exported(policy: Policy, shop: Workshop) -> Form:
    """The graph as the exporter leaves it, or as it was given, and whether it says what torch says."""
    subject = shop.subject if policy.image_size is None else shop.subject.resized(policy.image_size)
    name = f"exported-{subject.preprocess.height}"
    hops: tuple[Parity, ...] = ()
    if subject.graph is not None:
        graph, torch_logits = subject.graph, None
    else:
        from edgevit.train.evaluate import torch_run

        assert subject.model is not None
        torch_logits = predict_all(torch_run(subject.model), shop.probes, subject.preprocess)
        asked = subject.input_shape, shop.spec.opset, shop.spec.dynamic_batch
        if asked not in shop.exports:
            shop.exports[asked] = export_onnx(subject.model, *asked)
        graph = shop.exports[asked]
    artifact = _fp32_artifact(name, graph, subject.preprocess, policy, shop)
    logits = shop.logits(artifact, shop.probes)
    if torch_logits is not None:
        hops = (exact_parity("torch -> onnx", torch_logits, logits, shop),)
    return Form(graph, replace(artifact, parity=hops), logits)


def _rewritten(exported: Form, reference: Form, policy: Policy, name: str, shop: Workshop) -> Form:
    """The exported graph by the policy's rewrites, tokens and input, compared with `reference`.

    Exact rewrites are held to the export by the exact thresholds. Approximations, fewer tokens and another input are
    compared with the exact form, and accuracy judges them later.
    """
    preprocess = exported.artifact.preprocess
    graph, applied = reformed(exported.graph, policy)
    if policy.input_type == "uint8":
        graph = take_uint8_pixels(graph, preprocess.mean, preprocess.std)
    graph = checked(graph)
    artifact = _fp32_artifact(name, graph, preprocess, policy, shop)
    logits = shop.logits(artifact, shop.probes)
    if reference is exported:
        hop = exact_parity("onnx -> rewritten", exported.logits, logits, shop)
        hop = located(hop, exported.artifact, artifact, EXACT_THRESHOLD_DB, shop)
    else:
        hop = approximate_parity("rewritten -> approximated", reference.logits, logits, shop)
    parity = (*reference.artifact.parity, hop)
    return Form(graph, replace(artifact, parity=parity, rewrites=applied, exported=exported.artifact.path), logits)


def _fp32_artifact(
    name: str, graph: onnx.ModelProto, preprocess: Preprocess, policy: Policy, shop: Workshop
) -> Artifact:
    path = write_onnx(graph, shop.folder / f"{name}.onnx")
    return Artifact(name, Policy(runtime=policy.runtime), path, preprocess, session={})
