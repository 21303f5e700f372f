"""Puts pydantic's findings into one line of plain words: where, what is wrong, what is allowed."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgevit.schema import Record

Location = tuple[str | int, ...]
MAX_SHOWN = 60

# What a value must be, by pydantic's error type; the names in braces come from the error's context.
# Source: Pydantic documentation, "Validation Errors".
_RULES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "model_type": "must be a mapping (key: value)",
    "dict_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "url_parsing": "must be a web address",
    "url_scheme": "must be a web address",
    "url_type": "must be a web address",
}


class Problem(NamedTuple):
    where: str
    text: str


def describe_error(error: ValidationError, record_type: type[Record], lines: Mapping[Location, int]) -> Problem:
    """The finding that stands first in the file, and how many more there are.

    lines: on which line each key and list item stands; () is the file's first. An unknown key goes before a missing
    one: it is mostly the missing one, misspelled.
    """
    found = [item for item in error.errors(include_url=False) if not _has_inner(item["loc"], error)]
    first = min(found, key=lambda item: (item["type"] == "missing", _line(item["loc"], lines)))
    text = _text(first, record_type)
    more = len(found) - 1
    if more:
        text += f" ({more} more problem{'s' if more > 1 else ''} in this file.)"
    return Problem(_where(first["loc"], lines), text)


def _has_inner(location: Location, error: ValidationError) -> bool:
    """A list whose items are wrong is also reported as too short, because the wrong ones do not count."""
    depth = len(location)
    return any(len(other["loc"]) > depth and other["loc"][:depth] == location for other in error.errors())


def _line(location: Location, lines: Mapping[Location, int]) -> int:
    """The line of the key, or of the nearest one above it that the file has."""
    while location and location not in lines:
        location = location[:-1]
    return lines.get(location, 1)


def _where(location: Location, lines: Mapping[Location, int]) -> str:
    line = f"line {_line(location, lines)}"
    return f"{line}, key '{'.'.join(str(part) for part in location)}'" if location else line


def _text(item: ErrorDetails, record_type: type[Record]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        key, known = str(item["loc"][-1]), _allowed_keys(record_type, item["loc"][:-1])
        return f"unknown key '{key}'.{_nearest(key, known)} Allowed: {', '.join(known)}."
    if kind == "missing":
        return "this key is missing."
    if kind == "literal_error":
        allowed = str(context["expected"])
        names = allowed.split("'")[1::2]
        return f"must be {allowed}, not {_shown(item['input'])}.{_nearest(item['input'], names)}"
    if kind == "json_invalid":
        return "holds an escape that stands for no character."
    if kind == "value_error":
        return f"{context['error']}."
    rule = _RULES.get(kind)
    must = rule.format(**context) if rule else item["msg"].replace("Input should be", "must be")
    hint = " Put it in quotes." if kind == "string_type" and isinstance(item["input"], int | float) else ""
    return f"{must}, not {_shown(item['input'])}.{hint}"


def _nearest(name: object, known: list[str]) -> str:
    nearest = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


def _shown(value: object) -> str:
    """The value as the file's author would recognize it."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _allowed_keys(record_type: type[Record], location: Location) -> list[str]:
    """The keys of the record that `location` leads to."""
    record: type[Record] | None = record_type
    for part in location:
        if isinstance(part, str) and record is not None:
            record = _record_in(record.model_fields[part].annotation)
    return list(record.model_fields) if record else []


def _record_in(annotation: Any) -> type[Record] | None:
    """The Record inside `Record | None`, `tuple[Record, ...]` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _record_in(inner))), None)
