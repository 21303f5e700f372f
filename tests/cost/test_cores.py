"""The table of cores: complete, never cheaper for more work, and chosen by the device's fastest core."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.catalog import list_devices, load_device
from edgevit.cost.cores import KernelCosts, costs_for, load_costs
from edgevit.cost.work import Work

CORES = {costs.name: costs for costs in load_costs()}


@pytest.mark.parametrize("core", CORES.values(), ids=CORES.keys())
def test_more_work_is_never_cheaper(core: object) -> None:
    less = Work("any", macs=1000, inputs=100, outputs=100, pieces=10)
    for kernel, costs in CORES[core.name].kernels.items():  # type: ignore[attr-defined]
        for quantity in ("macs", "inputs", "outputs", "pieces"):
            more = dataclasses.replace(less, **{quantity: 2 * getattr(less, quantity)})
            assert costs.instructions(more) >= costs.instructions(less), (kernel, quantity)
        assert costs.instructions(less) > 0, kernel


def test_a_kernel_costs_what_its_coefficients_say() -> None:
    costs = KernelCosts(per_mac=0.5, per_input=1, per_output=2, per_piece=3, per_call=4)
    assert (
        costs.instructions(Work("any", macs=10, inputs=100, outputs=1000, pieces=10000)) == 5 + 100 + 2000 + 30000 + 4
    )


@pytest.mark.parametrize("core", CORES.values(), ids=CORES.keys())
def test_whole_graphs_that_took_no_part_in_the_fit_are_within_a_tenth(core: object) -> None:
    costs = CORES[core.name]  # type: ignore[attr-defined]
    assert len(costs.whole_graphs) >= 12
    assert costs.relative_error <= 0.1
    for graph in costs.whole_graphs:
        assert abs(graph.estimated_million / graph.counted_million - 1) <= costs.relative_error


def test_a_multiplication_in_int8_is_cheap_only_with_dot_products() -> None:
    # SDOT multiplies 16 pairs an instruction, SMLAL 8 in two steps, FMLA 4.
    a76, a72 = CORES["Cortex-A76"].kernels, CORES["Cortex-A72"].kernels
    int8 = "QLinearMatMul u8s8"
    assert a76[int8].per_mac < a76["MatMul f32"].per_mac / 2
    assert a72[int8].per_mac > 2 * a76[int8].per_mac
    assert a72["MatMul f32"].per_mac == pytest.approx(a76["MatMul f32"].per_mac, rel=0.05)


@pytest.mark.parametrize(
    ("device", "core"),
    [
        ("rpi5", "Cortex-A76"),
        ("jetson-orin-nano", "Cortex-A76"),
        ("rk3588", "Cortex-A76"),
        ("rpi4", "Cortex-A72"),
        ("jetson-nano", "Cortex-A72"),
    ],
)
def test_a_device_takes_the_costs_of_its_fastest_core(device: str, core: str) -> None:
    found = costs_for(load_device(device))
    assert found is not None
    assert found.name == core


def test_nothing_is_known_of_x86() -> None:
    x86 = [name for name in list_devices() if name.startswith("x86-")]
    assert len(x86) >= 2
    assert all(costs_for(load_device(name)) is None for name in x86)
