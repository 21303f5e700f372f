"""The page of a search: every trial as a point, the front, and what was chosen, in one HTML file."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevit.report.html import fill, safe
from edgevit.report.svg import BAD, GOOD, INK, MUTED, SERIES, draw
from edgevit.report.tables import Cell, budget_words, drop_cell
from edgevit.search.describe import details, in_words
from edgevit.search.front import cost_title, cost_words
from edgevit.search.trials import Trial, TuneResult
from edgevit.units import format_percent, format_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "front.html.j2"
WIDTH, HEIGHT = 560, 360
SHOWN_BUDGETS = 4  # how many times the limit of accuracy the chart reaches


@dataclass(frozen=True)
class PointRow:
    """One point of the front. `pick`: its number for --pick."""

    pick: int
    trial: int
    cost: Cell
    drop: Cell
    speed: Cell
    policy: str
    details: str
    is_chosen: bool


def render_front(result: TuneResult) -> str:
    """The whole page as HTML; the same result gives the same text. Every text is escaped.

    Raises MissingExtraError when jinja2 or matplotlib is not installed.
    """
    return fill(TEMPLATE, _context(result))


def front_rows(result: TuneResult) -> tuple[PointRow, ...]:
    """The front, fastest first, as it stands on the page and in the terminal."""
    points = [result.trial(number) for number in result.front]
    return tuple(_row(result, pick, point) for pick, point in enumerate(points, start=1))


def front_chart(result: TuneResult) -> str | None:
    """Points lost over latency: all trials, the front as a line, the chosen point; None without a complete trial."""
    whole = [trial for trial in result.trials if trial.outcome == "complete"]
    partial = [trial for trial in result.trials if trial.outcome == "partial"]
    if not whole:
        return None
    front = [result.trial(number) for number in result.front]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for trials, marker, color, label in (
            (partial, "x", MUTED, "stopped early: the first pictures only"),
            (whole, "o", SERIES[0], "measured on all pictures"),
        ):
            x, y = _figures(trials)
            if x:
                axes.plot(x, y, marker, color=color, markersize=5, alpha=0.6, linestyle="none", label=label)
        x, y = _figures(front)
        axes.plot(x, y, "-", color=SERIES[1], linewidth=1.4, drawstyle="steps-post")
        axes.plot(x, y, "o", color=SERIES[1], markersize=7, label="front")
        if result.chosen is not None:
            x, y = _figures([result.trial(result.chosen)])
            axes.plot(x, y, "o", color=GOOD, markeredgecolor=INK, markersize=11, label="chosen")
        budget = result.verdict.budget
        lowest = min(trial.drop.points for trial in whole if trial.drop)
        if budget.max_drop is not None:
            label = f"budget: {budget.max_drop:g} point{'' if budget.max_drop == 1 else 's'}"
            axes.axhline(budget.max_drop, color=BAD, linewidth=1, linestyle=(0, (4, 3)), label=label)
            # Points far beyond the budget would press all the others into a line.
            axes.set_ylim(min(0.0, lowest) - 0.2, _upper_edge(result))
        if budget.max_latency_ms is not None:
            axes.axvline(budget.max_latency_ms, color=BAD, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_xlim(left=0)
        axes.set_xlabel(f"latency, {result.unit}" if result.unit == "ms" else result.unit)
        axes.set_ylabel("points below fp32")
        figure.legend(loc="outside lower center", ncols=2, labelcolor=MUTED)

    return draw("chart-front", "Accuracy lost over latency, by trial", WIDTH, HEIGHT, paint)


def headline(result: TuneResult) -> str:
    """The verdict in one sentence."""
    if result.chosen is None:
        is_judged = result.verdict.within_budget is False
        return "No point of the front meets the budget." if is_judged else "No point of the front is chosen yet."
    point = result.trial(result.chosen)
    latency, _ = point.figures
    drop = result.test_drop or point.drop
    lost = f", {format_points(-drop.points)} against fp32" if drop else ""
    tested = f", {format_percent(result.chosen_test.top1)} right on the test pictures" if result.chosen_test else ""
    return f"{cost_words(latency, result.unit)}{tested}{lost}: {in_words(point.variant)}."


def _context(result: TuneResult) -> dict[str, Any]:
    chart = front_chart(result)
    others = [trial for trial in result.trials if trial.outcome in ("partial", "failed", "skipped")]
    return {
        "result": result,
        "cost_title": cost_title(result.unit),
        "headline": headline(result),
        "budget": budget_words(result.verdict.budget),
        "rows": front_rows(result),
        "chart": safe(chart),
        "points_beyond": _points_beyond(result),
        "others": [(trial, in_words(trial.variant), _latency(trial, result.unit)) for trial in others],
        "next_command": shlex.join(["edgevit", "bench", result.bundle]) if result.bundle else "",
    }


def _row(result: TuneResult, pick: int, trial: Trial) -> PointRow:
    cost, _ = trial.figures
    fp32 = None if result.fp32 is None else result.trial(result.fp32).cost
    return PointRow(
        pick=pick,
        trial=trial.number,
        cost=Cell(cost_words(cost, result.unit)),
        drop=drop_cell(trial.drop),
        speed=Cell(f"{fp32 / cost:.2f}×") if fp32 else Cell("not measured", is_figure=False),
        policy=in_words(trial.variant),
        details=details(trial.policy),
        is_chosen=trial.number == result.chosen,
    )


def _figures(trials: list[Trial]) -> tuple[list[float], list[float]]:
    measured = [(trial.cost, trial.drop.points) for trial in trials if trial.cost and trial.drop]
    return [x for x, _ in measured], [y for _, y in measured]


def _upper_edge(result: TuneResult) -> float:
    """Points lost at the chart's upper edge; infinite without a limit of accuracy."""
    limit = result.verdict.budget.max_drop
    front = [drop.points for number in result.front if (drop := result.trial(number).drop)]
    return math.inf if limit is None else max(SHOWN_BUDGETS * limit, 1.0, *(1.1 * points for points in front))


def _points_beyond(result: TuneResult) -> int:
    edge = _upper_edge(result)
    return sum(bool(trial.drop and trial.cost and trial.drop.points > edge) for trial in result.trials)


def _latency(trial: Trial, unit: str) -> str:
    if trial.cost:
        return cost_words(trial.cost, unit)
    return f"about {cost_words(trial.predicted.cost, unit)}" if trial.predicted else "not measured"
