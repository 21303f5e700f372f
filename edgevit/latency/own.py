"""Own: latencies that the user measured on boards of their own, kept beside edgevit's settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from edgevit.artifact import Sha256
from edgevit.errors import BadFileError
from edgevit.latency.machine import MachineFigures
from edgevit.latency.operators import Kind, Operator, Precision
from edgevit.latency.roofline import Situation
from edgevit.schema import SCHEMA_VERSION, Record, SchemaVersion
from edgevit.schemaerrors import describe_error
from edgevit.store import config_folder, write_json

FILE = "latencies.json"
# An operator of latency.operators, field by field.
OperatorFields = tuple[Kind, Precision, NonNegativeInt, NonNegativeInt, NonNegativeInt, PositiveInt]


class OwnRow(Record):
    """A measured median. It stands by itself: the bundle and the profile may change or go.

    host: by which name ssh reached the board; '' for none. operators: as in latency.operators, field by field.
    """

    model: str
    precision: str
    device: str
    host: str
    runtime: str
    runtime_version: str
    threads: PositiveInt
    artifact_sha256: Sha256
    p50_ms: PositiveFloat
    machine: MachineFigures
    operators: tuple[OperatorFields, ...]

    @property
    def identity(self) -> tuple[str | int, ...]:
        """What a later measurement of the same replaces."""
        return self.artifact_sha256, self.device, self.host, self.runtime, self.runtime_version, self.threads

    @property
    def situation(self) -> Situation:
        operators = tuple(Operator(*fields) for fields in self.operators)
        return Situation(self.model, operators, self.machine, self.device, self.runtime, self.threads)


class OwnRows(Record):
    schema_version: SchemaVersion = SCHEMA_VERSION
    kind: Literal["latencies"] = "latencies"
    rows: tuple[OwnRow, ...] = ()


def own_path() -> Path:
    return config_folder() / FILE


def read_own() -> tuple[OwnRow, ...]:
    """The user's rows; none where there is no file yet. Raises BadFileError."""
    path = own_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, f"cannot be read ({error}).") from None
    try:
        json.loads(text)
        return OwnRows.model_validate_json(text).rows
    except ValidationError as error:
        finding = describe_error(error, OwnRows, {})
        raise _unreadable(path, finding.text, finding.where) from None
    except (ValueError, RecursionError):
        raise _unreadable(path, "is not JSON.") from None


def with_rows(known: Iterable[OwnRow], new: Iterable[OwnRow]) -> tuple[OwnRow, ...]:
    """All rows; of two of the same, the later."""
    return tuple({row.identity: row for row in (*known, *new)}.values())


def write_own(rows: tuple[OwnRow, ...]) -> Path:
    """The file that they are in now, written whole or not at all. Raises BadFileError."""
    path = own_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFileError(path, f"cannot be written: {error.strerror}.") from None
    write_json(path, OwnRows(rows=rows))
    return path


def _unreadable(path: Path, problem: str, where: str = "") -> BadFileError:
    return BadFileError(path, problem, where, fix="Mend it, or remove it and calibrate again.")
