"""The drawings of a run's page. Each returns an <svg> element, or None where there is nothing to draw."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.benchreport import Latency
from edgevit.recipe import Budget
from edgevit.report.svg import BAD, GOOD, GRID, INK, MUTED, SERIES, draw
from edgevit.report.tables import short_label
from edgevit.results import Accuracy, Candidate, Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 420, 300  # near the width of a phone, so that text stays readable there
MARKERS = ("o", "s", "D", "^", "v", "P")
LABELLED_CLASSES = 24  # more names than this do not fit beside a heat map
NUMBERED_CLASSES = 12  # nor do the counts in its cells
RIGHT = (0.23, 0.47, 0.84)  # blue and orange of middle lightness: seen on white and on black, and by the color-blind
WRONG = (0.91, 0.42, 0.13)
LABEL_ON_COLOR = 0.55  # share of color above which a cell's number is drawn in white


def trade_off(candidates: Sequence[Candidate], budget: Budget) -> str | None:
    """Top-1 with its 95 % interval over latency from p50 to p90; None without a candidate that has both."""
    shown = [(i, c.accuracy, c.latency_ms) for i, c in enumerate(candidates) if c.accuracy and c.latency_ms]
    if not shown:
        return None
    slowest = max(latency.p90 for _, _, latency in shown)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, accuracy, latency in shown:
            _draw_candidate(axes, i, candidates[i], accuracy, latency)
        _draw_budget(axes, candidates, budget, slowest)
        axes.set_xlim(left=0, right=slowest * 1.15)
        axes.set_xlabel("latency, ms (p50 to p90)")
        axes.set_ylabel("validation top-1, %")
        _legend_below(figure)

    return draw("chart-trade-off", "Top-1 accuracy over latency, by candidate", WIDTH, HEIGHT, paint)


def _draw_candidate(axes: Axes, index: int, candidate: Candidate, accuracy: Accuracy, latency: Latency) -> None:
    axes.errorbar(
        latency.p50,
        accuracy.top1,
        xerr=[[0.0], [latency.p90 - latency.p50]],
        # Rounding may put an interval's end a hair inside its center, and matplotlib refuses that.
        yerr=[[max(0.0, accuracy.top1 - accuracy.ci95[0])], [max(0.0, accuracy.ci95[1] - accuracy.top1)]],
        fmt=_marker(index),
        color=_color(index),
        markersize=10 if candidate.shipped else 7,
        markeredgecolor=INK if candidate.shipped else _color(index),
        elinewidth=1.4,
        capsize=3,
        label=candidate.name + (" (shipped)" if candidate.shipped else ""),
    )


def _draw_budget(axes: Axes, candidates: Sequence[Candidate], budget: Budget, slowest: float) -> None:
    fp32 = next((c.accuracy for c in candidates if c.precision == "fp32" and c.accuracy is not None), None)
    if budget.max_drop is not None and fp32 is not None:
        floor = fp32.top1 - budget.max_drop
        axes.axhline(floor, color=BAD, linewidth=1, linestyle=(0, (4, 3)), label=f"budget: {floor:.1f} %")
    # A limit far beyond all the points would press them into a corner; the verdict names it in any case.
    if budget.max_latency_ms is not None and budget.max_latency_ms < slowest * 1.1:
        limit = budget.max_latency_ms
        axes.axvline(limit, color=BAD, linewidth=1, linestyle=(0, (1, 2)), label=f"budget: {limit:g} ms")


def loss_curves(epochs: Sequence[Epoch]) -> str | None:
    """Training and validation loss by epoch; None without an epoch."""

    def paint(axes: Axes) -> None:
        x = [e.epoch for e in epochs]
        axes.plot(x, [e.train_loss for e in epochs], "o--", color=_color(0), markersize=3, label="training")
        axes.plot(x, [e.val_loss for e in epochs], "o-", color=_color(1), markersize=3, label="validation")
        axes.set_ylabel("loss")

    return _by_epoch("chart-loss", "Training and validation loss by epoch", epochs, paint)


def accuracy_curve(epochs: Sequence[Epoch]) -> str | None:
    """Validation top-1 by epoch, the best one marked; None without an epoch."""

    def paint(axes: Axes) -> None:
        best = max(epochs, key=lambda e: e.val_top1)
        axes.plot([e.epoch for e in epochs], [e.val_top1 for e in epochs], "o-", color=_color(1), markersize=3)
        label = f"best: {best.val_top1:.1f} % in epoch {best.epoch}"
        axes.plot([best.epoch], [best.val_top1], "o", color=GOOD, markersize=9, fillstyle="none", label=label)
        axes.set_ylabel("validation top-1, %")

    return _by_epoch("chart-accuracy", "Validation accuracy by epoch", epochs, paint)


def _by_epoch(name: str, title: str, epochs: Sequence[Epoch], paint_axes: Callable[[Axes], None]) -> str | None:
    if not epochs:
        return None

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        paint_axes(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        _legend_below(figure)

    return draw(name, title, WIDTH, HEIGHT, paint)


def latency_distribution(candidates: Sequence[Candidate]) -> str | None:
    """Every raw sample as a dot, one row a candidate, p50 marked; None without samples.

    The axis ends where 99 % of the slowest row's samples do; `samples_beyond` counts the rest.
    """
    rows = [i for i, c in enumerate(candidates) if c.samples_ms]
    if not rows:
        return None
    right = _right_edge_ms(candidates)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, i in enumerate(rows):
            samples = np.asarray(candidates[i].samples_ms)
            # A dot is a line of almost no length with round ends: all dots of a row are one path, a small file.
            x = np.repeat(samples, 3)
            x[1::3] += right * 1e-4
            x[2::3] = np.nan
            y = np.repeat(row + _spread(samples), 3)
            axes.plot(x, y, color=_color(i), linewidth=3, alpha=0.5, solid_capstyle="round")
            p50 = statistics.median(candidates[i].samples_ms)
            axes.plot([p50, p50], [row - 0.42, row + 0.42], color=INK, linewidth=1.6)
        axes.set_yticks(range(len(rows)), [candidates[i].name for i in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, right * 1.04)
        axes.grid(False, axis="y")
        axes.set_xlabel("latency, ms (line: p50)")

    return draw("chart-latency", "Latency of every timed run, by candidate", WIDTH, 90 + 58 * len(rows), paint)


def samples_beyond(candidates: Sequence[Candidate]) -> int:
    """How many samples lie right of the edge of `latency_distribution`."""
    right = _right_edge_ms(candidates)
    return sum(sample > right for c in candidates for sample in c.samples_ms)


def _right_edge_ms(candidates: Sequence[Candidate]) -> float:
    return max((1.05 * float(np.percentile(c.samples_ms, 99)) for c in candidates if c.samples_ms), default=0.0)


def _spread(samples: np.ndarray) -> np.ndarray:
    """Offsets from the middle of a row, (N,) in -0.35..0.35: wide where the samples are dense.

    Steps of the golden ratio fill an interval evenly without a random generator.
    """
    counts, edges = np.histogram(samples, bins=max(8, min(60, len(samples) // 8)))
    density = counts[np.clip(np.searchsorted(edges, samples, side="right") - 1, 0, len(counts) - 1)] / counts.max()
    steps = (np.arange(len(samples)) * 0.6180339887) % 1.0
    return np.asarray((steps - 0.5) * 0.7 * density)


def confusion_heat_map(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Rows: true classes, columns: what they were taken for; the deeper, the larger the share of the row.

    Even the smallest share has a quarter of the color, so that one mistake in a hundred is still seen.
    """
    counts = np.asarray(confusion)  # (classes, classes)
    classes = len(counts)
    picture = _confusion_colors(counts)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.imshow(picture, interpolation="none")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true class")
        axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.tick_params(which="minor", length=0)
        if classes <= LABELLED_CLASSES:
            short = [short_label(label, 16) for label in labels]
            axes.set_yticks(range(classes), short)
            upright = max(len(label) for label in short) <= 2
            axes.set_xticks(range(classes), short, rotation=0 if upright else 90)
            axes.grid(True, which="minor", color=GRID, linewidth=0.6)
        if classes <= NUMBERED_CLASSES:
            for i, j in np.argwhere(counts):
                color = "white" if picture[i, j, 3] > LABEL_ON_COLOR else INK
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=color, fontsize=10)

    side = WIDTH if classes <= NUMBERED_CLASSES else 640
    return draw("chart-confusion", f"Confusion matrix of {classes} classes", side, side, paint)


def _confusion_colors(counts: np.ndarray) -> np.ndarray:
    """(classes, classes, RGBA), the alpha by the share of the row."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = np.arange(len(counts))
    picture = np.empty((*counts.shape, 4))
    picture[..., :3] = WRONG
    picture[classes, classes, :3] = RIGHT
    picture[..., 3] = np.where(share > 0, 0.25 + 0.7 * share, 0.0)
    return picture


def _legend_below(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    entries = sorted(zip(labels, handles, strict=True), key=lambda entry: entry[0].startswith("budget"))
    figure.legend(
        [h for _, h in entries], [label for label, _ in entries], loc="outside lower center", ncols=2, labelcolor=MUTED
    )


def _color(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]
