"""Predictions of whole bundles: marked as such, with an interval and a basis, and only where they can be made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import situation

from edgevit.bundle import Bundle, load_bundle
from edgevit.catalog import load_device
from edgevit.errors import InputError
from edgevit.latency.machine import figures_of
from edgevit.latency.predict import bundle_situation, load_predictor, predict_bundle
from edgevit.latency.published import counted_models
from edgevit.wording import predicted

RPI5 = {"name": "rpi5", "arch": "aarch64", "threads": 4, "measured_on": None}


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Bundle:
    return load_bundle(make_bundle(device=RPI5))


def test_a_prediction_says_what_it_is(bundle: Bundle) -> None:
    found = predict_bundle(bundle, load_device("rpi5"))
    assert found.what == "predicted, not measured"
    assert (found.device, found.runtime, found.threads) == ("rpi5", "onnxruntime", 4)
    assert found.interval90_milliseconds[0] < found.median_milliseconds < found.interval90_milliseconds[1]
    assert found.basis == "calibrated on 112 rows that come with edgevit, none of MLAS on Cortex-A76"
    assert not [name for name in json.loads(found.model_dump_json()) if name.endswith("_ms")]


def test_its_words_begin_with_predicted(bundle: Bundle) -> None:
    words = predicted(predict_bundle(bundle, load_device("rpi5")))
    assert words.startswith("predicted, not measured: p50 ")
    assert " on rpi5, 4 threads (90 % interval " in words


def test_a_bundles_operators_are_those_of_its_graph(bundle: Bundle) -> None:
    """Global average pool of 3 channels, then a Gemm of 3 by 4."""
    found = bundle_situation(bundle, load_device("rpi5"), threads=1)
    linear = [item for item in found.operators if item.kind == "linear"]
    assert [(item.macs, item.weights, item.activations) for item in linear] == [(12, 12, 7)]
    assert {item.precision for item in found.operators} == {"fp32"}


def test_another_board_is_another_prediction(bundle: Bundle) -> None:
    fast, slow = (predict_bundle(bundle, load_device(name)) for name in ("rpi5", "rpi-zero-2w"))
    assert fast.median_milliseconds < slow.median_milliseconds


def test_a_gpus_runtime_is_not_predicted(make_bundle: Callable[..., Path]) -> None:
    runtime = {"name": "tensorrt", "version": "10.3", "entry": "model.onnx", "session": {}}
    found = load_bundle(make_bundle(device=RPI5, runtime=runtime))
    with pytest.raises(InputError, match="runtime 'tensorrt' cannot be predicted"):
        predict_bundle(found, load_device("rpi5"))


def test_what_is_no_onnx_graph_is_not_predicted(make_bundle: Callable[..., Path]) -> None:
    root = make_bundle(
        device=RPI5, runtime={"name": "torchscript", "version": "2.9", "entry": "labels.txt", "session": {}}
    )
    with pytest.raises(InputError, match="operators of an ONNX graph can be counted"):
        predict_bundle(load_bundle(root), load_device("rpi5"))


@given(st.sampled_from(sorted(counted_models())), st.sampled_from(["rpi5", "rpi4", "jetson-agx-orin"]))
@settings(max_examples=25, deadline=None)
def test_intervals_hold_the_median_and_are_wider_for_what_is_not_known(model: str, board: str) -> None:
    predictor = load_predictor(())
    device = load_device(board)
    known = situation(
        *counted_models()[model], model=model, board=board, runtime="ncnn", threads=device.threads,
        machine=figures_of(device),
    )  # fmt: skip
    unknown = situation(
        *known.operators, model=model, board="nowhere", runtime="torchscript", threads=device.threads,
        machine=known.machine,
    )  # fmt: skip
    widths = []
    for item in (known, unknown):
        found = predictor.predict(item)
        low, high = found.interval90_milliseconds
        assert 0 < low < found.median_milliseconds < high
        widths.append(high / low)
    assert widths[0] < widths[1]
