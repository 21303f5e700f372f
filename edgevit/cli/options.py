"""Options that several commands share, each defined once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from edgevit.recipe import PRETRAINED, Calibrator, Precision, RuntimeName

Command = TypeVar("Command", bound=Callable[..., Any])

OUTPUT_PATH = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """A number in a range, and neither NaN nor infinite, which pass click's comparisons."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


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
    click.option("--runtime", type=click.Choice(get_args(RuntimeName)), default="onnxruntime", show_default=True),
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
