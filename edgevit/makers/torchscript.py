"""The maker of .ts files: the torch model traced and frozen, in fp32."""

from __future__ import annotations

from dataclasses import replace

from edgevit.data.batches import predict_all
from edgevit.errors import InputError
from edgevit.export.torchscript import export_torchscript
from edgevit.hops import exact_parity
from edgevit.policies import FP32
from edgevit.policy import Kind, Policy
from edgevit.recipe import RuntimeName
from edgevit.train.evaluate import torch_run
from edgevit.workshop import Artifact, Workshop


class TorchScriptMaker:
    kind: Kind = "transformer"

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def build(self, name: str, policy: Policy) -> Artifact:
        """See Maker."""
        shop, subject = self._shop, self._shop.subject
        if subject.model is None:
            raise InputError(
                f"'{subject.name}' is an ONNX file, and --runtime torchscript needs a checkpoint or a model."
            )
        path = shop.folder / f"{name}.ts"
        shop.progress.stage("Exporting to TorchScript")
        export_torchscript(subject.model, subject.input_shape, path)
        artifact = Artifact(name, policy, path, subject.preprocess, session={})
        reference = predict_all(torch_run(subject.model), shop.probes, subject.preprocess)
        hop = exact_parity("torch -> torchscript", reference, shop.logits(artifact, shop.probes), shop)
        return replace(artifact, parity=(hop,))

    def usual(self) -> dict[str, Policy]:
        """See Maker."""
        return {FP32: Policy(runtime="torchscript")}


def make(shop: Workshop, runtime: RuntimeName) -> TorchScriptMaker:
    if shop.spec.precision not in ("auto", FP32):
        raise InputError(f"--runtime torchscript runs fp32 only, not {shop.spec.precision}. Leave --precision out.")
    return TorchScriptMaker(shop)
