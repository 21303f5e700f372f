"""What differs between devices when a bundle is assembled: runtimes, requirements, and what can be measured here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from digits_shop import FP32_WINS, Told, device_elsewhere, device_here, known_board

from edgevit.assemble import Assembled
from edgevit.board.sensors import describe_machine
from edgevit.cost.cores import load_costs
from edgevit.errors import DeviceError
from edgevit.runtimes import open_session


def test_requirements_are_pinned_for_the_devices_pythons(assembled: Callable[..., Assembled]) -> None:
    lines = (assembled(device=device_elsewhere()).bundle.path / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines] == ["onnxruntime", "numpy", "pillow"]
    assert all("==" in line for line in lines)


def test_for_another_architecture_the_preset_chooses_and_the_verdict_says_so(
    assembled: Callable[..., Assembled],
) -> None:
    found = assembled(FP32_WINS, precision="auto", device=device_elsewhere())
    assert found.verdict.shipped == "int8-dynamic"  # the preset's order for a transformer
    assert any(sentence.startswith("Not measured on the board") for sentence in found.verdict.sentences)
    assert {c.latency_ms for c in found.candidates} == {None}
    assert found.bundle.manifest.device.measured_on is None
    assert found.bundle.manifest.device.name == "a-board"


def test_a_board_of_this_architecture_is_not_taken_for_this_machine(assembled: Callable[..., Assembled]) -> None:
    board = device_elsewhere(arch=describe_machine()["arch"])
    sentence = f"Latencies were measured on this machine ({describe_machine()['cpu']}), not on A board."
    assert sentence in assembled(device=board).verdict.sentences


def test_a_runtime_that_the_device_lacks_is_refused_before_any_work(assembled: Callable[..., Assembled]) -> None:
    told = Told()
    device = device_here().model_copy(update={"runtimes": ("onnxruntime",)})
    with pytest.raises(DeviceError, match=r"^Device 'local' has no torchscript\. It has: onnxruntime\.$"):
        assembled(runtime="torchscript", device=device, progress=told)
    assert told.stages == []


@pytest.mark.parametrize("is_foreign", [False, True])
def test_torchscript_is_bundled_too(assembled: Callable[..., Assembled], is_foreign: bool) -> None:
    device = device_elsewhere() if is_foreign else device_here()
    found = assembled(precision="auto", runtime="torchscript", device=device)
    runtime = found.bundle.manifest.runtime
    assert (runtime.name, runtime.entry, runtime.version) == ("torchscript", "model.ts", torch.__version__)
    assert open_session(found.bundle.entry, "torchscript", 1).run(np.zeros((1, 1, 32, 32), np.float32)).shape == (1, 10)


def test_for_a_board_of_a_known_core_estimated_instructions_choose_and_the_verdict_says_so(
    assembled: Callable[..., Assembled],
) -> None:
    found = assembled(FP32_WINS, precision="auto", device=known_board())
    cost = {c.name: c.estimate.million_instructions for c in found.candidates if c.estimate}
    assert list(cost) == [c.name for c in found.candidates]
    error = load_costs()[0].relative_error
    is_close = cost["fp32"] <= min(cost.values()) * (1 + error)
    assert found.verdict.shipped == ("fp32" if is_close else min(cost, key=lambda name: cost[name]))
    sentence = f"Not measured on the board: estimated instructions (error up to {error:.0%}) chose, not a latency."
    assert sentence in found.verdict.sentences
    assert {c.latency_ms for c in found.candidates} == {None}
