"""Machine: the figures of a board that a roofline needs, and what threads on it can reach."""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import Annotated

from pydantic import Field, PositiveFloat

from edgevit.device import CoreCluster, Device
from edgevit.latency.operators import Precision
from edgevit.schema import Record

# Of boards whose profile gives none: a 32-bit LPDDR4 channel, which small boards have.
USUAL_BANDWIDTH_GB_S = 10.0


class MachineFigures(Record):
    """`clusters`: fastest first, as in a device profile."""

    clusters: Annotated[tuple[CoreCluster, ...], Field(min_length=1)]
    bandwidth_gb_s: PositiveFloat | None = None

    @property
    def cores(self) -> int:
        return sum(cluster.cores for cluster in self.clusters)

    @property
    def core(self) -> str:
        """The fastest cores' model."""
        return self.clusters[0].model


def figures_of(device: Device) -> MachineFigures:
    return MachineFigures(clusters=device.cpu.clusters, bandwidth_gb_s=device.memory.bandwidth_gb_s)


def peak_per_s(cluster: CoreCluster, precision: Precision) -> float:
    """Operations per second of one core; a multiply-accumulate is two. A core without fp16 arithmetic takes fp32's."""
    per_cycle = {
        "fp32": cluster.fp32_flops_per_cycle,
        "fp16": cluster.fp16_flops_per_cycle or cluster.fp32_flops_per_cycle,
        "int8": cluster.int8_ops_per_cycle,
    }[precision]
    return per_cycle * cluster.clock_mhz * 1e6


def capacity(machine: MachineFigures, threads: int, precision: Precision) -> float:
    """How many of the fastest cores `threads` threads are worth, the fastest cores first. No more than there are."""
    peaks = chain.from_iterable(repeat(peak_per_s(cluster, precision), cluster.cores) for cluster in machine.clusters)
    return sum(islice(peaks, threads)) / peak_per_s(machine.clusters[0], precision)


def bytes_per_s(machine: MachineFigures) -> float:
    return (machine.bandwidth_gb_s or USUAL_BANDWIDTH_GB_S) * 1e9
