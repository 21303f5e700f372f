from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import model_of
from onnx import helper
from onnxruntime.quantization import CalibrationMethod, TensorsData
from onnxruntime.quantization.calibrate import TensorData

from edgevit.quantize.silu_ranges import with_silu_ranges


def silu_model(extra_reader: bool = False) -> onnx.ModelProto:
    """'x' = 2·input; 'y' = x·sigmoid(x)."""
    nodes = [
        helper.make_node("Mul", ["input", "two"], ["x"], name="double"),
        helper.make_node("Sigmoid", ["x"], ["gate"], name="gate"),
        helper.make_node("Mul", ["gate", "x"], ["y"], name="silu"),
        helper.make_node("Add", ["y", "x" if extra_reader else "two"], ["logits"], name="add"),
    ]
    return model_of(nodes, {"two": np.array(2.0, np.float32)})


def ranges(**found: tuple[float, float]) -> TensorsData:
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in found.items()}
    return TensorsData(CalibrationMethod.MinMax, data)


def floor_of(model: onnx.ModelProto, **found: tuple[float, float]) -> float:
    return float(with_silu_ranges(model, ranges(**found))["x"].range_value[0])


@pytest.mark.parametrize("high", [0.5, 5.0, 30.0, 200.0])
def test_what_is_left_out_is_zero_to_a_quarter_of_a_step(high: float) -> None:
    floor = floor_of(silu_model(), x=(-35.0, high), y=(-0.2785, high))
    quarter = (high + 0.2785) / 255 / 4
    below = np.linspace(-35.0, floor, 1000)
    assert np.abs(below / (1 + np.exp(-below))).max() <= quarter * 1.001
    inside = floor + 0.1
    assert inside > -1.3 or abs(inside / (1 + np.exp(-inside))) > quarter


def test_the_high_end_and_other_tensors_keep_their_ranges() -> None:
    found = with_silu_ranges(silu_model(), ranges(x=(-35.0, 30.0), y=(-0.28, 30.0), gate=(0.0, 1.0)))
    assert [float(end) for end in found["x"].range_value][1] == 30.0
    assert [float(end) for end in found["y"].range_value] == pytest.approx([-0.28, 30.0])
    assert [float(end) for end in found["gate"].range_value] == [0.0, 1.0]


def test_a_range_that_is_narrower_already_is_not_widened() -> None:
    assert floor_of(silu_model(), x=(-2.0, 30.0), y=(-0.28, 30.0)) == -2.0


def test_what_something_else_reads_too_keeps_its_range() -> None:
    assert floor_of(silu_model(extra_reader=True), x=(-35.0, 30.0), y=(-0.28, 30.0)) == -35.0


def test_a_silu_without_ranges_is_left_alone() -> None:
    assert floor_of(silu_model(), x=(-35.0, 30.0)) == -35.0


def test_the_steps_of_a_wide_input_become_finer_and_the_result_nearer() -> None:
    """By a second implementation: 8-bit codes written out."""
    x = np.random.default_rng(0).normal(0, 8, 20_000).clip(-30, 30)
    silu = x / (1 + np.exp(-x))

    def error(low: float) -> float:
        step = (30.0 - low) / 255
        codes = np.rint(x.clip(low, 30.0) / step) * step
        return float(np.square(codes / (1 + np.exp(-codes)) - silu).mean())

    floor = floor_of(silu_model(), x=(-30.0, 30.0), y=(-0.28, 30.0))
    assert error(floor) < 0.6 * error(-30.0)
