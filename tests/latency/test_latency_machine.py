"""Throughput of cores and threads, by hand."""

from __future__ import annotations

import pytest

from edgevit.catalog import load_device
from edgevit.device import CoreCluster
from edgevit.latency.machine import USUAL_BANDWIDTH_GB_S, MachineFigures, bytes_per_s, capacity, figures_of, peak_per_s

BIG = CoreCluster(model="Big", cores=2, clock_mhz=2000, fp32_flops_per_cycle=16, int8_ops_per_cycle=64)
LITTLE = CoreCluster(model="Little", cores=2, clock_mhz=1000, fp32_flops_per_cycle=8, int8_ops_per_cycle=16)
MACHINE = MachineFigures(clusters=(BIG, LITTLE), bandwidth_gb_s=20)


def test_a_cores_peak_is_its_operations_per_cycle_times_its_clock() -> None:
    assert peak_per_s(BIG, "fp32") == 32e9
    assert peak_per_s(BIG, "int8") == 128e9


def test_a_core_without_fp16_arithmetic_takes_fp32s() -> None:
    assert peak_per_s(BIG, "fp16") == 32e9
    assert peak_per_s(BIG.model_copy(update={"fp16_flops_per_cycle": 32}), "fp16") == 64e9


@pytest.mark.parametrize(
    ("threads", "precision", "worth"),
    [(1, "fp32", 1.0), (2, "fp32", 2.0), (3, "fp32", 2.25), (4, "fp32", 2.5), (9, "fp32", 2.5), (4, "int8", 2.25)],
)
def test_threads_take_the_fastest_cores_first(threads: int, precision: str, worth: float) -> None:
    assert capacity(MACHINE, threads, precision) == worth  # type: ignore[arg-type]


def test_a_board_without_a_figure_has_the_usual_bandwidth() -> None:
    assert bytes_per_s(MACHINE) == 20e9
    assert bytes_per_s(MACHINE.model_copy(update={"bandwidth_gb_s": None})) == USUAL_BANDWIDTH_GB_S * 1e9


def test_a_profiles_figures_are_its_own() -> None:
    figures = figures_of(load_device("rk3588"))
    assert (figures.core, figures.cores, figures.bandwidth_gb_s) == ("Cortex-A76", 8, None)
