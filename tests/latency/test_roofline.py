"""The roofline's times by hand, and the directions in which they move."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import CORE, LINEAR, MACHINE, ideal, priors, situation, time_ms

from edgevit.latency.coefficients import prior_of
from edgevit.latency.operators import KINDS, PRODUCTS, Kind, Operator
from edgevit.latency.roofline import Roofline, Situation, keys_of

SIZES = st.integers(0, 10**8)


@st.composite
def operators(draw: st.DrawFn) -> Operator:
    kind: Kind = draw(st.sampled_from(KINDS))
    macs = draw(SIZES) if kind in PRODUCTS else 0
    precision = draw(st.sampled_from(["fp32", "fp16", "int8"]))
    return Operator(kind, precision, macs, draw(SIZES), draw(SIZES), draw(st.integers(1, 50)))


situations = st.builds(
    lambda items, threads: situation(*items, threads=threads), st.lists(operators(), min_size=1, max_size=6),
    st.integers(1, 4),
)  # fmt: skip


def usual_ms(item: Situation) -> float:
    return time_ms(item, priors(item))


def test_arithmetic_takes_two_operations_a_multiply_accumulate() -> None:
    item = situation()  # 160 million operations at 16 a cycle and 1 GHz
    assert time_ms(item, ideal(item)) == pytest.approx(10.0)


def test_int8_has_a_peak_of_its_own() -> None:
    item = situation(replace(LINEAR, precision="int8"))
    assert time_ms(item, ideal(item)) == pytest.approx(2.5)


def test_memory_takes_over_where_it_is_slower() -> None:
    item = situation(replace(LINEAR, weights=30_000_000, activations=10_000_000))  # 160 MB at 8 GB/s
    assert time_ms(item, ideal(item)) == pytest.approx(20.0)
    assert time_ms(replace(item, threads=4), ideal(item)) == pytest.approx(20.0)


def test_a_share_of_the_peak_lengthens_arithmetic_and_not_memory() -> None:
    item = situation(replace(LINEAR, weights=3_000_000))  # 1.5 ms of memory
    shares = ideal(item) | {("kind", "linear"): math.log(0.5)}
    assert time_ms(item, shares) == pytest.approx(20.0)


def test_threads_share_what_is_not_serial() -> None:
    item = situation(threads=4)
    half = {key: 0.0 if key[0] == "serial" else value for key, value in ideal(item).items()}  # even odds
    assert time_ms(item, ideal(item)) == pytest.approx(2.5)
    assert time_ms(item, half) == pytest.approx(10 * (0.5 + 0.5 / 4))


def test_each_node_costs_its_overhead_once_a_thread() -> None:
    item = situation(replace(LINEAR, macs=0, weights=0, activations=0, count=5), threads=2)
    cycles = ideal(item) | {("overhead",): math.log(1000.0), ("overhead", "MLAS"): 0.0}
    assert time_ms(item, cycles) == pytest.approx(5 * 2 * 1000 / 1e9 * 1e3)


def test_elements_are_handled_at_the_float_rate_whatever_they_are() -> None:
    item = situation(Operator("elementwise", "int8", 0, 0, activations=16_000_000))  # 1 ms of vectors, 2 of memory
    assert time_ms(item, ideal(item)) == pytest.approx(2.0)


@given(situations, st.integers(1, 10**8))
@settings(max_examples=60, deadline=None)
def test_more_work_never_takes_less_time(item: Situation, more: int) -> None:
    first, *rest = item.operators
    for field in ("weights", "activations", *(["macs"] if first.kind in PRODUCTS else [])):
        larger = replace(first, **{field: getattr(first, field) + more})
        assert usual_ms(replace(item, operators=(larger, *rest))) >= usual_ms(item)


@given(situations, st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_a_faster_clock_and_a_wider_memory_never_take_more_time(item: Situation, times: int) -> None:
    core = CORE.model_copy(update={"clock_mhz": times * CORE.clock_mhz})
    wider = MACHINE.model_copy(update={"bandwidth_gb_s": times * 8.0})
    assert usual_ms(replace(item, machine=MACHINE.model_copy(update={"clusters": (core,)}))) <= usual_ms(item)
    assert usual_ms(replace(item, machine=wider)) <= usual_ms(item)


@given(situations)
@settings(max_examples=40, deadline=None)
def test_more_threads_never_lengthen_the_arithmetic(item: Situation) -> None:
    """Waking them is another matter: small nodes lose by it."""
    free = priors(item) | {("overhead",): -math.inf}
    times = [time_ms(replace(item, threads=threads), free) for threads in (1, 2, 3, 4, 5)]
    assert times == sorted(times, reverse=True)
    assert times[3] == times[4]


@given(st.lists(situations, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_slopes_are_those_of_small_steps(items: list[Situation]) -> None:
    keys = tuple(dict.fromkeys(key for item in items for key in keys_of(item)))
    roofline = Roofline(items, keys)
    # Off the corner where memory and arithmetic take the same time.
    here = np.array([prior_of(key).mean for key in keys]) + np.linspace(0.0, 0.1, len(keys))
    slopes = roofline.slopes(here)
    for index in range(0, len(keys), 3):
        step = np.zeros(len(keys))
        step[index] = 1e-6
        change = np.log(roofline.times_ms(here + step)) - np.log(roofline.times_ms(here - step))
        assert slopes[:, index] == pytest.approx(change / 2e-6, abs=1e-3)


def test_situations_at_once_are_timed_as_they_are_alone() -> None:
    items = [situation(), situation(replace(LINEAR, kind="depthwise"), board="other", runtime="litert", threads=3)]
    keys = tuple(dict.fromkeys(key for item in items for key in keys_of(item)))
    together = Roofline(items, keys).times_ms(np.array([prior_of(key).mean for key in keys]))
    assert list(together) == pytest.approx([usual_ms(item) for item in items])
