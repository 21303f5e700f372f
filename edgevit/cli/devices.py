"""edgevit devices: the boards there are, a profile for one that is not there yet, and what it measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.cli.overssh import facts_over_ssh
from edgevit.units import format_ms

if TYPE_CHECKING:
    from edgevit.machine.facts import Facts


@click.group("devices", invoke_without_command=True)
@speaking
def devices_command(output: Output) -> None:
    """Boards that edgevit has a profile of. Your own is one YAML file: --device path/to/board.yaml."""
    if click.get_current_context().invoked_subcommand is None:
        _list_devices(output)


@devices_command.command("add")
@click.option("--from-host", metavar="USER@BOARD", help="The board, over SSH.")
@options.ssh_config
@click.option(
    "--from-facts",
    type=options.OUTPUT_PATH,
    metavar="FILE",
    help="What a board said of itself (JSON of facts.py).  [default: this machine says it now]",
)
@click.option("--name", help="The profile's name.  [default: made of the board's own]")
@click.option("-o", "--output", "target", type=options.OUTPUT_PATH, help="[default: NAME.yaml]")
@speaking
def add_command(
    output: Output,
    from_host: str | None,
    ssh_config: Path | None,
    from_facts: Path | None,
    name: str | None,
    target: Path | None,
) -> None:
    """Write a profile of a board, ready to edit: what it says of itself, and a second of arithmetic on it."""
    from edgevit.device import Device
    from edgevit.errors import InputError
    from edgevit.machine.facts import read_facts
    from edgevit.machine.newdevice import profile_from, profile_yaml, suggest_name
    from edgevit.store import write_text
    from edgevit.yamlfile import parse_yaml

    if ssh_config and not from_host:
        raise InputError("--ssh-config is for boards. Name one with --from-host user@board.")
    if from_host and from_facts:
        raise InputError("--from-host and --from-facts name two boards. Give one of them.")
    if name:
        _check_name(name)
    if name or target:
        _check_place(target or Path(f"{name}.yaml"))
    if from_host:
        facts = facts_over_ssh(from_host, ssh_config, ["--bench"])
    else:
        facts = read_facts(from_facts) if from_facts else _own_facts()
    name = name or suggest_name(facts)
    path = target or Path(f"{name}.yaml")
    _check_name(name)
    _check_place(path)
    device = profile_from(facts, name)
    text = profile_yaml(device, str(path))
    parse_yaml(text, path, Device)
    write_text(path, text)
    if output.is_json:
        output.document({"kind": "device", "path": str(path), "device": device.model_dump(mode="json")})
    output.text(f"{path}: the profile of {device.title}. Read it through before you rely on it.")
    output.next("edgevit", "doctor", "--device", path if path.is_absolute() else f"./{path}")


@devices_command.command("calibrate")
@click.argument("reports", nargs=-1, required=True, type=options.OUTPUT_PATH, metavar="REPORT...")
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    required=True,
    type=options.OUTPUT_PATH,
    help="The bundle that was measured; may be repeated.",
)
@click.option("--device", help="The board's profile, or its path.  [default: the one that the report names]")
@speaking
def calibrate_command(output: Output, reports: tuple[Path, ...], bundles: tuple[Path, ...], device: str | None) -> None:
    """Teach predictions what a board of your own measured: reports of 'edgevit bench --host … -o REPORT'.

    They are kept in ~/.config/edgevit/latencies.json and count in every later prediction, most for the same board.
    """
    from edgevit.bundle import load_bundle
    from edgevit.latency.calibrate import calibrate

    done = calibrate(reports, [load_bundle(path) for path in bundles], device)
    if output.is_json:
        output.document({"kind": "calibration", **done.model_dump(mode="json")})
        return
    table = Table("Report", "Model", "Precision", "Device", "Threads", "Measured", "Predicted before", "Predicted now")
    for lesson in done.lessons:
        table.add_row(
            lesson.report, lesson.model, lesson.precision, lesson.device, str(lesson.threads),
            format_ms(lesson.measured_p50_ms),
            f"{format_ms(lesson.predicted_before_milliseconds)} ({lesson.error_before:+.0%})",
            f"{format_ms(lesson.predicted_now_milliseconds)} ({lesson.error_now:+.0%})",
        )  # fmt: skip
    output.table(table)
    output.text(f"{done.path}: {done.rows} of your own rows; predictions use them from now on.")


def _check_name(name: str) -> None:
    """Raises InputError for what is no profile's name, and for one that --device takes for another board."""
    from edgevit.catalog import list_devices
    from edgevit.errors import InputError
    from edgevit.machine.newdevice import is_name

    if not is_name(name):
        raise InputError(f"--name {name!r}: small letters, digits, '.', '_' and '-' make a name, as 'my-board'.")
    if name in list_devices():
        raise InputError(f"--name '{name}': is a device of edgevit's own already. Choose another name.")


def _check_place(path: Path) -> None:
    """Raises InputError where the profile cannot be written: a file that is there is never overwritten."""
    from edgevit.errors import InputError
    from edgevit.store import require_writable

    if not str(path).isprintable():
        raise InputError(f"-o {str(path)!r}: has a character that cannot be printed. Choose another file with -o.")
    if os.path.lexists(path):
        raise InputError(f"{path}: is there already. Choose another file with -o.")
    require_writable(path)


def _own_facts() -> Facts:
    """What this machine says of itself, a second of arithmetic included."""
    import json

    from edgevit.board.facts import collect_facts
    from edgevit.machine.facts import parse_facts

    return parse_facts(json.dumps(collect_facts(with_bench=True)), "this machine")


def _list_devices(output: Output) -> None:
    from edgevit.catalog import list_devices, load_device

    devices = [load_device(name) for name in list_devices()]
    if output.is_json:
        output.document({"kind": "devices", "devices": [device.model_dump(mode="json") for device in devices]})
        return
    table = Table("Device", "Board", "Arch", "Cores", "RAM MiB", "INT8", "Runtimes")
    for device in devices:
        cores = " + ".join(f"{c.cores}×{c.model} {c.clock_mhz} MHz" for c in device.cpu.clusters)
        ram, preset = str(device.memory.ram_mib), device.quantization.precision
        table.add_row(device.name, device.title, device.arch, cores, ram, preset, ", ".join(device.runtimes))
    output.table(table)
    output.next("edgevit", "doctor", "--device", "rpi5")
