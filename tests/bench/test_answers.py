"""What a worker's process says on its own output, and how it ends."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edgevit.bench.process import Write, answer
from edgevit.errors import EdgevitError, InputError, MeasurementError

Told = tuple[int, list[dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """run(serve, …) is what answer() returns, and what it writes to this process's own output."""

    def ended(serve: Callable[[Write], None], *how: Any) -> Told:
        reader, writer = os.pipe()
        with open(os.devnull, "w") as nowhere, os.fdopen(writer, "w") as output, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            patch.setattr(sys, "stderr", nowhere)
            code = answer(serve, *how)
        with os.fdopen(reader) as told:
            return code, [json.loads(line) for line in told]

    return ended


def raising(error: Exception) -> Callable[[Write], None]:
    def serve(write: Write) -> None:
        raise error

    return serve


def test_answers_are_lines_and_what_is_printed_is_none(run: Callable[..., Told]) -> None:
    def serve(write: Write) -> None:
        write({"a": 1})
        print("a runtime's banner")
        write({"b": [2.5, None]})

    assert run(serve) == (0, [{"a": 1}, {"b": [2.5, None]}])


def test_an_error_of_edgevit_is_told_in_its_own_words(run: Callable[..., Told]) -> None:
    assert run(raising(InputError("m.onnx: is empty."))) == (2, [{"error": "m.onnx: is empty."}])


def test_the_kind_that_is_told_has_a_key_of_its_own(run: Callable[..., Told]) -> None:
    assert run(raising(InputError("No.")), InputError, "refused") == (2, [{"refused": "No."}])


def test_another_kind_is_an_error_with_its_type(run: Callable[..., Told]) -> None:
    assert run(raising(MeasurementError("Late.")), InputError, "refused") == (1, [{"error": "MeasurementError: Late."}])


def test_a_runtimes_error_is_one_line_of_at_most_300_characters(run: Callable[..., Told]) -> None:
    code, (told,) = run(raising(RuntimeError("bad\n  node " + "x" * 400)), EdgevitError, "error")
    assert code == 1
    assert told["error"].startswith("RuntimeError: bad node xxx")
    assert len(told["error"]) == len("RuntimeError: ") + 300
