"""Options that several commands share, each defined once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from edgevit.errors import InputError
from edgevit.recipe import AUTO, PRETRAINED, Calibrator, Precision, RuntimeName

Command = TypeVar("Command", bound=Callable[..., Any])

OUTPUT_PATH = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """A number in a range, and neither NaN nor infinite, which pass click's comparisons."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Starts(click.IntRange):
    """A number of cold starts. Where it is left out and the bundle follows, click takes the bundle for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            int(value)
        except ValueError:
            first = f"Name the bundle first: edgevit bench {value} --cold-start"
            self.fail(f"{value!r} is not a whole number of starts. {first}", param, ctx)
        return int(super().convert(value, param, ctx))


def parsed(name: str, otherwise: object) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that reads an option by the function `name` of board.options; `otherwise` where it is not given."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        from edgevit.board import options as board_options  # which brings numpy

        try:
            return otherwise if value is None else getattr(board_options, name)(value)
        except InputError as error:
            raise click.BadParameter(f"{error}.", context, parameter) from None

    return read


def is_given(context: click.Context, name: str) -> bool:
    """Whether the option was named on the command line, even with its default's value."""
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def several(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """One decorator that applies `decorators` in the order in which --help shall list them."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


device = click.option("--device", default="local", show_default=True, help="The target board, or a profile's path.")
DATA = "A folder of class folders, or a named dataset such as fashion-mnist."
data = click.option("--data", help=DATA)
required_data = click.option("--data", required=True, help=DATA)
offline = click.option("--offline", is_flag=True, help="Never go online; say what is missing instead.")
threads = click.option("--threads", type=click.IntRange(1, 1024), help="On the device.  [default: its profile's]")
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)

model = several(
    click.option(
        "--weights", default=PRETRAINED, show_default=True, help="pretrained, random, or a checkpoint's path."
    ),
    click.option("--image-size", type=click.IntRange(1, 4096), help="Side in pixels.  [default: the model's own]"),
    click.option("--channels", type=click.IntRange(1, 64), help="Input channels.  [default: 3]"),
)

export = several(
    click.option("--precision", type=click.Choice(get_args(Precision)), default="auto", show_default=True),
    click.option(
        "--runtime",
        type=click.Choice((AUTO, *get_args(RuntimeName))),
        default=AUTO,
        show_default=True,
        help="auto: each that the device has, if it can be timed here; else the first.",
    ),
    click.option("--opset", type=click.IntRange(17, 23), default=18, show_default=True),
    click.option("--dynamic-batch", is_flag=True, help="Leave the batch size free."),
    click.option(
        "--calibrator",
        type=click.Choice(("auto", *get_args(Calibrator))),
        default="auto",
        show_default=True,
        help="How the ranges of static INT8 are found; auto: whichever keeps nearest to fp32.",
    ),
    click.option("--calibration-images", type=click.IntRange(1, 100_000), default=128, show_default=True),
)

max_drop = click.option(
    "--max-drop", type=FiniteRange(0, 100), default=1.0, show_default=True, help="Top-1 points below fp32."
)
max_latency_ms = click.option("--max-latency-ms", type=FiniteRange(0, min_open=True), help="Median on the device.")
budget = several(
    max_drop,
    max_latency_ms,
    click.option("--max-size-mib", type=FiniteRange(0, min_open=True), help="Of the model's file."),
)

ssh_config = click.option(
    "--ssh-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Instead of ~/.ssh/config.",
)

# Names of the options below as click passes them on: the fields of board.options.BenchOptions.
TIMING = (
    "threads", "min_seconds", "min_runs", "duration", "percentiles", "batch", "streams", "cold_start", "single_stream",
    "cores", "cool_down", "set_governor",
)  # fmt: skip
timing = several(
    click.option("--threads", callback=parsed("parse_threads", ()), metavar="N[,N]",
                 help="Of the runtime; several, as 1,2,4, are measured one after the other.  [default: its profile's]"),
    click.option("--min-seconds", type=FiniteRange(0, 3600), help="Measure at least so long.  [default: 3]"),
    click.option("--min-runs", type=click.IntRange(1, 1_000_000), help="And at least so often.  [default: 64]"),
    click.option("--duration", type=FiniteRange(0, 86_400, min_open=True), help="Measure for so many seconds."),
    click.option("--percentiles", callback=parsed("parse_percentiles", ()), metavar="P[,P]",
                 help="More of them, as 95,99.9; each needs its number of runs."),
    click.option("--batch", type=click.IntRange(1, 4096), help="Pictures at a time; for bundles of any batch."),
    click.option("--streams", type=click.IntRange(1, 256), help="Sessions at a time, each running back to back."),
    click.option("--cold-start", type=Starts(3, 1000), is_flag=False, flag_value=10, metavar="[N]",
                 help="From the start of a process to its first logits, in N of them; after BUNDLE.  [default: 10]"),
    click.option("--single-stream", is_flag=True,
                 help="1,024 queries and 60 s at least, p90: like MLPerf SingleStream, no MLPerf result."),
    click.option("--cores", callback=parsed("parse_cores", None), metavar="LIST",
                 help="Hold it to cores: 4-7; big; little."),
    click.option("--cool-down", is_flag=True, help="Wait first until the CPU no longer cools, 5 minutes at most."),
    click.option("--set-governor", is_flag=True,
                 help="Set 'performance' meanwhile, by sudo if need be, and put the old governor back."),
)  # fmt: skip

boards = several(
    click.option("--host", "named", multiple=True, metavar="USER@BOARD", help="A board, over SSH; may be repeated."),
    click.option("--inventory", type=OUTPUT_PATH, help="Boards listed in hosts.yaml, or by ansible-inventory --list."),
    ssh_config,
    click.option("--wheels", type=click.Path(exists=True, file_okay=False, path_type=Path),
                 help="Take the board's packages from this folder of wheels only."),
    offline,
    click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Boards at a time."),
)  # fmt: skip

emulation = several(
    click.option("--emulate", is_flag=True, help="On an emulated board instead; nothing is timed."),
    click.option("--device", help="The board to emulate, or a profile's path.  [default: the bundle's]"),
    click.option("--data", help="Also compare with this machine on validation pictures of this data."),
    click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True,
                 help="How many of them at most."),
)  # fmt: skip
