"""The maker of .ts files: the torch model traced and frozen, in fp32 or with linear layers in dynamic INT8."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import torch

from edgevit.data.batches import predict_all
from edgevit.errors import EdgevitError, InputError
from edgevit.export.torchscript import export_torchscript, with_dynamic_linear
from edgevit.hops import approximate_parity, exact_parity
from edgevit.policies import DYNAMIC, FP32
from edgevit.policy import Kind, Policy
from edgevit.quantize.nodes import PATCH_EMBEDDING_CONVS
from edgevit.recipe import RuntimeName
from edgevit.train.evaluate import torch_run
from edgevit.workshop import Artifact, Logits, Workshop, nothing_made


class TorchScriptMaker:
    """Traces the torch model itself: no rewrite has a part in it."""

    files: frozenset[Path] = frozenset()

    def __init__(self, shop: Workshop, model: torch.nn.Module) -> None:
        self._shop, self._model = shop, model

    @functools.cached_property
    def kind(self) -> Kind:
        """See Maker; as quantize.nodes.model_kind, by the modules instead of the graph's operators."""
        modules = list(self._model.modules())
        names = {type(module).__name__ for module in modules}
        if not any(part in name for name in names for part in ("LayerNorm", "Attention")):
            return "cnn"
        convs = sum(isinstance(module, torch.nn.Conv2d) for module in modules)
        return "transformer" if convs <= PATCH_EMBEDDING_CONVS else "hybrid"

    def build(self, name: str, policy: Policy) -> Artifact:
        """See Maker."""
        shop = self._shop
        shop.progress.stage("Exporting to TorchScript")
        if policy.precision == FP32:
            fp32 = self._artifact(name, policy, self._model)
            hop = exact_parity("torch -> torchscript", self._logits, shop.logits(fp32, shop.probes), shop)
            return replace(fp32, parity=(hop,))
        try:
            artifact = self._artifact(name, policy, with_dynamic_linear(self._model))
            hop = approximate_parity(f"torch -> {name}", self._logits, shop.logits(artifact, shop.probes), shop)
        except EdgevitError as error:
            return nothing_made(name, policy, shop, str(error))
        return replace(artifact, parity=(hop,), int8={"linear layers": (self._linear, self._linear)})

    def usual(self) -> dict[str, Policy]:
        """See Maker."""
        found = {FP32: Policy(runtime="torchscript")}
        if self._linear:
            found[DYNAMIC] = Policy(runtime="torchscript", linear="int8-dynamic")
        asked = self._shop.spec.precision
        return {name: policy for name, policy in found.items() if asked == "auto" or name in (FP32, asked)}

    @functools.cached_property
    def _logits(self) -> Logits:
        return predict_all(torch_run(self._model), self._shop.probes, self._shop.subject.preprocess)

    @functools.cached_property
    def _linear(self) -> int:
        return sum(type(module) is torch.nn.Linear for module in self._model.modules())

    def _artifact(self, name: str, policy: Policy, model: torch.nn.Module) -> Artifact:
        path: Path = self._shop.folder / f"{name}.ts"
        export_torchscript(model, self._shop.subject.input_shape, path)
        return Artifact(name, policy, path, self._shop.subject.preprocess, session={})


def make(shop: Workshop, runtime: RuntimeName, builder: object) -> TorchScriptMaker:
    if shop.spec.precision not in ("auto", FP32, DYNAMIC):
        raise InputError(
            f"--runtime torchscript runs fp32 and {DYNAMIC}, not {shop.spec.precision}. Leave --precision out."
        )
    if shop.subject.model is None:
        raise InputError(
            f"'{shop.subject.name}' is an ONNX file, and --runtime torchscript needs a checkpoint or a model."
        )
    return TorchScriptMaker(shop, shop.subject.model)
