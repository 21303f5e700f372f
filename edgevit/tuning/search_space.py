"""Search space: what `edgevit tune` varies for one model on one device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec

from edgevit.build import AUTO_CALIBRATORS
from edgevit.device import Device
from edgevit.errors import InputError
from edgevit.policies import INT8_REWRITES, NO_STEM, OF_ONNX_RUNTIME, PAYING_REWRITES, POINTWISE, int8_session
from edgevit.policy import Policy
from edgevit.recipe import SEARCHED_RUNTIMES, RuntimeName
from edgevit.runtimes import RUNTIMES, YIELD_WHEN_IDLE
from edgevit.runtimes.litert import DELEGATE
from edgevit.runtimes.onnxruntime import CPU_ARENA, GRAPH_LEVEL, NO_PREPACKING, PROVIDER, built_providers
from edgevit.search.space import SearchSpace, TokenSpace
from edgevit.tuning.traits import Traits

# The tanh form is off by 0.0005 at most; the piecewise one by 0.065, which few models bear.
APPROXIMATIONS = {"gelu": ("gelu-tanh", "gelu-sigmoid", "gelu-piecewise")}
# Of ONNX Runtime's builds for ARM, where somebody built them in.
OTHER_PROVIDERS = {"XNNPACK": "XnnpackExecutionProvider", "ACL": "ACLExecutionProvider"}
# What makes a runtime's files, besides the runtime itself.
MADE_WITH: dict[RuntimeName, tuple[str, ...]] = {"litert": ("litert_torch", "ai_edge_quantizer")}
KEPT = (0.8, 0.65, 0.5, 0.4, 0.3, 0.2)


def search_space(
    traits: Traits,
    device: Device,
    image_sizes: Sequence[int],
    is_foreign: bool,
    only: RuntimeName | None = None,
    threads: Sequence[int] = (),
) -> SearchSpace:
    """Operators that the model lacks are not searched. image_sizes, threads: to try besides the model's own and the
    device's. Raises as searched_runtimes.
    """
    nodes, every_kind = traits.nodes, Policy().conv_kinds
    kinds = [every_kind, *([NO_STEM, POINTWISE] if len(set(nodes.conv_kinds.values())) > 1 else [])]
    runtimes = searched_runtimes(device, is_foreign, only)
    sizes = (traits.side, *sorted({size for size in image_sizes if size != traits.side}, reverse=True))
    tokens = None
    if traits.blocks > 2:
        tokens = TokenSpace(
            methods=("merge", "prune", "fuse"),
            blocks=traits.blocks,
            tokens={size: max(1, round(traits.patches * (size / traits.side) ** 2)) for size in sizes},
            kept=KEPT,
            starts=(0, 1, 2, 4) if traits.blocks > 6 else (0, 1),
        )
    found = {
        group: tuple(name for name in names if name in traits.approximations) for group, names in APPROXIMATIONS.items()
    }
    return SearchSpace(
        image_sizes=sizes,
        runtimes=runtimes,
        rewrites={runtime: PAYING_REWRITES[runtime] for runtime in runtimes},
        int8_rewrites={runtime: INT8_REWRITES[runtime] for runtime in runtimes},
        left_out=tuple(name for name in PAYING_REWRITES[runtimes[0]] if name in traits.rewrites),
        added=tuple(sorted(traits.more_rewrites)),
        lacking={"litert": OF_ONNX_RUNTIME},
        approximations={group: names for group, names in found.items() if names},
        tokens=tokens,
        input_types=("float32", "uint8"),
        linear=("fp32", "int8-dynamic", "int8-static") if nodes.linear else ("fp32",),
        conv=("fp32", "int8-weights", "int8-static") if nodes.conv else ("fp32",),
        conv_kinds=tuple(kinds),
        attention=("fp32", "int8-static") if nodes.attention else ("fp32",),
        residual=("fp32", "int8-static") if nodes.residual and len(kinds) > 1 else ("fp32",),
        sensitive_nodes=traits.float_first,
        calibrators=tuple(dict.fromkeys((traits.calibrator, *AUTO_CALIBRATORS))),
        smooth_alphas=(None, 0.15, 0.5) if traits.outliers else (None,),
        equalize=(False, True) if traits.has_conv_pairs and nodes.conv else (False,),
        correct_bias=(False, True),
        sessions={} if is_foreign else _sessions(device, max((device.threads, *threads))),
        threads=(None, *threads),
    )


def searched_runtimes(device: Device, is_foreign: bool, only: RuntimeName | None = None) -> tuple[RuntimeName, ...]:
    """Those that the device has and that can be run here; where nothing can be measured, ONNX Runtime alone, whose
    kernels' cost is known. only: this one. Raises InputError when none is left.
    """
    usable = ("onnxruntime",) if is_foreign else tuple(name for name in SEARCHED_RUNTIMES if _is_usable(name, device))
    runtimes = tuple(name for name in usable if only in (None, name))
    if not runtimes:
        why = ": nothing is measured, and what other kernels cost there is not known" if is_foreign else ""
        only_these = f"only {' and '.join(usable)}{why}"
        raise InputError(f"--runtime {only}: cannot be searched for device '{device.name}' here, {only_these}.")
    return runtimes


def thread_counts(device: Device, host_cores: int) -> tuple[int, ...]:
    """To try besides the device's own: 1, 2, 4, … up to all its cores, as far as this machine has them; nearest first.

    More threads than that would be timed while they wait for each other.
    """
    most = min(device.cpu.cores, host_cores)
    counts = {most, *(2**power for power in range(most.bit_length()))} - {device.threads}
    return tuple(sorted(counts, key=lambda count: (abs(math.log2(count / device.threads)), count)))


def _sessions(device: Device, most_threads: int) -> dict[RuntimeName, dict[str, dict[str, str]]]:
    """Named sets of each runtime's entries. A cost model sees no difference between them."""
    found = {
        "default": {},
        "extended": {GRAPH_LEVEL: "extended"},
        "no arena": {CPU_ARENA: "0"},
        "no prepacking": {NO_PREPACKING: "1"},
        **({"no spinning": YIELD_WHEN_IDLE} if most_threads > 1 else {}),
        **{name: {PROVIDER: provider} for name, provider in OTHER_PROVIDERS.items() if provider in built_providers()},
    }
    return {
        "onnxruntime": found,
        "openvino": {"default": int8_session("openvino", device.cpu.isa)},
        "litert": {"default": {}, "no XNNPACK": {DELEGATE: "none"}},
    }


def _is_usable(runtime: RuntimeName, device: Device) -> bool:
    packages = (RUNTIMES[runtime].package, *MADE_WITH.get(runtime, ()))
    return runtime in device.runtimes and all(find_spec(package) is not None for package in packages)
