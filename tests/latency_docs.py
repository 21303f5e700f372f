"""How well latencies are predicted, written into README.md and devices/latencies/README.md (make docs; --check)."""

from __future__ import annotations

import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgevit.latency.coefficients import library_of
from edgevit.latency.predict import Predictor, predictor_of, published_rows
from edgevit.latency.published import PublishedRow, PublishedTable, load_published, situation_of

CHECKOUT = Path(__file__).resolve().parent.parent
README, PAGE = CHECKOUT / "README.md", CHECKOUT / "devices" / "latencies" / "README.md"
START, END = "<!-- latencies: written by make docs -->\n", "<!-- end of latencies -->"
NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)( %)?")
# What is worked out in floats; whatever else is counted, or copied.
COMPUTED = {"Predicted", "90 % interval", "Error", "Median error", "Largest factor"}
HEAD = """\
# Published latencies, and how well they are predicted

Written by `make docs` from `published.yaml`, where the sources and the rule of the split stand. Milliseconds, batch 1.
A row that calibrated had a part in its prediction; one that tests had none, and a model or a board that tests does so
in every row. The interval is the one that 90 of 100 medians should lie in. Rows by edgevit are published nowhere else:
edgevit measured them itself, on one machine, and they are counted by themselves.

{summary}
| Board | Runtime | Model | Precision | Threads | By | Measured | Predicted | 90 % interval | Error | Use |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}
"""


class Judged(NamedTuple):
    """A row with what was predicted of it, in milliseconds."""

    table: PublishedTable
    row: PublishedRow
    predicted: float
    interval: tuple[float, float]

    @property
    def is_published(self) -> bool:
        """False for what edgevit measured itself."""
        return self.table.url is not None

    @property
    def error(self) -> float:
        return self.predicted / self.row.ms - 1

    @property
    def factor(self) -> float:
        return max(self.predicted / self.row.ms, self.row.ms / self.predicted)

    @property
    def is_inside(self) -> bool:
        return self.interval[0] <= self.row.ms <= self.interval[1]


def main() -> int:
    judged = judge(predictor_of(published_rows("calibrates"), ()))
    before, rest = README.read_text(encoding="utf-8").split(START)
    wanted = {
        README: f"{before}{START}{summary(judged)}{END}{rest.split(END)[1]}",
        PAGE: HEAD.format(summary=summary(judged), rows="\n".join(line(item) for item in judged)),
    }
    if "--check" in sys.argv:
        stale = [path for path, text in wanted.items() if not path.exists() or not is_same(path.read_text(), text)]
        for path in stale:
            print(f"{path.relative_to(CHECKOUT)}: differs from what is predicted. Run: make docs", file=sys.stderr)
        return int(bool(stale))
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


def judge(predictor: Predictor) -> list[Judged]:
    """All rows that come with edgevit."""
    found = []
    for table in load_published():
        for row in table.rows:
            prediction = predictor.predict(situation_of(table, row))
            found.append(Judged(table, row, prediction.median_milliseconds, prediction.interval90_milliseconds))
    return found


def summary(judged: Sequence[Judged]) -> str:
    """Of published rows a line each library of kernels and kind of machine, and one of all; then edgevit's own."""
    groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    published = [item for item in judged if item.is_published]
    for item in published:
        groups[library_of(item.table.runtime), "boards" if item.table.device else "x86"].append(item)
    lines = [_summary_line(f"{library}, {where}", items) for (library, where), items in groups.items()]
    lines.append(_summary_line("**all published**", published))
    lines.append(_summary_line("measured by edgevit, x86", [item for item in judged if not item.is_published]))
    head = "| Kernels, machines | Calibrated | Tested | Median error | Largest factor | Above 2× | In the interval |\n"
    return f"{head}|---|---|---|---|---|---|---|\n" + "".join(lines)


def line(item: Judged) -> str:
    row, low, high = item.row, *item.interval
    figures = f"{row.ms:g} | {item.predicted:.3g} | {low:.3g}–{high:.3g} | {100 * item.error:+.0f} %"
    return (
        f"| {item.table.board} | {item.table.runtime} | {row.model} | {row.precision} | {row.threads} | "
        f"{'published' if item.is_published else 'edgevit'} | {figures} | "
        f"{'calibrated' if row.use == 'calibrates' else 'tested'} |"
    )


def is_same(one: str, other: str) -> bool:
    """The same words and counts; what is computed in tables differs by no more than arithmetic from machine to machine.

    That is 2 % of each figure, or a point of a figure in per cent, which are written without decimals.
    """
    ours, theirs = one.splitlines(), other.splitlines()
    heads: list[str] = []
    for line, wanted in zip(ours, theirs, strict=False):
        cells, wanted_cells = line.split("|"), wanted.split("|")
        if not line.startswith("|") or not heads or len(cells) != len(wanted_cells):
            if line != wanted:
                return False
            heads = [cell.strip() for cell in cells] if line.startswith("|") else []
        elif not all(map(_is_same_cell, heads, cells, wanted_cells)):
            return False
    return len(ours) == len(theirs)


def of_tests(judged: Iterable[Judged]) -> list[Judged]:
    return [item for item in judged if item.row.use == "tests"]


def _is_same_cell(head: str, one: str, other: str) -> bool:
    if head not in COMPUTED or NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return one == other
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(
        abs(float(a) - float(b)) <= max(0.02 * abs(float(b)), 1.0 if unit else 0.0) for (a, unit), (b, _) in pairs
    )


def _summary_line(name: str, items: Sequence[Judged]) -> str:
    tests = of_tests(items)
    median = statistics.median(abs(item.error) for item in tests)
    inside = sum(item.is_inside for item in tests) / len(tests)
    above = sum(item.factor > 2 for item in tests)
    return (
        f"| {name} | {len(items) - len(tests)} | {len(tests)} | {100 * median:.0f} % | "
        f"{max(item.factor for item in tests):.2f}× | {above} | {100 * inside:.0f} % |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
