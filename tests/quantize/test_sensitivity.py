from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from graphs import activation_ranges, model_of, preset
from numpy.typing import NDArray
from onnx import helper
from tiny_models import VIT_SHAPE, random_pixels, run_graph, vit_graph

from edgevit.errors import EdgevitError, InputError
from edgevit.quantize.nodes import quantizable_nodes
from edgevit.quantize.sensitivity import activation_kurtosis, layer_sqnr_db, noise_power, outlier_layers
from edgevit.quantize.static import quantize_static


def two_layers() -> onnx.ModelProto:
    """(1, 2) times 3, then times 5: 'first' and 'second'."""
    nodes = [
        helper.make_node("MatMul", ["input", "w1"], ["middle"], name="first"),
        helper.make_node("MatMul", ["middle", "w2"], ["logits"], name="second"),
    ]
    eye = np.eye(2, dtype=np.float32)
    return model_of(nodes, {"w1": 3 * eye, "w2": 5 * eye}, (1, 2))


def off_by(model: onnx.ModelProto, nodes: Sequence[str]) -> onnx.ModelProto:
    """In place of INT8: 'first' 10 % too large, 'second' 1 %."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    factors = {"first": ("w1", 3.3), "second": ("w2", 5.05)}
    for name, factor in (factors[node] for node in nodes):
        for tensor in changed.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(onnx.numpy_helper.from_array(factor * np.eye(2, dtype=np.float32), name))
    return changed


def identity_of(shape: tuple[int, ...]) -> onnx.ModelProto:
    return model_of([helper.make_node("Identity", ["input"], ["logits"], name="identity")], {}, shape)


def kurtosis_of(*pictures: NDArray[np.float32]) -> float:
    return activation_kurtosis(identity_of(pictures[0].shape), ["input"], pictures)["input"]


def test_each_layer_is_judged_by_the_logits_with_it_alone_quantized() -> None:
    model = two_layers()
    pictures = [np.array([row], np.float32) for row in ((1.0, 2.0), (-3.0, 0.5))]
    told: list[int] = []
    found = layer_sqnr_db(model, lambda nodes: off_by(model, nodes), [["first"], ["second"]], pictures, told.append)
    # logits 10 % and 1 % too large: an error of 1/10 and 1/100 of the signal
    assert found == [pytest.approx(20.0, abs=1e-3), pytest.approx(40.0, abs=1e-3)]
    assert told == [1, 2]


def test_the_nodes_of_one_layer_are_quantized_together() -> None:
    model = two_layers()
    found = layer_sqnr_db(
        model, lambda nodes: off_by(model, nodes), [["first", "second"]], [np.ones((1, 2), np.float32)]
    )
    assert found == [pytest.approx(-20 * math.log10(1.1 * 1.01 - 1), abs=1e-3)]


def test_a_layer_that_int8_does_not_change_costs_nothing() -> None:
    model = two_layers()
    found = layer_sqnr_db(model, lambda nodes: model, [["first"]], [np.ones((1, 2), np.float32)])
    assert found == [math.inf]


def test_the_layers_of_a_vit_are_measured_as_two_whole_graphs_would_be() -> None:
    model = vit_graph()
    nodes = quantizable_nodes(model).linear[:3]
    pictures = [random_pixels(VIT_SHAPE, seed) for seed in range(3)]
    ranges = activation_ranges(model, pictures, nodes)
    layers = [[name] for name in nodes]
    found = layer_sqnr_db(model, lambda names: quantize_static(model, names, ranges, preset()), layers, pictures)
    for name, level_db in zip(nodes, found, strict=True):
        alone = quantize_static(model, [name], ranges, preset())
        signal = np.concatenate([run_graph(model, pixels) for pixels in pictures])
        error = np.concatenate([run_graph(alone, pixels) for pixels in pictures]) - signal
        assert level_db == pytest.approx(10 * np.log10((signal**2).mean() / (error**2).mean()), abs=0.5)


def test_without_pictures_nothing_can_be_measured() -> None:
    with pytest.raises(InputError, match=r"^There is no picture to measure what INT8 costs on\. Give at least one\.$"):
        layer_sqnr_db(two_layers(), lambda nodes: two_layers(), [["first"]], [])
    with pytest.raises(InputError, match=r"^There is no picture to measure activations on\. Give at least one\.$"):
        activation_kurtosis(two_layers(), ["middle"], [])


@pytest.mark.parametrize(
    ("level_db", "noise"), [(20.0, 0.01), (0.0, 1.0), (-10.0, 10.0), (math.inf, 0.0), (math.nan, math.inf)]
)
def test_noise_is_a_share_of_the_signals_power(level_db: float, noise: float) -> None:
    assert noise_power(level_db) == pytest.approx(noise)


def test_kurtosis_by_hand() -> None:
    # -1, -1, 1, 1: fourth moment 1, variance 1. 0, 0, 0, 4: deviations -1, -1, -1, 3: (3 + 81)/4 over ((3 + 9)/4)².
    assert kurtosis_of(np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32)) == pytest.approx(1.0)
    assert kurtosis_of(np.array([[0.0, 0.0, 0.0, 4.0]], np.float32)) == pytest.approx(21 / 9)


def test_kurtosis_of_a_stream_is_that_of_all_values_at_once() -> None:
    rng = np.random.default_rng(0)
    parts = [(1000 + index + rng.laplace(size=(1, 5000))).astype(np.float32) for index in range(4)]
    values = np.concatenate(parts).astype(np.float64)
    deviations = values - values.mean()
    assert kurtosis_of(*parts) == pytest.approx((deviations**4).mean() / (deviations**2).mean() ** 2, rel=1e-6)


def test_a_constant_has_no_kurtosis() -> None:
    assert kurtosis_of(np.full((1, 4), 0.1, np.float32), np.full((1, 4), 0.1, np.float32)) == 0.0


def test_nan_is_told() -> None:
    with pytest.raises(EdgevitError, match=r"^Tensor 'input' holds NaN"):
        kurtosis_of(np.full((1, 4), np.nan, np.float32))


@pytest.mark.parametrize(
    ("kurtosis", "largest", "expected"),
    [(11.0, 9.0, ("first",)), (9.0, 9.0, ()), (11.0, 7.0, ()), (3.0, 1.0, ())],
)
def test_outlier_channels_show_in_the_tails_and_in_few_channels(
    kurtosis: float, largest: float, expected: tuple[str, ...]
) -> None:
    maxima = {"input": np.array([1.0, largest, 1.0, 0.0, 1.0]), "middle": np.zeros(2)}
    assert outlier_layers(two_layers(), ["first", "second"], {"input": kurtosis, "middle": 50.0}, maxima) == expected


def test_the_heaviest_tails_come_first() -> None:
    maxima = dict.fromkeys(("input", "middle"), np.array([1.0, 1000.0, 1.0, 1.0]))
    found = outlier_layers(two_layers(), ["first", "second"], {"input": 300.0, "middle": 500.0}, maxima)
    assert found == ("second", "first")
