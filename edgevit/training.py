"""Training: from a recipe and its pictures to a checkpoint, going on where an interrupted run stopped."""

from __future__ import annotations

from pathlib import Path

from edgevit.data.datasets import Dataset
from edgevit.errors import InputError
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.create import create_model, preprocess_for, resolve_model
from edgevit.models.torchvision_ops import import_timm
from edgevit.progress import Progress
from edgevit.recipe import PRETRAINED, RANDOM, ModelSpec, Recipe
from edgevit.results import Epoch
from edgevit.train.loop import fine_tune
from edgevit.train.state import best_epoch
from edgevit.units import format_percent


def train_checkpoint(
    recipe: Recipe, dataset: Dataset, state: Path, target: Path, offline: bool, progress: Progress
) -> tuple[Epoch, ...]:
    """The learning curves; the best epoch's weights become the checkpoint directory `target`.

    state: the directory of the training's own state. A finished training is not repeated when it is called again.
    Raises InputError for a model, weights or data that do not fit, EdgevitError when the loss is no longer finite.
    """
    progress.stage("Loading the model")
    spec = _with_drop_path(recipe.model, recipe.train.drop_path)
    model = create_model(spec, len(dataset.classes), offline=offline, seed=recipe.train.seed, new_head=True)
    preprocess = preprocess_for(model, spec)
    teacher, teacher_preprocess = None, None
    if recipe.distill is not None:
        of_teacher = recipe.distill.teacher
        _require_head(of_teacher, len(dataset.classes))
        teacher = create_model(of_teacher, len(dataset.classes), offline=offline, seed=recipe.train.seed)
        teacher_preprocess = preprocess_for(teacher, of_teacher)
    progress.stage(f"Training {recipe.model.name} on {len(dataset.train):,} pictures of {dataset.name}")
    best = ""

    def on_epoch(epoch: Epoch) -> None:
        nonlocal best
        best = f"epoch {epoch.epoch}: validation top-1 {format_percent(epoch.val_top1)}"
        progress.note(f"{best}, training loss {epoch.train_loss:.3f}, {epoch.seconds:.0f} s")

    curves = fine_tune(
        model, dataset, preprocess, recipe.train, state,
        distill=recipe.distill, teacher=teacher, teacher_preprocess=teacher_preprocess,
        on_step=lambda done, total, epoch, loss: progress.update(done, total, best or f"loss {loss:.3f}"),
        on_epoch=on_epoch,
    )  # fmt: skip
    if not target.exists():
        info = Checkpoint(
            model=recipe.model.name,
            args=recipe.model.args,
            classes=len(dataset.classes),
            channels=preprocess.channels,
            image_size=preprocess.height,
            labels=dataset.classes,
            preprocess=preprocess.to_json(),
            weights=_origin(recipe.model.weights),
            trained_on=recipe.data,
            epochs=len(curves),
            val_top1=best_epoch(curves).val_top1,
        )
        save_checkpoint(target, model, info)
    return curves


def _require_head(teacher: ModelSpec, classes: int) -> None:
    """Raises InputError for random weights, and for pretrained ones of other classes: a new head would teach noise."""
    if teacher.weights == RANDOM:
        raise InputError(f"Teacher '{teacher.name}' has random weights, which teach nothing. Give it a checkpoint.")
    if teacher.weights != PRETRAINED:
        return
    published = import_timm().get_pretrained_cfg(resolve_model(teacher.name).timm_name).num_classes
    if published != classes:
        raise InputError(
            f"Teacher '{teacher.name}' was trained on {published} classes, and the data have {classes}: a new head "
            f"teaches nothing. Fine-tune it first (edgevit finetune {teacher.name}), and give the checkpoint as its "
            "weights."
        )


def _with_drop_path(spec: ModelSpec, rate: float) -> ModelSpec:
    return spec if rate == 0 else spec.model_copy(update={"args": {**spec.args, "drop_path_rate": rate}})


def _origin(weights: str) -> str:
    return weights if weights in (PRETRAINED, RANDOM) else "checkpoint"
