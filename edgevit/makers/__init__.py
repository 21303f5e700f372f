"""Makers: what an export makes of a model, runtime by runtime. One module and one line of MAKERS each."""

from __future__ import annotations

import importlib
from typing import Protocol

from edgevit.policies import FP32
from edgevit.policy import Kind, Policy
from edgevit.recipe import RuntimeName
from edgevit.workshop import Artifact, Workshop

# Each module has make(shop, runtime) -> Maker.
MAKERS: dict[RuntimeName, str] = {
    "onnxruntime": "edgevit.makers.onnx",
    "openvino": "edgevit.makers.onnx",
    "litert": "edgevit.makers.litert",
    "torchscript": "edgevit.makers.torchscript",
}


class Maker(Protocol):
    """Makes the artifacts of one model for one runtime. `kind`: of the model, as far as its graph tells."""

    @property
    def kind(self) -> Kind: ...

    def build(self, name: str, policy: Policy) -> Artifact:
        """The artifact, with the parity of every hop that led to it; INT8 that fails is one that says why.

        Raises InputError for what the user can mend, EdgevitError when the fp32 artifact cannot be made.
        """

    def usual(self) -> dict[str, Policy]:
        """By name, fp32 first: what an export tries, as far as `spec.precision` and the model have it.

        Asked for once fp32 was built and is sound. Raises InputError for a precision that model or runtime lacks.
        """


def maker_for(runtime: RuntimeName, shop: Workshop) -> Maker:
    maker: Maker = importlib.import_module(MAKERS[runtime]).make(shop, runtime)
    return maker


def build_artifacts(shop: Workshop) -> tuple[tuple[Artifact, ...], Kind]:
    """fp32 first, then what `spec.precision` asks for, and the kind of model; fp32 that fails its parity is alone.

    An INT8 artifact that cannot be built is there with its reason.
    Raises InputError for a precision that the runtime or the model does not have, EdgevitError when nothing is built.
    """
    maker = maker_for(shop.spec.runtime, shop)
    fp32 = maker.build(FP32, Policy(runtime=shop.spec.runtime))
    if not fp32.is_sound:
        return (fp32,), maker.kind
    policies = maker.usual()
    return (fp32, *(maker.build(name, policy) for name, policy in policies.items() if name != FP32)), maker.kind
