"""The matrix in words: the same on its page and in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.report.html import fill
from edgevit.report.tables import Cell
from edgevit.results import Matrix, MatrixCell
from edgevit.units import format_mib, format_ms, format_percent

TEMPLATE = "matrix.html.j2"
NOTHING = "–"
FAILED = "fails parity"


@dataclass(frozen=True)
class Row:
    """One model in one runtime, with a cell for each of the table's precisions."""

    model: str
    runtime: str
    cells: tuple[Cell, ...]


def render_matrix(matrix: Matrix) -> str:
    """The whole page as HTML; the same matrix gives the same text. Every text is escaped.

    Raises MissingExtraError when jinja2 is not installed.
    """
    return fill(
        TEMPLATE,
        {
            "matrix": matrix,
            "title": title(matrix),
            "precisions": precisions(matrix),
            "rows": matrix_rows(matrix),
            "reasons": reasons(matrix),
            "share": f"{100 * matrix.share_of_numbers:.0f} %",
        },
    )


def title(matrix: Matrix) -> str:
    """What was measured where."""
    threads = f"{matrix.threads} thread{'' if matrix.threads == 1 else 's'}"
    if matrix.measured_on:
        return f"{matrix.device}, batch 1, {threads}: median latencies on {matrix.measured_on}, taking turns"
    return f"{matrix.device}, batch 1: nothing could be timed here; estimated instructions where they are known"


def precisions(matrix: Matrix) -> tuple[str, ...]:
    """The columns, in the order in which the cells name them."""
    return tuple(dict.fromkeys(cell.precision for model in matrix.models for cell in model.cells))


def matrix_rows(matrix: Matrix) -> tuple[Row, ...]:
    """One for each model and runtime; a cell without a figure has the number of its reason."""
    numbers = {reason: number for number, reason, _ in reasons(matrix)}
    columns = precisions(matrix)
    found = []
    for model in matrix.models:
        for runtime in dict.fromkeys(cell.runtime for cell in model.cells):
            mine = {cell.precision: cell for cell in model.cells if cell.runtime == runtime}
            cells = tuple(_words(mine[each], numbers) if each in mine else _nothing() for each in columns)
            found.append(Row(model.model, runtime, cells))
    return tuple(found)


def reasons(matrix: Matrix) -> tuple[tuple[int, str, str], ...]:
    """(number, reason, upstream link or '') of the cells without a figure, each reason once."""
    found = {cell.reason: cell.link for model in matrix.models for cell in model.cells if cell.reason}
    return tuple((number, reason, link) for number, (reason, link) in enumerate(found.items(), start=1))


def _words(cell: MatrixCell, numbers: dict[str, int]) -> Cell:
    note = f" [{numbers[cell.reason]}]" if cell.reason else ""
    if cell.outcome == "nothing":
        return Cell(f"{NOTHING}{note}", is_figure=False)
    if cell.outcome == "parity":
        return Cell(f"{FAILED}{note}", is_figure=False)
    size = format_mib(cell.size_mib or 0.0)
    agreement = [] if cell.top1_agreement is None else [f"agrees on {format_percent(100 * cell.top1_agreement)}"]
    accuracy = [f"top-1 {format_percent(cell.accuracy.top1)}"] if cell.accuracy else agreement
    drop = [f"{-cell.drop.points:+.2f} points"] if cell.drop else []
    detail = ", ".join([size, *accuracy, *drop])
    if cell.p50_ms is not None:
        return Cell(format_ms(cell.p50_ms), detail)
    if cell.million_instructions is not None:
        return Cell(f"{cell.million_instructions:.0f} M instr.", detail)
    return Cell(f"exported{note}", detail, is_figure=False)


def _nothing() -> Cell:
    return Cell(NOTHING, is_figure=False)
