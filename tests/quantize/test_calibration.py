from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import linear_model, model_of
from numpy.typing import NDArray
from onnx import helper

from edgevit.bench.process import child_environment
from edgevit.errors import EdgevitError, InputError
from edgevit.quantize import calibration
from edgevit.quantize.calibration import CHUNK_PICTURES, activation_ranges

METHODS = ("minmax", "percentile", "entropy")
PIXELS = 10_000
DOUBLING = np.array([[2.0, 0.0], [0.0, -2.0]], np.float32)

# Peak memory after 64 pictures and after 1,024, by one process: it only ever rises.
PEAKS = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_calibration import wide_model
from edgevit.quantize.calibration import activation_ranges

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
    seen = pictures((0.5, -1.0), (3.0, 0.0), (-0.25, 2.0), (1.0, 1.0), (0.0, -4.0))  # two chunks
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


def test_minmax_keeps_an_outlier_and_the_percentile_cuts_it_off() -> None:
    assert range_of(activation_ranges(identity_model(), uniform_with_one_outlier(), ["linear"]), "same")[1] == 8.0
    low, high = range_of(
        activation_ranges(identity_model(), uniform_with_one_outlier(), ["linear"], "percentile"), "same"
    )
    values = np.abs(np.concatenate(list(uniform_with_one_outlier())))
    expected = np.percentile(values, 99.99)
    assert expected < 1.0
    assert high == pytest.approx(expected, abs=0.02)  # a bin of the histogram
    assert low == pytest.approx(-high)


def test_the_entropy_threshold_is_within_the_data_and_cuts_the_outlier_off() -> None:
    low, high = range_of(activation_ranges(identity_model(), uniform_with_one_outlier(), ["linear"], "entropy"), "same")
    assert 0.5 < high < 8.0
    assert -1.0 <= low < -0.5


@pytest.mark.parametrize("method", METHODS)
def test_pictures_are_asked_for_in_chunks_and_never_ahead(method: str) -> None:
    handed, told = [], []

    def batches() -> Iterator[NDArray[np.float32]]:
        for picture in pictures(*[(float(index), 1.0) for index in range(10)]):
            handed.append(picture)
            yield picture

    def on_picture(done: int) -> None:
        told.append(done)
        assert len(handed) == done

    activation_ranges(linear_model(DOUBLING), batches(), ["linear"], method, on_picture)  # type: ignore[arg-type]
    assert told == [CHUNK_PICTURES, 2 * CHUNK_PICTURES, 10]


@pytest.mark.parametrize("method", METHODS)
def test_peak_memory_does_not_grow_with_the_number_of_pictures(method: str, tmp_path: Path) -> None:
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
def test_nothing_is_printed_on_stdout(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    activation_ranges(linear_model(DOUBLING), pictures((1.0, -1.0), (0.5, 2.0)), ["linear"], method)  # type: ignore[arg-type]
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


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.tempfile, "tempdir", str(tmp_path))
    activation_ranges(linear_model(DOUBLING), pictures((1.0, 1.0)), ["linear"])
    assert not list(tmp_path.iterdir())
