"""Published: latencies that others measured and wrote down, with their sources, and what their models have to do."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl, PositiveFloat, PositiveInt, TypeAdapter, ValidationError, model_validator

from edgevit.catalog import latencies_folder, load_device
from edgevit.errors import BadFileError
from edgevit.latency.machine import MachineFigures, figures_of
from edgevit.latency.operators import Kind, Operator, at_precision
from edgevit.latency.roofline import Situation
from edgevit.schema import Record
from edgevit.yamlfile import read_yaml

PUBLISHED, OPERATORS = "published.yaml", "operators.json"
Use = Literal["calibrates", "tests"]
RowPrecision = Literal["fp32", "fp16", "int8-static", "int8-dynamic"]
# Kind, count, macs, weights and activations, as operators.json has them; all in fp32.
CountedOperator = tuple[Kind, PositiveInt, int, int, int]


class PublishedRow(Record):
    """`model`: with '@' and the side of its pictures in pixels, as in operators.json. ms: batch 1."""

    model: str
    precision: RowPrecision
    threads: PositiveInt
    ms: PositiveFloat
    use: Use


class PublishedTable(Record):
    """Rows of one source. `device`: the profile whose figures hold; `machine`: the figures where no profile does."""

    board: str
    device: str | None = None
    machine: MachineFigures | None = None
    runtime: str
    version: str
    date: str
    statistic: Literal["mean", "median"]
    url: HttpUrl | None = None
    note: str
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_machine(self) -> PublishedTable:
        if (self.device is None) == (self.machine is None):
            raise ValueError("needs either a device or a machine")
        return self


class PublishedTables(Record):
    tables: tuple[PublishedTable, ...]


def load_published(path: Path | None = None) -> tuple[PublishedTable, ...]:
    """All tables that come with edgevit, or those of `path`. Raises BadFileError."""
    return read_yaml(path or latencies_folder() / PUBLISHED, PublishedTables).tables


def situation_of(table: PublishedTable, row: PublishedRow) -> Situation:
    """What the row timed. Raises BadFileError for a model that was not counted, UnknownNameError for a device."""
    machine = table.machine or _device_figures(table.device or "")
    operators = counted_models().get(row.model)
    if operators is None:
        raise BadFileError(PUBLISHED, f"the model '{row.model}' is not in {OPERATORS}.", fix="Count it.")
    board = table.device or table.board
    return Situation(row.model, at_precision(operators, row.precision), machine, board, table.runtime, row.threads)


@functools.cache
def _device_figures(name: str) -> MachineFigures:
    return figures_of(load_device(name))


@functools.cache
def counted_models() -> dict[str, tuple[Operator, ...]]:
    """Operators in fp32 of the models that tests/benchmarks/count_published_models.py counted. Raises BadFileError."""
    path = latencies_folder() / OPERATORS
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        models = TypeAdapter(dict[str, list[CountedOperator]]).validate_python(document["models"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadFileError(path, "cannot be read. Reinstall edgevit.") from error
    return {
        name: tuple(Operator(kind, "fp32", macs, weights, size, count) for kind, count, macs, weights, size in rows)
        for name, rows in models.items()
    }
