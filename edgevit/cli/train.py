"""edgevit finetune and distill: a checkpoint from a model and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking
from edgevit.units import format_percent

if TYPE_CHECKING:
    from edgevit.recipe import DistillSpec, Recipe

training = options.several(
    options.required_data,
    click.option("-o", "--output", "target", required=True, type=options.OUTPUT_PATH, help="Checkpoint directory."),
    options.model,
    click.option("--epochs", type=click.IntRange(1), default=10, show_default=True),
    click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True),
    click.option("--learning-rate", type=options.FiniteRange(0, min_open=True), default=5e-4, show_default=True),
    click.option("--weight-decay", type=options.FiniteRange(0), default=0.05, show_default=True),
    click.option("--warmup-epochs", type=click.IntRange(0), default=1, show_default=True),
    click.option("--label-smoothing", type=options.FiniteRange(0, 1, max_open=True), default=0.1, show_default=True),
    click.option(
        "--hflip",
        type=options.FiniteRange(0, 1, max_open=True),
        default=0.5,
        show_default=True,
        help="0 for digits and text.",
    ),
    click.option("--workers", type=click.IntRange(0, 64), default=0, show_default=True, help="Loading processes."),
    options.seed,
    options.offline,
)


@click.command("finetune")
@click.argument("model")
@training
@speaking
def finetune_command(output: Output, model: str, **chosen: Any) -> None:
    """Fine-tune MODEL on your pictures. Given again after an interruption, it goes on after its last epoch."""
    _train(output, model, None, chosen)


@click.command("distill")
@click.argument("model")
@click.option("--teacher", required=True, help="A model of timm's, or of the registry.")
@click.option("--teacher-weights", default="pretrained", show_default=True, help="'pretrained' or a checkpoint's path.")
@click.option("--mode", type=click.Choice(["hard", "soft"]), default="hard", show_default=True)
@click.option("--alpha", type=options.FiniteRange(0, 1), default=0.5, show_default=True, help="The teacher's part.")
@click.option(
    "--temperature", type=options.FiniteRange(0, min_open=True), default=3.0, show_default=True, help="Of soft."
)
@training
@speaking
def distill_command(
    output: Output,
    model: str,
    teacher: str,
    teacher_weights: str,
    mode: Any,
    alpha: float,
    temperature: float,
    **chosen: Any,
) -> None:
    """Fine-tune MODEL with a teacher's help: hard (DeiT) or soft; by the distillation token where MODEL has one."""
    from edgevit.recipe import DistillSpec, ModelSpec

    of_teacher = ModelSpec(name=teacher, weights=teacher_weights)
    _train(output, model, DistillSpec(teacher=of_teacher, mode=mode, alpha=alpha, temperature=temperature), chosen)


def _train(output: Output, model: str, distill: DistillSpec | None, chosen: dict[str, Any]) -> None:
    from edgevit.cli.progress import TerminalProgress
    from edgevit.extras import require_extras

    require_extras("train")
    from edgevit.pipeline import finetune_checkpoint

    target: Path = chosen["target"]
    recipe = _recipe(model, distill, chosen)
    with TerminalProgress() as progress:
        curves = finetune_checkpoint(recipe, target, chosen["offline"], progress)
    best = max(curves, key=lambda epoch: (epoch.val_top1, -epoch.val_loss))
    if output.is_json:
        epochs = [epoch.model_dump(mode="json") for epoch in curves]
        output.document({"kind": "training", "checkpoint": str(target), "best": best.epoch, "curves": epochs})
        return
    output.text(
        f"{target}: best of {len(curves)} epochs is {best.epoch}, validation top-1 {format_percent(best.val_top1)}"
    )
    output.next("edgevit", "export", target, "--device", "rpi5", "--data", chosen["data"], "-o", "bundle-rpi5")


def _recipe(model: str, distill: DistillSpec | None, chosen: dict[str, Any]) -> Recipe:
    from edgevit.recipe import AugmentSpec, DataSpec, ModelSpec, Recipe, TrainSpec

    shape = {key: chosen[key] for key in ("image_size", "channels", "weights")}
    same = (
        "epochs", "batch_size", "learning_rate", "weight_decay", "warmup_epochs", "label_smoothing", "seed", "workers",
    )  # fmt: skip
    return Recipe(
        name="checkpoint",
        model=ModelSpec(name=model, **shape),
        data=DataSpec(source=chosen["data"]),
        train=TrainSpec(augment=AugmentSpec(hflip=chosen["hflip"]), **{key: chosen[key] for key in same}),
        distill=distill,
    )
