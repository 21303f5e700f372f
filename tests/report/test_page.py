from __future__ import annotations

import functools
import html
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from example_run import (
    MACHINE,
    example_bench,
    example_candidates,
    example_confusion,
    example_metrics,
    unlabeled,
    unmeasured,
)
from headless_chromium import CHROMIUM, Chromium
from PIL import Image

from edgevit import results
from edgevit.errors import MissingExtraError
from edgevit.policy import Policy
from edgevit.report.page import render

HOSTILE = "<script>alert('x')</script>"


def _words(page: str) -> str:
    """What a reader sees: no style, no drawings, no tags, one space between words."""
    body = re.sub(r"<(style|svg|head)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.fixture(scope="module")
def page() -> str:
    return render(example_metrics())


def test_the_page_opens_with_the_verdict_and_the_next_command(page: str) -> None:
    words = _words(page)
    headline = "int8-dynamic ships: 1.40× as fast as fp32, 98.3 % right on the test pictures (0.28 points below fp32)."
    assert words.index(headline) < words.index("Within the budget: at most 1 point below fp32, 4 ms")
    assert "int8-static lost: 1.07 times slower than int8-dynamic." in words
    command = "edgevit predict picture.jpg --bundle runs/digits-vit-tiny/bundle"
    assert words.index(headline) < words.index(command) < words.index("Why")


def test_the_page_says_what_was_made_for_what_from_what(page: str) -> None:
    about = "vit_tiny_patch16_224 on digits, for local, trained from random weights, 10 classes, 2026-01-15 09:30 UTC"
    assert about in _words(page)


def test_every_candidate_has_a_row_with_its_reason(page: str) -> None:
    words = _words(page)
    for candidate in example_candidates():
        assert f"{candidate.precision} onnxruntime " in words
        assert (candidate.failed or candidate.why) in words


def test_every_candidate_is_said_to_be_what_it_is() -> None:
    fp32, dynamic, *_ = example_candidates()
    bought = results.LatencyRatio(ratio=1.12, ci95=(1.1, 1.14))
    candidates = (
        fp32.model_copy(update={"rewrites": ("gelu", "layout"), "vs_exported": bought}),
        dynamic.model_copy(
            update={"policy": Policy(linear="int8-dynamic"), "rewrites": ("gelu",), "int8": {"linear layers": (16, 17)}}
        ),
    )
    words = _words(render(example_metrics(candidates=candidates)))
    assert "reference 1.12× as fast as exported [1.10, 1.14]" in words
    heading = "What each one is Candidate Policy Rewrites that changed its graph Operators in INT8"
    rows = "fp32 fp32 gelu, layout none int8-dynamic linear layers INT8 dynamic gelu 16 of 17 linear layers"
    assert f"{heading} {rows}" in words


def test_instructions_stand_beside_the_missing_latency_and_not_in_its_place() -> None:
    estimate = results.CostEstimate(core="Cortex-A76", million_instructions=246.4, relative_error=0.088)
    candidates = tuple(unmeasured(c).model_copy(update={"estimate": estimate}) for c in example_candidates()[:2])
    words = _words(render(example_metrics(device="rpi5", candidates=candidates, bench=None)))
    shown = "not measured on the board an estimated 246 million instructions on Cortex-A76, error up to 9 %"
    assert words.count(shown) == 3  # beside the verdict, and in both rows
    assert "none is shown in its place. Instructions were estimated; they are not time." in words
    assert "Not drawn: no candidate has both an accuracy and a latency measured on the board." in words


def test_latencies_carry_machine_runtime_version_and_threads(page: str) -> None:
    assert "Measured on AMD EPYC 7B13 (x86_64, 2 cores), onnxruntime 1.31.1, 1 thread." in _words(page)


def test_all_five_charts_are_drawn(page: str) -> None:
    titles = re.findall(r"<title id=\"([a-z-]+)-title\">", page)
    assert titles == [f"chart-{name}" for name in ("trade-off", "latency", "loss", "accuracy", "confusion")]


def test_mistakes_are_told_in_words(page: str) -> None:
    words = _words(page)
    assert "6 of 360 test pictures were taken for another class" in words
    assert "1 of 36 “0” taken for “1” (2.8 %)" in words


def test_no_mistake_is_told_in_words() -> None:
    perfect = results.TestResult(
        accuracy=results.Accuracy(n=20, top1=100.0, ci95=(83.9, 100.0)), confusion=example_confusion(10, 2, 0)
    )
    assert "Not one picture was taken for another class." in _words(render(example_metrics(shipped_test=perfect)))


def test_provenance_has_seeds_versions_times_and_the_recipe(page: str) -> None:
    words = _words(page)
    assert "Recipe, data.seed 7" in words
    assert "Recipe, train.seed 0" in words
    assert "timm 1.0.31" in words
    assert "train 1 min 58 s" in words
    assert "all 2 min 36 s" in words  # 118.4 + 9.8 + 4.1 + 3.2 + 21.0 = 156.5
    assert "scale: - 0.5 - 1.0" in words  # a tuple of the recipe is written as a plain list
    assert "train/3/broken.png : the file is truncated" in words


def test_only_the_first_fifty_skipped_pictures_are_named() -> None:
    provenance = example_metrics().provenance.model_copy(update={"skipped": {f"p{i:02}.png": "?" for i in range(53)}})
    words = _words(render(example_metrics(provenance=provenance)))
    assert "53 could not be used" in words
    assert "p49.png" in words
    assert "p50.png" not in words
    assert "and 3 more, all named in metrics.json" in words


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    provenance = example_metrics().provenance.model_copy(update={"started": "yesterday"})
    assert "10 classes, yesterday" in _words(render(example_metrics(provenance=provenance)))


def test_random_weights_have_a_banner_and_no_figure_of_accuracy() -> None:
    words = _words(render(example_metrics(curves=())))
    assert "Random weights: accuracy means nothing here." in words
    assert "Not drawn: with random weights accuracy means nothing." in words
    assert "Not shown: with random weights every answer is a guess." in words
    assert "98.3 %" not in words


def test_trained_weights_have_no_banner(page: str) -> None:
    assert "means nothing" not in _words(page)


def test_what_was_not_done_is_said_in_words() -> None:
    bare = tuple(
        unmeasured(unlabeled(c)).model_copy(update={"parity": ()}) for c in example_candidates() if not c.failed
    )
    provenance = example_metrics().provenance.model_copy(update={"skipped": {}, "seconds": {}, "versions": {}})
    metrics = example_metrics(
        device="rpi5",
        weights="pretrained",
        curves=(),
        fp32_test=None,
        shipped_test=None,
        drop=None,
        bench=None,
        candidates=bare,
        provenance=provenance,
    )
    page = render(metrics)
    words = _words(page)
    for sentence in (
        "No latency was measured on the board (rpi5); none is shown in its place.",
        "not measured on the board",
        "no labeled data",
        "Not drawn: no candidate has both an accuracy and a latency measured on the board.",
        "No candidate was timed on the board.",
        "Nothing was trained in this run: the weights were taken as they are (pretrained).",
        "There was no labeled data, so no accuracy is claimed",
        "The bundle was not timed on rpi5.",
        "Parity was not checked in this run.",
        "No stage was timed.",
        "No version was recorded.",
        "None: every picture was read.",
    ):
        assert sentence in words
    assert "<svg" not in page


def test_a_run_without_candidates_says_so() -> None:
    words = _words(render(example_metrics(candidates=(), bundle="")))
    assert "Nothing is shipped" in words
    assert "No candidate was built." in words


def test_an_unmet_budget_is_said() -> None:
    verdict = example_metrics().verdict.model_copy(update={"within_budget": False})
    assert "Budget not met: at most 1 point below fp32, 4 ms" in _words(render(example_metrics(verdict=verdict)))


def test_an_invalid_measurement_is_said_at_the_top_and_beside_its_figures() -> None:
    words = _words(render(example_metrics(bench=example_bench(is_valid=False, invalid_reasons=("it throttled",)))))
    assert words.index("The latency check is not valid: it throttled") < words.index("Candidates Brackets")
    assert "This measurement may not be used. it throttled" in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": MACHINE.model_copy(update={"is_emulated": True})}, "Emulated: these are not the figures of rpi5."),
        ({"device": "local"}, "Measured as 'local': these are not the figures of rpi5."),
    ],
)
def test_a_figure_of_another_machine_is_not_shown_as_the_boards(changes: dict[str, object], words: str) -> None:
    assert words in _words(render(example_metrics(device="rpi5", bench=example_bench(**changes))))


def test_emulated_candidates_are_said_to_be_emulated() -> None:
    machine = MACHINE.model_copy(update={"is_emulated": True})
    provenance = example_metrics().provenance.model_copy(update={"machine": machine})
    words = _words(render(example_metrics(provenance=provenance)))
    assert "Emulated: these are not the board's figures." in words


def test_shipped_fp32_is_not_compared_with_itself() -> None:
    fp32 = example_candidates()[0].model_copy(update={"shipped": True})
    assert "Speed against fp32 is fp32" in _words(render(example_metrics(candidates=(fp32,))))


def test_a_failed_hop_names_the_first_layer_that_diverges() -> None:
    hop = results.Parity(
        hop="ONNX fp32 to int8",
        n=64,
        cosine=0.71,
        max_abs=9.5,
        sqnr_db=2.1,
        top1_agreement=0.4,
        passed=False,
        first_diverging_layer="/blocks.3/attn/MatMul",
    )
    candidate = example_candidates()[1].model_copy(update={"parity": (hop,)})
    words = _words(render(example_metrics(candidates=(candidate,))))
    assert "0.710000 2.1 dB 9.5 40.0 % 64 failed , first at /blocks.3/attn/MatMul" in words


def test_every_text_from_outside_is_escaped() -> None:
    candidate = example_candidates()[1].model_copy(update={"why": HOSTILE, "precision": HOSTILE})
    example = example_metrics()
    metrics = example_metrics(
        name=HOSTILE,
        device=HOSTILE,
        bundle=f"runs/{HOSTILE}",
        labels=(HOSTILE, *example.labels[1:]),
        pictures={HOSTILE: 3},
        recipe={"model": {"name": HOSTILE}, HOSTILE: HOSTILE},
        candidates=(candidate,),
        verdict=example.verdict.model_copy(update={"sentences": (HOSTILE,)}),
        bench=example_bench(notes=(HOSTILE,), is_valid=False, invalid_reasons=(HOSTILE,)),
        provenance=example.provenance.model_copy(
            update={"skipped": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}, "started": HOSTILE}
        ),
    )
    page = render(metrics)
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") >= 15


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    found = []

    class References(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            loading = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
            found.extend(value or "" for name, value in attrs if name in loading)

    References().feed(page)
    assert found
    assert all(reference.startswith(("#", "data:")) for reference in found)
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_same_metrics_give_the_same_page(page: str) -> None:
    assert render(example_metrics()) == page


def test_metrics_read_back_from_json_give_the_same_page(page: str) -> None:
    assert render(results.RunMetrics.model_validate_json(example_metrics().model_dump_json())) == page


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=re.escape("needs the package 'jinja2'")) as caught:
        render(example_metrics())
    assert str(caught.value).endswith("pip install 'edgevit[train]'")


def test_importing_the_page_imports_neither_matplotlib_nor_jinja2_nor_torch() -> None:
    script = "import sys, edgevit.report.page; print(*sorted({'matplotlib', 'jinja2', 'torch'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def _many_classes() -> results.RunMetrics:
    """102 classes with long names that have no place to break, a board of another kind, an invalid check."""
    labels = tuple(f"a_very_long_class_name_without_any_space_number_{i}" for i in range(102))
    return example_metrics(
        name="a-long-name-" * 6,
        labels=labels,
        bundle="runs/" + "very-long-directory-name-" * 6,
        shipped_test=results.TestResult(
            accuracy=results.Accuracy(n=1020, top1=95.0, ci95=(93.5, 96.2)), confusion=example_confusion(102, 10, 70)
        ),
        bench=example_bench(is_valid=False, invalid_reasons=("the clock was capped",)),
    )


def _nothing_measured() -> results.RunMetrics:
    bare = tuple(unmeasured(unlabeled(c)) for c in example_candidates())
    return example_metrics(
        device="rpi5", curves=(), fp32_test=None, shipped_test=None, drop=None, bench=None, candidates=bare
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


# Boxes that reach beyond the window, except inside a box that scrolls by itself.
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(element =>
    element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
    && !element.parentElement.closest('.scroll, pre') && !element.matches('.skip')
).map(element => element.outerHTML.slice(0, 120))
"""
WIDER_THAN_WINDOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


RUNS = {"digits": example_metrics, "many-classes": _many_classes, "nothing-measured": _nothing_measured}


@functools.cache
def _page_of(run: str) -> str:
    return render(RUNS[run]())


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_chromium_nothing_overflows_nothing_complains_and_nothing_is_requested(
    browser: Chromium, tmp_path: Path, run: str, width: int, dark: bool
) -> None:
    file = tmp_path / "report.html"
    file.write_text(_page_of(run), encoding="utf-8")
    browser.complaints.clear()
    browser.requests.clear()

    browser.open(file, width, dark=dark)
    picture = tmp_path / "page.png"
    browser.screenshot(picture)

    assert browser.evaluate("window.innerWidth") == width
    assert browser.evaluate(WIDER_THAN_WINDOW) is False
    assert browser.evaluate(OVERFLOWING) == []
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [file.as_uri()]
    pixels = np.asarray(Image.open(picture).convert("L"), dtype=float)
    assert pixels.shape[1] == width
    assert pixels.std() > 5  # a blank page has one color
    assert (np.median(pixels) < 128) == dark


def test_in_chromium_each_control_and_scrolling_box_can_be_reached_by_keyboard(
    browser: Chromium, tmp_path: Path, page: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    browser.open(file, 390)
    unreachable = "[...document.querySelectorAll('.scroll')].filter(box => box.tabIndex !== 0).length"
    unnamed = "[...document.querySelectorAll('.scroll')].filter(box => !box.getAttribute('aria-label')).length"
    dangling = """[...document.querySelectorAll('a[href^="#"], [aria-labelledby], [aria-describedby]')].filter(e =>
        [e.getAttribute('href')?.slice(1), e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby')]
        .some(id => id && !document.getElementById(id))).length"""
    repeated = """(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(e => e.id))"""
    for script in (unreachable, unnamed, dangling, repeated):
        assert browser.evaluate(script) == 0
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1


def test_in_chromium_paper_shows_the_recipe_and_cuts_nothing(browser: Chromium, tmp_path: Path, page: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    browser.open(file, 718, media="print")  # A4 less 14 mm at each side, at 96 dots an inch
    assert browser.evaluate(WIDER_THAN_WINDOW) is False
    assert browser.evaluate("document.querySelector('pre.boxed').getBoundingClientRect().height") > 100
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
