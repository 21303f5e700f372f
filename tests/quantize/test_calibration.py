from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, linear_model, model_of
from numpy.typing import NDArray
from onnx import helper

from edgevit.errors import EdgevitError, InputError
from edgevit.interpreter import child_environment
from edgevit.quantize.calibration import SMALLEST_SCALE, representable
from edgevit.recipe import Calibrator

METHODS: tuple[Calibrator, ...] = ("minmax", "moving-average", "percentile", "entropy", "mse")
PIXELS = 10_000
DOUBLING = np.array([[2.0, 0.0], [0.0, -2.0]], np.float32)

# Peak memory after 64 pictures and after 1,024, by one process: it only ever rises.
PEAKS = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from graphs import activation_ranges
from test_calibration import wide_model

for count in (64, 64, 1024):
    rng = np.random.default_rng(0)
    pictures = (rng.normal(size=(1, 1, 128, 128)).astype(np.float32) for _ in range(count))
    activation_ranges(wide_model(), pictures, ["linear"], sys.argv[1])
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def wide_model() -> onnx.ModelProto:
    """Three activations of 64 KiB each."""
    nodes = [
        helper.make_node("Tanh", ["input"], ["tanh"], name="tanh"),
        helper.make_node("MatMul", ["tanh", "weight"], ["logits"], name="linear"),
    ]
    return model_of(nodes, {"weight": np.eye(128, dtype=np.float32)}, (1, 1, 128, 128))


def identity_model() -> onnx.ModelProto:
    """'tanh' is read by 'linear'; PIXELS values each."""
    nodes = [
        helper.make_node("Identity", ["input"], ["same"], name="identity"),
        helper.make_node("MatMul", ["same", "weight"], ["logits"], name="linear"),
    ]
    return model_of(nodes, {"weight": np.ones((1, 1), np.float32)}, (1, 1, PIXELS, 1))


def pictures(*rows: tuple[float, float]) -> list[NDArray[np.float32]]:
    return [np.array(row, np.float32).reshape(1, 1, 1, 2) for row in rows]


def range_of(ranges: object, name: str) -> tuple[float, float]:
    low, high = ranges[name].range_value  # type: ignore[index]
    return float(np.squeeze(low)), float(np.squeeze(high))


def test_minmax_is_the_smallest_and_the_largest_value_of_all_pictures() -> None:
    seen = pictures((0.5, -1.0), (3.0, 0.0), (-0.25, 2.0), (1.0, 1.0), (0.0, -4.0))
    ranges = activation_ranges(linear_model(DOUBLING), seen, ["linear"])
    assert range_of(ranges, "flat") == (-4.0, 3.0)
    assert range_of(ranges, "logits") == (-4.0, 8.0)  # (x0, x1) becomes (2·x0, -2·x1)


def uniform_with_one_outlier() -> Iterator[NDArray[np.float32]]:
    """20 x 10,000 values between -1 and 1, one of them 8: one in 200,000."""
    rng = np.random.default_rng(0)
    for index in range(20):
        picture = rng.uniform(-1, 1, (1, 1, PIXELS, 1)).astype(np.float32)
        if index == 7:
            picture[0, 0, 3] = 8.0
        yield picture


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("minmax", 8.0),
        ("percentile", 1.0),
        ("entropy", 1.0),
        # Clipping at h costs (8-h)², rounding 200,000·((h+1)/255)²/12 = 0.256·(h+1)²: least at (8-0.256)/1.256.
        ("mse", 6.16),
    ],
)
def test_what_becomes_of_one_outlier_among_200000_values(method: Calibrator, expected: float) -> None:
    ranges = activation_ranges(identity_model(), uniform_with_one_outlier(), ["linear"], method)
    low, high = range_of(ranges, "same")
    assert low == pytest.approx(-1.0, rel=0.05)
    assert high == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_pictures_are_asked_for_one_at_a_time_and_never_ahead(method: Calibrator) -> None:
    handed, told = [], []

    def batches() -> Iterator[NDArray[np.float32]]:
        for picture in pictures(*[(float(index), 1.0) for index in range(10)]):
            handed.append(picture)
            yield picture

    def on_picture(done: int) -> None:
        told.append(done)
        assert len(handed) == done

    activation_ranges(linear_model(DOUBLING), batches(), ["linear"], method, on_picture)
    assert told == list(range(1, 11))


@pytest.mark.parametrize("method", METHODS)
def test_peak_memory_does_not_grow_with_the_number_of_pictures(method: Calibrator, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PEAKS, method, str(Path(__file__).parent)],
        env=child_environment(), cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    peaks = [int(line.split()[1]) / 1024 for line in ended.stderr.splitlines() if line.startswith("peak")]
    _, at_64, at_1024 = peaks
    kept = 1024 * 3 * 128 * 128 * 4 / 2**20  # MiB that all the activations would take
    assert at_1024 - at_64 < kept / 8
    assert ended.stdout == ""


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_printed_on_stdout(method: Calibrator, capfd: pytest.CaptureFixture[str]) -> None:
    activation_ranges(linear_model(DOUBLING), pictures((1.0, -1.0), (0.5, 2.0)), ["linear"], method)
    assert capfd.readouterr().out == ""


def test_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match=r"^Static INT8 needs pictures to calibrate on, and there is none\.$"):
        activation_ranges(linear_model(DOUBLING), [], ["linear"])


def test_what_onnx_runtime_refuses_is_told_in_one_line() -> None:
    model = linear_model(DOUBLING)
    model.graph.node[1].op_type = "Unheard"
    with pytest.raises(EdgevitError, match=r"^ONNX Runtime cannot calibrate this model: .*Unheard") as caught:
        activation_ranges(model, pictures((1.0, 1.0)), ["linear"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_activation_that_is_not_finite_is_named(method: Calibrator, value: float) -> None:
    seen = pictures((1.0, 2.0), (1.0, value))
    with pytest.raises(EdgevitError, match=r"^Tensor '(flat|logits)' holds NaN or infinity on calibration picture 2:"):
        activation_ranges(linear_model(DOUBLING), seen, ["linear"], method)


@pytest.mark.parametrize("method", METHODS)
def test_constant_and_all_zero_activations_have_a_range_that_holds_them_and_zero(method: Calibrator) -> None:
    ranges = activation_ranges(linear_model(DOUBLING), pictures((3.0, 3.0), (3.0, 3.0)), ["linear"], method)
    low, high = range_of(ranges, "flat")
    assert (low, high) == (0.0, pytest.approx(3.0, rel=1e-3))
    zeros = activation_ranges(linear_model(DOUBLING), pictures((0.0, 0.0)), ["linear"], method)
    assert range_of(zeros, "flat") == (0.0, 255.0)


@pytest.mark.parametrize("method", METHODS)
def test_one_picture_is_enough(method: Calibrator) -> None:
    ranges = activation_ranges(linear_model(DOUBLING), pictures((-1.0, 4.0)), ["linear"], method)
    assert range_of(ranges, "flat") == pytest.approx((-1.0, 4.0), rel=1e-3)


def test_only_float_activations_of_the_named_nodes_have_a_range() -> None:
    ranges = activation_ranges(linear_model(DOUBLING), pictures((1.0, 1.0)), ["linear"])
    assert sorted(ranges.keys()) == ["flat", "logits"]
    assert sorted(activation_ranges(linear_model(DOUBLING), pictures((1.0, 1.0)), ["flatten"]).keys()) == [
        "flat",
        "input",
    ]


def test_a_range_always_holds_zero_and_its_scale_never_vanishes() -> None:
    assert representable((2.0, 5.0)) == (0.0, 5.0)
    assert representable((-5.0, -2.0)) == (-5.0, 0.0)
    assert representable((0.0, 255 * SMALLEST_SCALE)) == (0.0, 255 * SMALLEST_SCALE)
    assert representable((-SMALLEST_SCALE, SMALLEST_SCALE)) == (0.0, 255.0)
    assert np.float32(SMALLEST_SCALE) ** 2 == np.finfo(np.float32).tiny
