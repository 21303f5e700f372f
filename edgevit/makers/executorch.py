"""The maker of .pte files, for ExecuTorch: the rewritten ONNX graph, quantized as torch and lowered to XNNPACK."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgevit.build import Builder, form_key
from edgevit.data.batches import input_batches
from edgevit.errors import EdgevitError
from edgevit.export.executorch import Int8Nodes, Lowered, export_executorch
from edgevit.makers.converted import (
    converted_artifact,
    left_in_float,
    of_onnx,
    quantized_artifact,
    require_single_pictures,
)
from edgevit.policies import FP32, exact_policy, executorch_policies
from edgevit.policy import Kind, Policy
from edgevit.quantize.apply import OF_THE_GRAPH, Assignment, assign, count_int8
from edgevit.quantize.nodes import QuantizableNodes, quantizable_nodes
from edgevit.recipe import RuntimeName
from edgevit.workshop import Artifact, Logits, Workshop


@dataclass(frozen=True)
class Converted:
    """One form of the graph as an fp32 .pte file. source: its .onnx file; `logits`: its own, on the probes."""

    artifact: Artifact
    source: Path
    logits: Logits
    nodes: QuantizableNodes


class ExecuTorchMaker:
    """Lowers each form of the graph once in fp32, and once for each INT8: there is no INT8 of a .pte file."""

    def __init__(self, shop: Workshop, builder: Builder) -> None:
        self._shop = shop
        self._exact = exact_policy("executorch")
        self._builder = builder
        self._converted: dict[str, Converted] = {}

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
        return executorch_policies(self._convert(self._exact).nodes, self._shop.spec, self._shop.subject.name)

    def _convert(self, policy: Policy) -> Converted:
        """The policy's form in fp32, compared with what it was made of."""
        key = form_key(policy)
        if key not in self._converted:
            shop, form = self._shop, self._builder.form(of_onnx(policy))
            shop.progress.stage("Converting to ExecuTorch")
            source, path = form.artifact.path, form.artifact.path.with_suffix(".pte")
            lowered = export_executorch(source, path, on_second=self._tell)
            artifact, logits = converted_artifact(policy, form, path, shop)
            self._converted[key] = Converted(artifact, source, logits, quantizable_nodes(form.graph))
            if lowered.portable:
                shop.progress.note(_portable(lowered))
        return self._converted[key]

    def _quantized(self, artifact: Artifact, form: Converted) -> Artifact:
        """The artifact once its file is written, with what computes in INT8. Raises EdgevitError, InputError."""
        shop, policy = self._shop, artifact.policy
        refused = [field for field in OF_THE_GRAPH if getattr(policy, field)]
        if refused:
            raise EdgevitError(f"ExecuTorch's INT8 has no {refused[0]}: it is made of a torch graph, not of ONNX.")
        assignment = assign(form.nodes, policy)
        wanted = Int8Nodes((*assignment.static, *assignment.attention), assignment.dynamic, policy.calibrator)
        pictures = input_batches(shop.calibration, artifact.preprocess, 1, policy.input_type)
        lowered = export_executorch(form.source, artifact.path, wanted, pictures, self._tell)
        done = set(lowered.int8)
        computed = Assignment(
            static=tuple(name for name in wanted.static if name in done),
            attention=(),
            dynamic=tuple(name for name in wanted.dynamic if name in done),
            stored=(),
        )
        weighted = {*form.nodes.linear, *form.nodes.conv}
        missing = [name for name in (*wanted.static, *wanted.dynamic) if name in weighted - done]
        if missing:
            remark = left_in_float("XNNPACK's quantizer", missing)
            shop.progress.note(f"{artifact.name}: {remark}")
            artifact = replace(artifact, remarks=(remark,))
        return replace(artifact, int8=count_int8(form.nodes, computed))

    def _tell(self, seconds: int) -> None:
        self._shop.progress.update(seconds, 0)


def make(shop: Workshop, runtime: RuntimeName, builder: Builder) -> ExecuTorchMaker:
    require_single_pictures("executorch", shop)
    return ExecuTorchMaker(shop, builder)


def _portable(lowered: Lowered) -> str:
    named = ", ".join(f"{count} {name}" for name, count in sorted(lowered.portable.items()))
    parts = f"XNNPACK runs {lowered.delegates} parts"
    return f"ExecuTorch: {parts}; between them its own kernels run, in float: {named}."
