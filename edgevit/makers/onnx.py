"""The maker of .onnx files, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

from pathlib import Path

from edgevit.build import Builder, by_best_calibrator
from edgevit.errors import InputError
from edgevit.policies import FP16, FP32, default_policies, exact_policy
from edgevit.policy import Kind, Policy
from edgevit.recipe import RuntimeName
from edgevit.workshop import Artifact, Workshop


class OnnxMaker:
    """A Builder's artifacts. fp32 is by the exact rewrites that pay on the runtime."""

    def __init__(self, shop: Workshop, runtime: RuntimeName, builder: Builder) -> None:
        self._shop = shop
        self._exact = exact_policy(runtime)
        self._builder = builder

    @property
    def kind(self) -> Kind:
        return self._builder.kind(self._exact)

    @property
    def files(self) -> set[Path]:
        return self._builder.files

    def build(self, name: str, policy: Policy) -> Artifact:
        """See Maker."""
        return self._builder.build(name, self._exact if name == FP32 else policy)

    def usual(self) -> dict[str, Policy]:
        """See Maker."""
        shop = self._shop
        nodes, isa = self._builder.nodes(self._exact), shop.device.cpu.isa
        policies = default_policies(nodes, self._exact.runtime, shop.spec, shop.subject.name, isa)
        return by_best_calibrator(self._builder, policies, shop.spec.calibrator)


def make(shop: Workshop, runtime: RuntimeName, builder: Builder) -> OnnxMaker:
    """Raises InputError for fp16, which CPUs run no faster."""
    if shop.spec.precision == FP16:
        raise InputError(f"--precision {FP16} is for --runtime tensorrt, not {runtime}. Leave --precision out.")
    return OnnxMaker(shop, runtime, builder)
