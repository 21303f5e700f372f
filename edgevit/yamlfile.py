"""Reads a YAML file into a validated record; whatever is wrong with it is one line with file, line and key.

A small, safe part of YAML is read: mappings, lists and plain values. Tags, anchors and aliases are refused, so a file
can neither create objects nor unfold into gigabytes. Plain values follow YAML 1.2's core schema, so that `no` is text
and `5e-4` is a number.
Source: YAML 1.2.2, section 10.3 (core schema).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import ValidationError
from yaml import events

from edgevit.errors import BadFileError
from edgevit.schema import Record
from edgevit.schemaerrors import describe_error
from edgevit.units import MIB

MAX_BYTES = MIB
MAX_DEPTH = 32
_TOO_LARGE = f"is larger than {MAX_BYTES // MIB} MiB; that is no recipe or device profile."
Location = tuple[str | int, ...]
RecordT = TypeVar("RecordT", bound=Record)

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", "+.inf", ".Inf", ".INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}


def read_yaml(path: Path, record_type: type[RecordT]) -> RecordT:
    """The record that the file says. Unknown and duplicate keys and values of another type are refused.

    Raises BadFileError (exit code 2).
    """
    return parse_yaml(_read_text(path), path, record_type)


def parse_yaml(text: str, path: Path, record_type: type[RecordT]) -> RecordT:
    """The record that `text` says, as read_yaml reads it. path: the file that it is of, for messages."""
    if len(text) > MAX_BYTES:
        raise BadFileError(path, _TOO_LARGE)
    lines: dict[Location, int] = {}
    try:
        # The pure-Python parser: libyaml's words for the same mistake differ from build to build.
        value = _Builder(path, lines).document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"a character that YAML does not allow (U+{error.character:04X})."
        raise BadFileError(path, problem, f"line {line}") from None
    try:
        # Through JSON, because pydantic's strict mode then still takes lists for tuples and text for addresses.
        return record_type.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        finding = describe_error(error, record_type, lines)
        raise BadFileError(path, finding.text, finding.where) from None


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise BadFileError(path, "is a directory, not a YAML file.")
        if not path.exists():
            raise BadFileError(path, "no such file. Check the path.")
        if not path.is_file():
            raise BadFileError(path, "is not a regular file.")
        if path.stat().st_size > MAX_BYTES:
            raise BadFileError(path, _TOO_LARGE)
        data = path.read_bytes()
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error.strerror}.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadFileError(path, "is not UTF-8 text.", f"line {line}", "Save it as UTF-8.") from None


def _syntax_error(path: Path, error: yaml.MarkedYAMLError) -> BadFileError:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = error.problem or error.context or "cannot be parsed"
    if "'\\t'" in problem:
        return BadFileError(path, "YAML is indented with spaces; here is a tab.", where)
    return BadFileError(path, f"YAML syntax: {problem}.", where)


class _Builder:
    """Turns parser events into plain values and notes on which line (from 1) each key and list item stands."""

    def __init__(self, path: Path, lines: dict[Location, int]) -> None:
        self.path = path
        self.lines = lines

    def document(self, stream: Iterator[Any]) -> dict[str, Any]:
        value: dict[str, Any] | None = None
        for event in stream:
            if isinstance(event, events.DocumentStartEvent):
                if value is not None:
                    self._refuse(event, "a second document begins ('---'); one file is one record.")
                value = self._root(stream)
        if value is None:
            raise BadFileError(self.path, "is empty.")
        return value

    def _root(self, stream: Iterator[Any]) -> dict[str, Any]:
        first = next(stream)
        self.lines[()] = first.start_mark.line + 1
        value = self._value(first, stream, ())
        if value is None:
            raise BadFileError(self.path, "is empty.")
        if not isinstance(value, dict):
            found = "a list" if isinstance(value, list) else "a single value"
            self._refuse(first, f"must be a mapping (key: value), not {found}.")
        return value

    def _value(self, event: Any, stream: Iterator[Any], at: Location) -> Any:
        if len(at) > MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH} levels.")
        if isinstance(event, events.AliasEvent) or event.anchor is not None:
            name = event.anchor
            self._refuse(event, f"anchors and aliases ('&{name}', '*{name}') are not allowed; write it out.")
        if event.tag is not None:
            self._refuse(event, f"YAML tags are not allowed ('{event.tag}').")
        if isinstance(event, events.MappingStartEvent):
            return self._mapping(stream, at)
        if isinstance(event, events.SequenceStartEvent):
            return self._sequence(stream, at)
        return _plain(event.value) if event.implicit[0] else event.value

    def _mapping(self, stream: Iterator[Any], at: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(stream), events.MappingEndEvent):
            key = self._value(event, stream, at)
            if not isinstance(key, str):
                self._refuse(event, "a key must be text; put it in quotes.")
            if key == "<<":
                self._refuse(event, "merging with '<<' is not allowed; write the keys out.")
            if key in values:
                self._refuse(event, f"duplicate key '{key}'; it stands on line {self.lines[(*at, key)]} already.")
            self.lines[(*at, key)] = event.start_mark.line + 1
            values[key] = self._value(next(stream), stream, (*at, key))
        return values

    def _sequence(self, stream: Iterator[Any], at: Location) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(stream), events.SequenceEndEvent):
            here = (*at, len(values))
            self.lines[here] = event.start_mark.line + 1
            values.append(self._value(event, stream, here))
        return values

    def _refuse(self, event: Any, problem: str) -> NoReturn:
        mark = event.start_mark
        raise BadFileError(self.path, problem, f"line {mark.line + 1}, column {mark.column + 1}")


def _plain(text: str) -> bool | int | float | str | None:
    """What an unquoted scalar means. Numbers written otherwise (0x10, 1_000, 010) stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?0[0-9]+", text):
        return float(text)
    return text
