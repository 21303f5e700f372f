"""edgevit models, recipes: what there is."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.table import Table

from edgevit.cli.output import Output, speaking


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
