"""edgevit models, devices, recipes: what there is, and a profile for a board that is not there yet."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.cli.overssh import facts_over_ssh

if TYPE_CHECKING:
    from edgevit.machine.facts import Facts


@click.command("models")
@speaking
def models_command(output: Output) -> None:
    """Models that edgevit knows. Any other timm name works too: timm:NAME."""
    from edgevit.models.registry import MODELS

    if output.is_json:
        output.document(
            {"kind": "models", "models": [{**asdict(entry), "top1_source": entry.top1_source} for entry in MODELS]}
        )
        return
    table = Table("Model", "Family", "Kind", "Params M", "MACs G", "Size px", "Top-1 %", "On a board")
    for entry in MODELS:
        top1 = "–" if entry.top1 is None else f"{entry.top1:.1f}"
        figures = (f"{entry.params_m:.1f}", f"{entry.gmacs:.2f}", str(entry.image_size), top1)
        table.add_row(entry.name, entry.family, entry.kind, *figures, entry.note)
    output.table(table)
    output.text("Top-1: published, ImageNet-1k; sources with --json. MACs at the native size.")
    output.next("edgevit", "export", "deit_tiny_patch16_224", "--device", "rpi5", "-o", "deit-rpi5")


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
    from edgevit.machine.newdevice import is_name, profile_from, profile_yaml, suggest_name
    from edgevit.store import write_text
    from edgevit.yamlfile import read_yaml

    if from_host and from_facts:
        raise InputError("--from-host and --from-facts name two boards. Give one of them.")
    if from_host:
        facts = facts_over_ssh(from_host, ssh_config, ["--bench"])
    else:
        facts = read_facts(from_facts) if from_facts else _own_facts()
    name = name or suggest_name(facts)
    if not is_name(name):
        raise InputError(f"--name '{name}': small letters, digits, '.', '_' and '-' make a name, as 'my-board'.")
    path = target or Path(f"{name}.yaml")
    if path.exists():
        raise InputError(f"{path}: is there already. Choose another file with -o.")
    device = profile_from(facts, name)
    write_text(path, profile_yaml(device, str(path)))
    read_yaml(path, Device)
    if output.is_json:
        output.document({"kind": "device", "path": str(path), "device": device.model_dump(mode="json")})
    output.text(f"{path}: the profile of {device.title}. Read it through before you rely on it.")
    output.next("edgevit", "doctor", "--device", path if path.is_absolute() else f"./{path}")


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


@click.command("recipes")
@click.argument("name", required=False)
@speaking
def recipes_command(output: Output, name: str | None) -> None:
    """Recipes that come with edgevit; with a NAME, that recipe's text, to be copied and changed."""
    from edgevit.catalog import find_recipe, list_recipes, load_recipe

    if name is not None:
        if output.is_json:
            output.document({"kind": "recipe", **load_recipe(name).model_dump(mode="json")})
        else:
            load_recipe(name)
            output.text(find_recipe(name).read_text(encoding="utf-8").rstrip())
        return
    purposes = {recipe: _purpose(find_recipe(recipe).read_text(encoding="utf-8")) for recipe in list_recipes()}
    if output.is_json:
        output.document({"kind": "recipes", "recipes": purposes})
        return
    table = Table("Recipe", "Purpose")
    for recipe, purpose in purposes.items():
        table.add_row(recipe, purpose)
    output.table(table)
    output.next("edgevit", "run", "digits-vit-tiny")


def _purpose(text: str) -> str:
    """A recipe's first comment line is its purpose."""
    first = text.splitlines()[0] if text else ""
    return first.lstrip("# ").strip()
