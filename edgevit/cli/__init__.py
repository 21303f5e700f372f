"""The command line: parse, call, print. The only place where an error becomes an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import click

from edgevit import __version__
from edgevit.cli.output import Output
from edgevit.errors import EdgevitError

ENDING = (signal.SIGTERM, signal.SIGHUP)  # of kill, timeout, a service that stops; of a terminal that is closed
RESUMABLE = ("run", "finetune", "distill", "tune")


class Entry(NamedTuple):
    """Where a command is, and its line in `edgevit --help`: known without importing it."""

    module: str
    summary: str


COMMANDS = {
    "models": Entry("edgevit.cli.listing", "Models that edgevit knows, with size and published accuracy."),
    "devices": Entry("edgevit.cli.devices", "Boards that edgevit has a profile of, and this machine as 'local'."),
    "recipes": Entry("edgevit.cli.listing", "Recipes that come with edgevit; with a NAME, that recipe's text."),
    "run": Entry("edgevit.cli.run", "The whole flow of a recipe, from pictures to a verified bundle and a page."),
    "finetune": Entry("edgevit.cli.train", "Fine-tune a model on your pictures into a checkpoint."),
    "distill": Entry("edgevit.cli.train", "Fine-tune a model with a teacher's help into a checkpoint."),
    "evaluate": Entry("edgevit.cli.evaluate", "Accuracy of a checkpoint, an artifact or a bundle."),
    "export": Entry("edgevit.cli.export", "Export, quantize, verify and bundle a model for a device."),
    "tune": Entry("edgevit.cli.tune", "A measured search for the fastest form within an accuracy budget."),
    "matrix": Entry("edgevit.cli.matrix", "What every runtime makes of every model, in each precision."),
    "bench": Entry("edgevit.cli.bench", "Latency of a bundle here or on boards over SSH; or a run on an emulated one."),
    "profile": Entry("edgevit.cli.profile", "Where a bundle's time goes: by operator and by layer."),
    "compare": Entry("edgevit.cli.bench", "Reports or bundles side by side, and which differences are real."),
    "predict": Entry("edgevit.cli.predict", "The most likely classes of pictures, by a bundle."),
    "sign": Entry("edgevit.cli.sign", "Sign a bundle with an OpenSSH key."),
    "verify": Entry("edgevit.cli.sign", "Whether a bundle is whole, and signed by one who may."),
    "doctor": Entry("edgevit.cli.doctor", "What is missing here or on a board, with the exact fix."),
    "report": Entry("edgevit.cli.report", "The page of a run, written again."),
}


class LazyCommands(click.Group):
    """Imports a command's module only when that command is used or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from edgevit.errors import UnknownNameError

            raise UnknownNameError("command", args[0], COMMANDS, "edgevit --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgevit")
def cli() -> None:
    """Tiny vision transformers on small boards: fine-tune, quantize, verify, bundle, measure.

    Start with 'edgevit run digits-vit-tiny', or 'edgevit export deit_tiny_patch16_224 --device rpi5 -o bundle'.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # looked for here too, because an error in the words themselves is found before any option is read
    output = Output(is_json="--json" in itertools.takewhile(lambda word: word != "--", words))
    with _ended_as_by_ctrl_c() as received:
        exit_code = _run(words, output, received)
    sys.exit(exit_code)


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP in the block are a KeyboardInterrupt, once: what was begun is ended and cleared up.

    Yields the list that the signal's number is added to. Later ones are passed over, because `timeout` sends two. A
    signal that is ignored, as under nohup, stays so, and a forked child is ended by it as ever.
    """
    received: list[int] = []
    owner = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not received:
            received.append(number)
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    held = [number for number in ENDING if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in held:
        signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number in held:
            signal.signal(number, signal.SIG_DFL)


def _run(arguments: list[str], output: Output, received: list[int]) -> int:
    """The command's exit code. received: the signals other than Ctrl-C that came meanwhile."""
    try:
        result = cli.main(args=arguments, prog_name="edgevit", standalone_mode=False, obj=output)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return output.fail(error.format_message(), 2)
    except EdgevitError as error:
        if output.is_verbose:
            traceback.print_exc()
        return output.fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        is_kept = bool(arguments) and arguments[0] in RESUMABLE
        rest = "Give the same command again to go on." if is_kept else "Nothing half written is left behind."
        return output.fail(f"Interrupted. {rest}", 128 + (received[0] if received else signal.SIGINT))  # as in shells
    except Exception as error:
        if received:  # click tells a terminal of it that is closed already
            return 128 + received[0]
        if output.is_verbose:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = error.filename or "The output"
            return output.fail(f"{what}: cannot be written: the disk is full. Free some space.", 2)
        hint = "" if output.is_verbose else " Run again with -v to see where."
        return output.fail(f"edgevit itself failed: {type(error).__name__}: {error}.{hint}", 1)
