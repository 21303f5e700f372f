"""Output: what a command says, for people on the terminal or as one JSON document."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgevit.schema import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from rich.table import Table

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Output:
    """How this command was asked to speak. --json: one document on stdout; progress and logs on stderr either way."""

    is_json: bool = False
    is_verbose: bool = False
    has_spoken: bool = False

    def document(self, document: Record | dict[str, Any]) -> None:
        self.has_spoken = True
        plain = document.model_dump(mode="json") if isinstance(document, Record) else document
        _say(json.dumps({"schema_version": SCHEMA_VERSION, **plain}, indent=2, ensure_ascii=False))

    def text(self, line: str = "") -> None:
        if not self.is_json:
            _say(line)

    def table(self, table: Table) -> None:
        """As wide as the terminal; as wide as it needs where there is none, so that nothing is cut in a file."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else 220
        console = Console(width=width, highlight=False)
        with console.capture() as drawn:
            console.print(table)
        _say(drawn.get().rstrip("\n"))

    def next(self, *words: str | Path) -> None:
        """The next sensible command, quoted so that it can be typed as it stands."""
        self.text(f"\nNext: {shlex.join(map(str, words))}")

    def fail(self, message: str, exit_code: int) -> int:
        line = " ".join(message.split())
        if self.is_json and not self.has_spoken:  # an invalid measurement's report is the one document
            self.document({"kind": "error", "exit_code": exit_code, "message": line})
        with contextlib.suppress(OSError):  # a terminal that is closed, a reader that has left
            click.echo(f"Error: {line}", err=True)
        return exit_code


def _say(text: str) -> None:
    """`text` and a line's end on stdout. When nobody reads on, as in 'edgevit models | head', it goes nowhere."""
    try:
        click.echo(text)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # takes what is still buffered, and what else the command says
        os.close(nowhere)


def _set_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.find_object(Output).is_json |= value  # type: ignore[union-attr]  # a group's own does not undo a command's


def _set_verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.find_object(Output).is_verbose |= value  # type: ignore[union-attr]


def speaking(command: Command) -> Command:
    """Adds --json and -v/--verbose, and passes the Output as the first argument."""
    passed: Any = click.make_pass_decorator(Output)(command)
    for decorate in (
        click.option("--json", is_flag=True, is_eager=True, expose_value=False, callback=_set_json,
                     help="One JSON document on stdout."),
        click.option("-v", "--verbose", is_flag=True, is_eager=True, expose_value=False, callback=_set_verbose,
                     help="Show where an error came from."),
    ):  # fmt: skip
        passed = decorate(passed)
    return passed  # type: ignore[no-any-return]
