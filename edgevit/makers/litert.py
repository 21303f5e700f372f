"""The maker of .tflite files, for LiteRT: the ONNX graph by exact rewrites, converted and quantized."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.build import KEPT_FORMS, Builder, by_best_calibrator, divergences, form_key, used
from edgevit.data.batches import input_batches
from edgevit.errors import EdgevitError
from edgevit.export.litert import export_litert
from edgevit.export.names import fused_names
from edgevit.makers.converted import (
    converted_artifact,
    left_in_float,
    of_onnx,
    quantized_artifact,
    require_single_pictures,
)
from edgevit.policies import FP32, exact_policy, litert_policies
from edgevit.policy import Kind, Policy
from edgevit.quantize.calibrators import Distribution
from edgevit.quantize.litert import observe_tensors, quantize_litert
from edgevit.quantize.tflite import QuantizableOperators, quantizable_operators, read_operators
from edgevit.recipe import RuntimeName
from edgevit.workshop import Artifact, Logits, Workshop

KEPT_CONVERSIONS = 32  # on disk: a search goes through many forms, and each takes a minute or two to convert


@dataclass(frozen=True)
class Converted:
    """One form of the graph as an fp32 .tflite file. `logits`: its own, on the probes."""

    artifact: Artifact
    logits: Logits
    offered: QuantizableOperators


class LiteRtMaker:
    """Converts each form of the graph once; keeps what its tensors hold on the calibration pictures."""

    def __init__(self, shop: Workshop, builder: Builder) -> None:
        self._shop = shop
        self._exact = exact_policy("litert")
        self._builder = builder
        self._converted: dict[str, Converted] = {}
        self._refused: dict[str, EdgevitError] = {}
        self._distributions: dict[str, dict[str, Distribution]] = {}

    @property
    def kind(self) -> Kind:
        return self._builder.kind(of_onnx(self._exact))

    @property
    def files(self) -> set[Path]:
        return self._builder.files | {each.artifact.path for each in self._converted.values()}

    def build(self, name: str, policy: Policy) -> Artifact:
        """See Maker."""
        policy = self._exact if name == FP32 else policy
        form = self._convert(policy)
        return quantized_artifact(
            name, policy, form.artifact, form.logits, lambda artifact: self._quantized(artifact, form), self._shop
        )

    def usual(self) -> dict[str, Policy]:
        """See Maker."""
        spec, nodes = self._shop.spec, self._convert(self._exact).offered.nodes
        return by_best_calibrator(self, litert_policies(nodes, spec, self._shop.subject.name), spec.calibrator)

    def divergences(self, policy: Policy, artifacts: Iterable[Artifact]) -> list[float]:
        """See build.Calibrating."""
        return divergences(self._convert(policy).artifact, artifacts, self._shop)

    def _convert(self, policy: Policy) -> Converted:
        """The policy's form in fp32; one that cannot be converted is not tried again."""
        key = form_key(policy)
        if key in self._refused:
            raise self._refused[key]
        if key not in self._converted:
            try:
                self._converted[key] = self._newly_converted(policy)
            except EdgevitError as error:
                self._refused[key] = error
                raise
        return used(self._converted, key, KEPT_CONVERSIONS)

    def _newly_converted(self, policy: Policy) -> Converted:
        shop, form = self._shop, self._builder.form(of_onnx(policy))
        source = form.artifact.path
        shop.progress.stage("Converting to LiteRT")
        path = export_litert(source, source.with_suffix(".tflite"), lambda done: shop.progress.update(done, 0))
        artifact, logits = converted_artifact(policy, form, path, shop)
        offered = quantizable_operators(read_operators(path), fused_names(form.graph))
        return Converted(artifact, logits, offered)

    def _quantized(self, artifact: Artifact, form: Converted) -> Artifact:
        """The artifact once its file is written, with what computes in INT8. Raises EdgevitError, InputError."""
        policy = artifact.policy
        done = quantize_litert(
            form.artifact.path, artifact.path, form.offered, policy, lambda: self._observed(form, policy)
        )
        left = (left_in_float("LiteRT's quantizer", done.left_in_float),) if done.left_in_float else ()
        for remark in left:
            self._shop.progress.note(f"{artifact.name}: {remark}")
        return replace(artifact, int8=done.int8, remarks=(*left, *done.remarks))

    def _observed(self, form: Converted, policy: Policy) -> Mapping[str, Distribution]:
        shop, key = self._shop, form_key(policy)
        if key not in self._distributions:
            shop.progress.stage("Calibrating")
            total = len(shop.calibration)
            batches = _with_channels_last(
                input_batches(shop.calibration, form.artifact.preprocess, 1, policy.input_type)
            )
            self._distributions[key] = observe_tensors(
                form.artifact.path, form.offered, batches, lambda done: shop.progress.update(done, total)
            )
        return used(self._distributions, key, KEPT_FORMS)


def make(shop: Workshop, runtime: RuntimeName, builder: Builder) -> LiteRtMaker:
    require_single_pictures("litert", shop)
    return LiteRtMaker(shop, builder)


def _with_channels_last(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for pixels in batches:
        is_float = pixels.dtype == np.float32
        yield np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if is_float else pixels  # (1, H, W, C)
