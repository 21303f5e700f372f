"""The maker of .onnx files for TensorRT, whose engines are built on the board: fp32, fp16 and INT8 by explicit Q/DQ.

What is verified here is the .onnx itself, by ONNX Runtime on the CPU, and that TensorRT's rules take it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from edgevit.build import Builder, best_calibrated
from edgevit.errors import InputError
from edgevit.export.diverge import INT8_THRESHOLD_DB
from edgevit.export.onnx import write_onnx
from edgevit.hops import approximate_parity, located
from edgevit.policies import FP16, FP32, STATIC, exact_policy
from edgevit.policy import Kind, Policy
from edgevit.recipe import RuntimeName
from edgevit.tensorrt.check import require_sound
from edgevit.tensorrt.half import float32_layers, in_half
from edgevit.tensorrt.rules import RuleError
from edgevit.tensorrt.support import Support, versions_of
from edgevit.workshop import Artifact, Workshop

PRECISIONS = ("auto", FP32, FP16, STATIC)
# Entries of a bundle's runtime.session; board.engines reads them.
PRECISION_ENTRY, FLOAT32_ENTRY = "tensorrt.precision", "tensorrt.float32_layers"


class TensorRtMaker:
    """A Builder's artifacts, each held to the rules of every TensorRT version that the device may have."""

    def __init__(self, shop: Workshop, versions: tuple[Support, ...], builder: Builder) -> None:
        self._shop = shop
        self._versions = versions
        self._builder = builder
        rewrites = exact_policy("tensorrt").rewrites
        if any("LayerNormalization" not in version.operators for version in versions):
            rewrites = (*(name for name in rewrites if name != "layer-norm"), "norm-parts")
        self._exact = Policy(rewrites=rewrites, runtime="tensorrt")

    @property
    def kind(self) -> Kind:
        return self._builder.kind(Policy(runtime="tensorrt"))  # before norms are written out

    @property
    def files(self) -> set[Path]:
        return self._builder.files

    def build(self, name: str, policy: Policy) -> Artifact:
        """See Maker. One that breaks a rule has failed, with the rule and its source."""
        policy = self._exact if name == FP32 else policy
        # the Builder knows no fp16, which is the engine's and not the graph's
        built = self._builder.build(name, policy.model_copy(update={"float_type": FP32}))
        artifact = replace(built, policy=policy)
        if artifact.failed:
            return artifact
        graph = onnx.load(str(artifact.path))
        has_float16 = policy.float_type == FP16
        artifact = replace(artifact, session={**artifact.session, **_session(policy, graph)})
        try:
            require_sound(graph, self._versions, has_float16)
            return self._halved(artifact, graph) if policy.precision == FP16 else artifact
        except RuleError as error:
            return replace(artifact, failed=str(error), parity=())

    def usual(self) -> dict[str, Policy]:
        """See Maker. fp16 stands beside INT8, which is often no faster; INT8 with the calibrator that suits it."""
        shop, asked = self._shop, self._shop.spec.precision
        half = self._exact.model_copy(update={"float_type": FP16})
        found = {FP32: self._exact}
        if asked != FP32:
            found[FP16] = half
        if asked not in ("auto", STATIC):
            return found
        nodes = self._builder.nodes(self._exact)
        if not nodes.linear and not nodes.conv:
            if asked == STATIC:
                raise InputError(f"'{shop.subject.name}' has no linear layers or convolutions for INT8. Take fp16.")
            return found
        int8 = Policy.model_validate({
            **half.model_dump(),
            "linear": STATIC if nodes.linear else FP32,
            "conv": STATIC if nodes.conv else FP32,
            "calibrator": "minmax" if shop.spec.calibrator == "auto" else shop.spec.calibrator,
        })  # fmt: skip
        if shop.spec.calibrator == "auto":
            int8 = best_calibrated(self._builder, STATIC, int8).policy
        return {**found, STATIC: int8}

    def _halved(self, artifact: Artifact, graph: onnx.ModelProto) -> Artifact:
        """The same file, judged by a stand-in that rounds to float16; the engine does that on the board."""
        shop = self._shop
        stand_in = write_onnx(in_half(graph), shop.folder / f"{artifact.name}-stand-in.onnx")
        candidate = replace(artifact, path=stand_in)
        reference, logits = (shop.logits(each, shop.probes) for each in (artifact, candidate))
        hop = approximate_parity(f"fp32 -> {FP16}", reference, logits, shop)
        hop = located(hop, artifact, candidate, INT8_THRESHOLD_DB, shop)
        return replace(artifact, stand_in=stand_in, parity=(*artifact.parity, hop))


def make(shop: Workshop, runtime: RuntimeName, builder: Builder) -> TensorRtMaker:
    """Raises InputError for a precision or a batch that TensorRT's engines do not have here, DeviceError for a device
    without a TensorRT that is known.
    """
    spec = shop.spec
    if spec.precision not in PRECISIONS:
        known = f"{FP32}, {FP16} and {STATIC}"
        raise InputError(f"--runtime tensorrt runs {known}, not {spec.precision}. Leave --precision out.")
    if spec.dynamic_batch:
        raise InputError("--dynamic-batch does not go with --runtime tensorrt: its engine is built for one size.")
    versions = versions_of(shop.device)
    newest = min(version.opset for version in versions)
    if spec.opset > newest:
        names = " and ".join(version.version for version in versions)
        shop.progress.note(f"Exporting with opset {newest}, the newest that TensorRT {names} reads.")
        shop = replace(shop, spec=spec.model_copy(update={"opset": newest}))
        builder = Builder(shop)
    return TensorRtMaker(shop, versions, builder)


def _session(policy: Policy, graph: onnx.ModelProto) -> dict[str, str]:
    """What the board builds the engine with."""
    precision = "int8" if policy.precision == STATIC else policy.precision
    layers = float32_layers(graph) if policy.float_type == FP16 else ()
    return {PRECISION_ENTRY: precision, **({FLOAT32_ENTRY: ",".join(layers)} if layers else {})}
