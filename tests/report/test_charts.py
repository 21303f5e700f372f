from __future__ import annotations

import base64
import functools
import io
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from example_run import example_candidates, example_confusion, example_metrics, unlabeled, unmeasured
from PIL import Image

from edgevit.errors import MissingExtraError
from edgevit.recipe import Budget
from edgevit.report import charts

SVG = "{http://www.w3.org/2000/svg}"
OPEN = Budget(max_drop=None)


@functools.cache
def _all_charts() -> tuple[str, ...]:
    metrics = example_metrics()
    drawn = [
        charts.trade_off(metrics.candidates, metrics.verdict.budget),
        charts.loss_curves(metrics.curves),
        charts.accuracy_curve(metrics.curves),
        charts.latency_distribution(metrics.candidates),
        charts.confusion_heat_map(example_confusion(10, 36, 6), metrics.labels),
    ]
    assert None not in drawn
    return tuple(svg for svg in drawn if svg)


def _texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_chart_is_named_for_a_screen_reader() -> None:
    for svg in _all_charts():
        root = ElementTree.fromstring(svg)
        title = root.find(f"{SVG}title")
        assert title is not None
        assert title.text
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == title.get("id")


def test_the_same_figures_give_the_same_text() -> None:
    assert _all_charts.__wrapped__() == _all_charts()


def test_no_id_is_used_twice_in_a_page_of_all_charts() -> None:
    ids = [found for svg in _all_charts() for found in set(re.findall(r'\bid="([^"]+)"', svg))]
    assert len(ids) == len(set(ids))


def test_every_reference_points_into_its_own_chart() -> None:
    for svg in _all_charts():
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        references = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert references
        assert references <= ids


def test_colors_are_the_pages_own() -> None:
    for svg in _all_charts():
        assert "#0102" not in re.sub(r"var\([^)]*\)", "", svg)
    assert "currentColor" in _all_charts()[3]
    assert "var(--series-1" in _all_charts()[0]


def test_a_chart_has_no_style_of_the_whole_page_and_no_background() -> None:
    for svg in _all_charts():
        assert "<style" not in svg
        assert not re.search(r"<(path|rect)[^>]*fill: #ffffff", svg)


def test_trade_off_names_the_shipped_candidate_and_the_floor_of_the_budget() -> None:
    svg = charts.trade_off(example_candidates(), Budget(max_drop=1.0, max_latency_ms=3.0))
    assert svg is not None
    assert {"fp32", "int8-dynamic (shipped)", "int8-static", "budget: 97.6 %", "budget: 3 ms"} <= set(_texts(svg))


def test_a_latency_limit_far_away_is_not_drawn() -> None:
    svg = charts.trade_off(example_candidates(), Budget(max_drop=None, max_latency_ms=500.0))
    assert svg is not None
    assert not [text for text in _texts(svg) if text.startswith("budget")]


def test_trade_off_needs_accuracy_and_latency_of_one_candidate() -> None:
    assert charts.trade_off([unmeasured(c) for c in example_candidates()], OPEN) is None
    assert charts.trade_off([unlabeled(c) for c in example_candidates()], OPEN) is None
    assert charts.trade_off([], OPEN) is None


def test_curves_of_no_epoch_are_not_drawn_and_of_one_epoch_are() -> None:
    one = example_metrics().curves[:1]
    assert charts.loss_curves(()) is None
    assert charts.accuracy_curve(()) is None
    assert "training" in _texts(charts.loss_curves(one) or "")
    assert any("in epoch 1" in text for text in _texts(charts.accuracy_curve(one) or ""))


def test_the_best_epoch_is_named() -> None:
    curves = tuple(
        epoch.model_copy(update={"val_top1": top1})
        for epoch, top1 in zip(example_metrics().curves, [50.0, 91.25, 90.0], strict=False)
    )
    assert "best: 91.2 % in epoch 2" in _texts(charts.accuracy_curve(curves) or "")


def test_latency_distribution_shows_every_raw_sample_once() -> None:
    candidate = example_candidates()[1]
    svg = charts.latency_distribution([candidate])
    assert svg is not None
    dots = max(re.findall(r'\bd="([^"]*)"', svg), key=len)
    assert dots.count("M") == len(candidate.samples_ms) == 700


def test_latency_distribution_needs_samples() -> None:
    assert charts.latency_distribution([unmeasured(c) for c in example_candidates()]) is None


def test_latency_distribution_of_equal_samples_is_drawn() -> None:
    equal = example_candidates()[1].model_copy(update={"samples_ms": (2.0,) * 64})
    assert "int8-dynamic" in _texts(charts.latency_distribution([equal]) or "")


def test_samples_beyond_the_edge_are_counted() -> None:
    # 999 samples of 1 ms put the 99th percentile and with it the edge near 1.05 ms: only the one of 50 ms lies beyond.
    outlier = example_candidates()[1].model_copy(update={"samples_ms": (1.0,) * 999 + (50.0,)})
    assert charts.samples_beyond([outlier]) == 1
    assert charts.samples_beyond([]) == 0


def _pixels(svg: str) -> np.ndarray:
    data = re.search(r"data:image/png;base64,\s*([^\"]+)", svg)
    assert data
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.group(1)))).convert("RGBA"))


@pytest.mark.parametrize("classes", [2, 10, 20, 37, 102])
def test_the_heat_map_has_one_cell_for_each_pair_of_classes(classes: int) -> None:
    labels = [f"class {i}" for i in range(classes)]
    svg = charts.confusion_heat_map(example_confusion(classes, 10, classes // 2), labels)
    assert ("class 1" in _texts(svg)) == (classes <= charts.LABELLED_CLASSES)
    pixels = _pixels(svg)
    assert pixels.shape == (classes, classes, 4)
    assert pixels[0, 0, 2] > pixels[0, 0, 0]  # the diagonal is blue
    assert pixels[0, 1, 0] > pixels[0, 1, 2]  # a mistake is orange
    assert pixels[0, 0, 3] > pixels[0, 1, 3] > 0  # and fainter, but seen
    assert classes == 2 or pixels[1, 0, 3] == 0  # a pair that was never confused is empty


def test_a_class_without_pictures_has_an_empty_row() -> None:
    assert not _pixels(charts.confusion_heat_map([[3, 0], [0, 0]], ["a", "b"]))[1, :, 3].any()


def test_counts_stand_in_the_cells_of_a_small_matrix() -> None:
    texts = _texts(charts.confusion_heat_map([[41, 2], [0, 37]], ["a", "b"]))
    assert {"41", "2", "37"} <= set(texts)
    assert "0" not in texts


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", "$\\frac{$", "a & b", "猫", 'id="x" #010203', "]]>", "two\nlines"]
)
def test_a_label_stays_the_text_that_it_is(label: str) -> None:
    texts = _texts(charts.confusion_heat_map([[3, 1], [0, 2]], [label, "other"]))
    whole = " ".join(label.split())
    assert (whole if len(whole) <= 16 else whole[:15] + "…") in texts


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=re.escape("needs the package 'matplotlib'")) as caught:
        charts.loss_curves(example_metrics().curves)
    assert str(caught.value).endswith("pip install 'edgevit[train]'")
