from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from profiles import kernel, model_run

from edgevit.board.sensors import describe_machine
from edgevit.bundle import load_bundle
from edgevit.profiling.document import Profile
from edgevit.profiling.gemm import KINDS, SIDES
from edgevit.profiling.summary import MachineState, Measured, compare_profiles, profile_of

MakeBundle = Callable[..., Path]
HERE = describe_machine()
CALM = {"at": "before", "load_1min": 0.0, "throttled": None, "throttle_flags": []}
TARGET = {"name": "board", "arch": HERE["arch"], "threads": 1, "measured_on": None}


def profile(root: Path, kernels: dict[str, tuple[str, int]], **changes: Any) -> Profile:
    """Of one run of 1 ms. kernels: operator and µs by name; their (1, 2) by (2, 3) products make 6 MACs."""
    events, start = [model_run(0, 1000)], 0
    for index, (name, (op_type, us)) in enumerate(kernels.items()):
        events.append(kernel(name, op_type, start, us, index))
        start += us
    fields: dict[str, Any] = {
        "threads": 1, "version": "9.9", "warmup_runs": 4, "plain_ms": 1.0, "profiled_ms": 1.05, "events": events,
        "is_counted": (True,), "gemm_ms": {f"{kind}-{side}": 0.001 for kind in KINDS for side in SIDES},
        "executed": onnx.load(str(root / "model.onnx")), "is_steady": True, "waited_share": 0.0,
        "machine": MachineState([CALM], (None, None)),
    }  # fmt: skip
    return profile_of(load_bundle(root), Measured(**{**fields, **changes}))


def test_the_notes_say_what_the_profiler_adds_and_what_is_outside_of_operators(make_bundle: MakeBundle) -> None:
    found = profile(make_bundle(device=TARGET), {"a": ("Add", 900)})
    assert found.notes == (
        "Profiling itself adds 5.0 % to a run (1.05 ms with it, in turns).",
        "A profiled run spends 0.10 ms outside of operators.",
    )


def test_a_profiler_without_a_cost_is_said_to_have_none(make_bundle: MakeBundle) -> None:
    found = profile(make_bundle(device=TARGET), {"a": ("Add", 900)}, profiled_ms=0.99)
    assert found.notes[0] == "Profiling itself adds nothing that is measurable."


def test_a_run_longer_than_its_parts_was_disturbed(make_bundle: MakeBundle) -> None:
    found = profile(make_bundle(device=TARGET), {"a": ("Add", 900)}, plain_ms=3.0, profiled_ms=3.3)
    assert found.notes[-1] == (
        "A run takes 3.00 ms, and its parts' medians add up to 1.00 ms: other work disturbed this measurement."
    )


def test_a_peak_below_what_an_operator_reaches_was_disturbed(make_bundle: MakeBundle) -> None:
    # 6 MACs in 1 µs are 0.006 GMAC/s; 1024^3 in 1 000 000 ms are 0.001
    slow = {f"{kind}-{side}": 1e6 for kind in KINDS for side in SIDES}
    found = profile(make_bundle(device=TARGET), {"a": ("MatMul", 1), "b": ("Add", 900)}, gemm_ms=slow)
    assert "An operator is faster than the peak" in found.notes[-1]


def test_a_core_that_other_work_had_meanwhile_was_disturbed(make_bundle: MakeBundle) -> None:
    root, kernels = make_bundle(device=TARGET), {"a": ("Add", 900)}
    assert profile(root, kernels, waited_share=0.354).notes[-1] == (
        "For 35 % of the time other work had the core that the model was to run on: these times are too long. "
        "Measure again on a machine at rest."
    )
    assert len(profile(root, kernels, waited_share=0.1).notes) == 2


def test_a_machine_that_is_busy_before_the_run_is_told(make_bundle: MakeBundle) -> None:
    root, half = make_bundle(device=TARGET), HERE["cores"] / 2

    def notes(load: float | None) -> tuple[str, ...]:
        state = MachineState([{**CALM, "load_1min": load}], (None, None))
        return profile(root, {"a": ("Add", 900)}, machine=state).notes

    assert notes(half + 0.3)[-1] == (
        f"The load was {half + 0.3:.1f} on {HERE['cores']} cores before the run: other work may have slowed it."
    )
    assert len(notes(half)) == len(notes(None)) == 2


def test_throttling_and_a_warm_up_without_rest_are_told(make_bundle: MakeBundle) -> None:
    hot = {**CALM, "at": "after", "throttled": True, "throttle_flags": ["under-voltage"]}
    state = MachineState([CALM, hot], (4, 5))
    found = profile(make_bundle(device=TARGET), {"a": ("Add", 900)}, machine=state, is_steady=False)
    assert found.notes[2:] == (
        "The CPU was throttled after the run (under-voltage): use the board's own power supply and a short cable "
        "(Pi 5: 27 W, Pi 4: 15 W).",
        "The CPU throttled 1 times during the run (the machine's counter): let it cool down, add a heat sink or a fan, "
        "and measure again.",
        "The latency had not come to rest after 4 warm-up runs.",
    )


def test_hidden_quantization_is_told(make_bundle: MakeBundle) -> None:
    found = profile(make_bundle(device=TARGET), {"a": ("DynamicQuantizeMatMul", 900)})
    assert any(note.startswith("DynamicQuantizeMatMul quantizes its input itself") for note in found.notes)


def test_a_bundle_for_another_machine_is_told_so(make_bundle: MakeBundle) -> None:
    found = profile(make_bundle(device={**TARGET, "arch": "riscv64"}), {"a": ("Add", 900)}, threads=4096)
    assert found.notes[-2:] == (
        f"Measured on {HERE['cpu']} ({HERE['arch']}), not on board (riscv64).",
        f"4096 threads share {HERE['cores']} cores.",
    )


def test_two_profiles_differ_by_part_and_layer_most_first(make_bundle: MakeBundle) -> None:
    root = make_bundle(device=TARGET)
    before = profile(root, {"a": ("Add", 100), "s": ("Softmax", 500), "t": ("Transpose", 20)})
    after = profile(root, {"a": ("Add", 110), "m": ("Mul", 5), "s": ("Softmax", 200), "q": ("QuantizeLinear", 30)})
    found = compare_profiles(before, after)
    assert [(change.name, change.before_ms, change.after_ms) for change in found.parts] == [
        ("softmax", 0.5, 0.2),
        ("quantize, dequantize, cast", 0.0, 0.03),
        ("layout", 0.02, 0.0),
        ("elementwise", 0.1, pytest.approx(0.115)),
    ]
    assert [change.difference_ms for change in found.parts] == pytest.approx([-0.3, 0.03, -0.02, 0.015])
    (unknown,) = found.modules
    assert (unknown.name, unknown.difference_ms) == ("(not known)", pytest.approx(-0.275))
    assert (found.before, found.after) == (before, after)
