"""One self-contained HTML page for a run: no script, no request, light and dark, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml

from edgevit.benchreport import BenchReport
from edgevit.recipe import PRETRAINED, RANDOM
from edgevit.report import charts, tables
from edgevit.report.html import fill, safe
from edgevit.results import RunMetrics
from edgevit.units import format_mib, format_ms

TEMPLATE = "page.html.j2"
MOST_SKIPPED = 50  # names on the page; metrics.json has them all


def render(metrics: RunMetrics) -> str:
    """The whole page as HTML; the same metrics give the same text.

    Every text of the metrics is escaped. What a run did not do is said in words.
    Raises MissingExtraError when jinja2 or matplotlib is not installed.
    """
    return fill(TEMPLATE, _context(metrics))


def _context(metrics: RunMetrics) -> dict[str, Any]:
    meaningless = tables.is_accuracy_meaningless(metrics)
    purpose, command = tables.next_command(metrics)
    test = metrics.shipped_test
    skipped = metrics.provenance.skipped
    return {
        "metrics": metrics,
        "machine": metrics.provenance.machine,
        "bench": metrics.bench,
        "meaningless": meaningless,
        "about": _about(metrics),
        "started": _moment(metrics.provenance.started),
        "headline": tables.headline(metrics),
        "budget": tables.budget_words(metrics.verdict.budget),
        "next_purpose": purpose,
        "next_command": command,
        "tiles": _tiles(metrics),
        "conditions": _conditions(metrics),
        "rows": tables.candidate_rows(metrics),
        "sqnr": tables.sqnr_words,
        "trade_off": None if meaningless else safe(charts.trade_off(metrics.candidates, metrics.verdict.budget)),
        "latency": safe(charts.latency_distribution(metrics.candidates)),
        "samples_beyond": charts.samples_beyond(metrics.candidates),
        "loss": safe(charts.loss_curves(metrics.curves)),
        "val_accuracy": safe(charts.accuracy_curve(metrics.curves)),
        "confusion": safe(charts.confusion_heat_map(test.confusion, metrics.labels)) if test else None,
        "classes_are_numbered": len(metrics.labels) > charts.LABELLED_CLASSES,
        "pairs": tables.confused_pairs(test.confusion, metrics.labels) if test else (),
        "mistakes": _mistakes(test.confusion) if test else 0,
        "bench_place": _bench_place(metrics.device, metrics.bench),
        "seeds": _seeds(metrics.recipe),
        "recipe_yaml": yaml.safe_dump(metrics.model_dump(mode="json")["recipe"], sort_keys=False, allow_unicode=True),
        "skipped": dict(list(skipped.items())[:MOST_SKIPPED]),
        "skipped_unnamed": max(0, len(skipped) - MOST_SKIPPED),
    }


def _about(metrics: RunMetrics) -> str:
    """'vit_tiny on digits, for local, trained from random weights, 10 classes, 2026-01-15 09:30 UTC'."""
    model = metrics.recipe.get("model", {}).get("name")
    source = metrics.recipe.get("data", {}).get("source")
    what = " on ".join(str(part) for part in (model, source) if part)
    weights = f"{metrics.weights} weights" if metrics.weights in (PRETRAINED, RANDOM) else metrics.weights
    trained = f"trained from {weights}" if metrics.curves else weights
    moment = _moment(metrics.provenance.started)
    parts = (what, f"for {metrics.device}", trained, _count(len(metrics.labels), "class", "classes"), moment)
    return ", ".join(part for part in parts if part)


def _moment(started: str) -> str:
    """'2026-01-15 09:30 UTC' of an ISO time; what is none is shown as it is."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


def _tiles(metrics: RunMetrics) -> tuple[tuple[str, tables.Cell], ...]:
    """(name, figure) of the four figures that stand beside the verdict."""
    shipped = tables.shipped_candidate(metrics)
    if shipped is None:
        return ()
    tested = metrics.shipped_test.accuracy if metrics.shipped_test else shipped.accuracy
    accuracy = tables.accuracy_cell(metrics, tested)
    if tested is not None and accuracy.is_figure:
        accuracy = tables.Cell(accuracy.text, f"{accuracy.detail}, {tested.n} pictures")
    latency, measured = tables.latency_cell(shipped), shipped.latency_ms
    if measured is not None:
        latency = tables.Cell(latency.text, f"p90 {format_ms(measured.p90)}, {measured.runs} runs")
    ratio = tables.ratio_cell(shipped.vs_fp32)
    if shipped.precision == "fp32":
        ratio = tables.Cell("is fp32", tables.vs_exported_words(shipped), is_figure=False)
    fp32 = next((c for c in metrics.candidates if c.precision == "fp32"), None)
    of_fp32 = f"{100 * shipped.size_mib / fp32.size_mib:.0f} % of fp32" if fp32 and fp32 is not shipped else ""
    return (
        ("Top-1 on test pictures", accuracy),
        ("Latency, p50", latency),
        ("Speed against fp32", ratio),
        ("Size", tables.Cell(format_mib(shipped.size_mib), of_fp32)),
    )


def _conditions(metrics: RunMetrics) -> str:
    """Where and how the candidates' latencies were measured."""
    if not any(c.latency_ms for c in metrics.candidates):
        estimated = any(c.estimate for c in metrics.candidates)
        instead = " Instructions were estimated; they are not time." if estimated else ""
        return f"No latency was measured on the board ({metrics.device}); none is shown in its place.{instead}"
    machine = metrics.provenance.machine
    bench = metrics.bench
    runtime = f", {bench.runtime} {bench.runtime_version}, {_count(bench.threads, 'thread')}" if bench else ""
    emulated = " Emulated: these are not the board's figures." if machine.is_emulated else ""
    return f"Measured on {machine.cpu} ({machine.arch}, {_count(machine.cores, 'core')}){runtime}.{emulated}"


def _bench_place(device: str, bench: BenchReport | None) -> str:
    """A warning where the bundle was checked somewhere else than on its board; '' where it was not."""
    if bench is None:
        return ""
    if bench.machine.is_emulated:
        return f"Emulated: these are not the figures of {device}."
    if bench.device != device:
        return f"Measured as '{bench.device}': these are not the figures of {device}."
    return ""


def _mistakes(confusion: tuple[tuple[int, ...], ...]) -> int:
    return sum(map(sum, confusion)) - sum(row[i] for i, row in enumerate(confusion))


def _seeds(recipe: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Every 'seed' of the recipe by its place, as {'train.seed': 0}."""
    seeds: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            seeds |= _seeds(value, f"{path}{key}.")
        elif key == "seed":
            seeds[f"{path}{key}"] = value
    return seeds


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
