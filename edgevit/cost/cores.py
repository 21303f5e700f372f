"""CoreCosts: instructions that ONNX Runtime's kernels take on a core, by kernel; measured on an emulated one."""

from __future__ import annotations

import functools
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from edgevit.cost.work import Work
from edgevit.device import Device
from edgevit.schema import Record
from edgevit.yamlfile import read_yaml

CORES = Path(__file__).with_name("cores.yaml")


class KernelCosts(Record):
    """Instructions per multiply-accumulate, element in, element out, piece (see Work) and call of one kernel."""

    per_mac: NonNegativeFloat = 0.0
    per_input: NonNegativeFloat = 0.0
    per_output: NonNegativeFloat = 0.0
    per_piece: NonNegativeFloat = 0.0
    per_call: NonNegativeFloat = 0.0

    def instructions(self, work: Work) -> float:
        return (
            self.per_mac * work.macs
            + self.per_input * work.inputs
            + self.per_output * work.outputs
            + self.per_piece * work.pieces
            + self.per_call
        )


class Method(Record):
    """What the coefficients were measured with, and how well they fit the `graphs` of one operator that they come from.

    median_error, p90_error: of |estimate / count - 1|.
    """

    runtime: str
    emulator: str
    counter: str
    measured_on: date
    graphs: PositiveInt
    median_error: NonNegativeFloat
    p90_error: NonNegativeFloat


class WholeGraph(Record):
    """A counted model: million instructions per inference.

    Its count took no part in the fit, but the forms that work.py tells apart were chosen with these models in view.
    """

    name: str
    counted_million: PositiveFloat
    estimated_million: PositiveFloat

    @property
    def relative_error(self) -> float:
        return self.estimated_million / self.counted_million - 1.0


class CoreCosts(Record):
    """`name`: the core that was emulated. models: cores, as device profiles write them, that choose the same kernels.

    per_inference: instructions outside all operators. unknown: of kernels without coefficients.
    """

    name: str
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    method: Method
    whole_graphs: tuple[WholeGraph, ...]
    per_inference: NonNegativeFloat
    unknown: KernelCosts
    kernels: dict[str, KernelCosts]

    @property
    def relative_error(self) -> float:
        """The largest error on a whole graph; the 90th percentile of the fit where none was counted."""
        return max((abs(graph.relative_error) for graph in self.whole_graphs), default=self.method.p90_error)

    def instructions(self, work: Work) -> float:
        return self.kernels.get(work.kernel, self.unknown).instructions(work)


class CostTable(Record):
    cores: tuple[CoreCosts, ...]


def costs_for(device: Device) -> CoreCosts | None:
    """The costs of the device's fastest cores; None for a core that nothing is known of, every x86 one included."""
    model = device.cpu.clusters[0].model
    return next((costs for costs in load_costs() if model in costs.models), None)


@functools.cache
def load_costs() -> tuple[CoreCosts, ...]:
    """All cores of cores.yaml, which tests/benchmarks/measure_core_costs.py writes."""
    return read_yaml(CORES, CostTable).cores
