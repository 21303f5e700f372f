"""Makers: what an export makes of a model, runtime by runtime. One module and one line of MAKERS each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from edgevit.build import Builder
from edgevit.device import Device
from edgevit.errors import DeviceError, EdgevitError, InputError
from edgevit.policies import FP32
from edgevit.policy import Kind, Policy
from edgevit.recipe import AUTO, RuntimeChoice, RuntimeName
from edgevit.runtimes import BUILT_ON_BOARD, RUNTIMES
from edgevit.workshop import Artifact, Workshop, nothing_made

# Each module has make(shop, runtime, builder) -> Maker. builder: the shop's, which several of its makers may share.
MAKERS: dict[RuntimeName, str] = {
    "onnxruntime": "edgevit.makers.onnx",
    "openvino": "edgevit.makers.onnx",
    "litert": "edgevit.makers.litert",
    "executorch": "edgevit.makers.executorch",
    "tensorrt": "edgevit.makers.tensorrt",
    "torchscript": "edgevit.makers.torchscript",
}


class Maker(Protocol):
    """Makes the artifacts of one model for one runtime. `kind`: of the model, as far as its graph tells."""

    @property
    def kind(self) -> Kind: ...

    @property
    def files(self) -> AbstractSet[Path]:
        """What further artifacts are made of."""

    def build(self, name: str, policy: Policy) -> Artifact:
        """The artifact, with the parity of every hop that led to it; INT8 that fails is one that says why.

        Raises InputError for what the user can mend, EdgevitError when the fp32 artifact cannot be made.
        """

    def usual(self) -> dict[str, Policy]:
        """By name, fp32 first: what an export tries, as far as `spec.precision` and the model have it.

        Asked for once fp32 was built and is sound. Raises InputError for a precision that model or runtime lacks.
        """


def maker_for(runtime: RuntimeName, shop: Workshop, builder: Builder) -> Maker:
    """Raises InputError for what `shop.spec` asks for and the runtime does not have."""
    maker: Maker = importlib.import_module(MAKERS[runtime]).make(shop, runtime, builder)
    return maker


def runtimes_to_try(device: Device, asked: RuntimeChoice, is_foreign: bool) -> tuple[RuntimeName, ...]:
    """The one that is asked for; of 'auto', those that the device has and that are installed here.

    Where nothing can be measured, 'auto' is the first one alone: to compare runtimes takes latencies.
    Raises DeviceError when the device has no such runtime.
    """
    if asked != AUTO:
        require_runtime(device, asked)
        return (asked,)
    made = tuple(name for name in device.runtimes if name in MAKERS)
    if not made:
        raise DeviceError(f"edgevit makes no artifacts yet for what '{device.name}' has: {', '.join(device.runtimes)}.")
    here = tuple(name for name in usable_runtimes(device) if name not in BUILT_ON_BOARD)
    return made[:1] if is_foreign or not here else here


def usable_runtimes(device: Device) -> tuple[RuntimeName, ...]:
    """All that the device has and that are installed here, in its order; engines of the board need nothing here."""
    return tuple(
        name
        for name in device.runtimes
        if name in MAKERS and (name in BUILT_ON_BOARD or find_spec(RUNTIMES[name].package))
    )


def require_runtime(device: Device, runtime: str) -> None:
    if runtime not in device.runtimes:
        raise DeviceError(f"Device '{device.name}' has no {runtime}. It has: {', '.join(device.runtimes)}.")


def build_artifacts(shop: Workshop, runtimes: Sequence[RuntimeName]) -> tuple[tuple[Artifact, ...], Kind]:
    """Of each runtime fp32 first, then what `spec.precision` asks for; and the kind of model.

    The first runtime whose fp32 is sound stands first. What another makes bears its name, as in 'openvino-fp32', and
    where it makes nothing, one artifact says why. An INT8 artifact that cannot be built is there with its reason. fp32
    that fails its parity is alone of its runtime; where no runtime's is sound, the first one's is alone altogether.
    Raises InputError for a precision that the first runtime or the model does not have, EdgevitError when nothing is
    built.
    """
    if len(runtimes) == 1:
        return _of_runtime(runtimes[0], shop)
    made: dict[RuntimeName, tuple[Artifact, ...]] = {}
    kinds: dict[RuntimeName, Kind] = {}
    failures: list[EdgevitError] = []
    for runtime in runtimes:
        own = _own_workshop(shop, runtime)
        try:
            made[runtime], kinds[runtime] = _of_runtime(runtime, own)
        except EdgevitError as error:
            if isinstance(error, InputError) and runtime == runtimes[0]:
                raise
            failures.append(error)
            made[runtime] = (_nothing(runtime, own, error),)
    leading = next((runtime for runtime in runtimes if made[runtime][0].is_sound), None)
    if leading is None:
        broken = next((runtime for runtime in runtimes if runtime in kinds), None)
        if broken is None:
            raise failures[0]
        return made[broken], kinds[broken]
    others = (_named(runtime, made[runtime]) for runtime in runtimes if runtime != leading)
    return sum(others, made[leading]), kinds[leading]


def made_by(runtime: RuntimeName, shop: Workshop) -> tuple[Artifact, ...]:
    """What one runtime makes, in a folder of its own; where it makes nothing, one artifact that says why."""
    own = _own_workshop(shop, runtime)
    try:
        return _of_runtime(runtime, own)[0]
    except EdgevitError as error:
        return (_nothing(runtime, own, error),)


def _own_workshop(shop: Workshop, runtime: RuntimeName) -> Workshop:
    own = replace(shop, folder=shop.folder / runtime)
    own.folder.mkdir()
    return own


def _nothing(runtime: RuntimeName, shop: Workshop, error: EdgevitError) -> Artifact:
    return nothing_made(FP32, Policy(runtime=runtime), shop, str(error))


def _named(runtime: RuntimeName, artifacts: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
    return tuple(replace(each, name=f"{runtime}-{each.name}") for each in artifacts)


def _of_runtime(runtime: RuntimeName, shop: Workshop) -> tuple[tuple[Artifact, ...], Kind]:
    maker = maker_for(runtime, shop, Builder(shop))
    fp32 = maker.build(FP32, Policy(runtime=runtime))
    if not fp32.is_sound:
        return (fp32,), maker.kind
    policies = maker.usual()
    return (fp32, *(maker.build(name, policy) for name, policy in policies.items() if name != FP32)), maker.kind
