"""Fine-tuning and distillation: from a model and labelled pictures to the best weights and the learning curves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgevit.board.preprocess import Preprocess
from edgevit.errors import BadFileError, EdgevitError, InputError
from edgevit.models.torchvision_ops import import_timm
from edgevit.recipe import DistillSpec, TrainSpec
from edgevit.results import Epoch
from edgevit.train.augment import AugmentedPictures, epoch_batches, epoch_seed, pixels_for_teacher, seed_everything
from edgevit.train.evaluate import loss_and_top1
from edgevit.train.losses import distillation_loss, label_loss
from edgevit.train.state import (
    Plan,
    Progress,
    best_epoch,
    load_progress,
    load_weights,
    save_progress,
    save_weights,
    unusable_state,
)

if TYPE_CHECKING:
    from edgevit.data.datasets import Dataset

OnStep = Callable[[int, int, int, float], None]
OnEpoch = Callable[[Epoch], None]
BatchLoss = Callable[[Tensor, Tensor], Tensor]

FIRST_STEP_SHARE = 0.01  # of the learning rate, where warm-up begins: a first step of length zero would be wasted
LARGEST_WARMUP_SHARE = 0.5  # of all steps, so that a short run reaches its learning rate at all


def fine_tune(
    model: nn.Module,
    dataset: Dataset,
    preprocess: Preprocess,
    spec: TrainSpec,
    directory: Path,
    *,
    distill: DistillSpec | None = None,
    teacher: nn.Module | None = None,
    teacher_preprocess: Preprocess | None = None,
    on_step: OnStep = lambda done, total, epoch, loss: None,
    on_epoch: OnEpoch = lambda epoch: None,
) -> tuple[Epoch, ...]:
    """The learning curves, one Epoch each. `model` is trained in place and ends with the best epoch's weights.

    Those weights are also in `directory`, beside the state from which an interrupted run goes on after its last
    complete epoch, to the same curves. A finished run is not repeated, nor its callbacks called.
    teacher: what `distill` learns from; it sees the student's augmented pictures, made over to `teacher_preprocess`
    (None: it takes the student's). on_step gets the steps done, the steps in all, the epoch (from 1) and the loss;
    on_epoch each new Epoch. spec.drop_path is the business of whoever makes `model`.
    Raises InputError for a directory of other settings, EdgevitError when the loss is no longer finite.
    """
    if not len(dataset.train) or not len(dataset.val):
        raise InputError("Training needs at least one training picture and one validation picture.")
    _make(directory)
    teachers_own = teacher_preprocess or preprocess
    plan = _plan(model, dataset, preprocess, spec=spec, distill=distill, teacher_preprocess=teachers_own)
    progress = load_progress(directory, plan)
    curves = progress.curves
    if len(curves) < spec.epochs:
        trainer = _Trainer(model, AugmentedPictures(dataset.train, preprocess, spec.augment), spec)
        trainer.restore(progress, directory)
        batch_loss = _batch_loss(trainer, preprocess, distill, teacher, teachers_own)
        with _distillation_head(model, is_taught=distill is not None):
            for epoch in range(len(curves) + 1, spec.epochs + 1):
                started = time.monotonic()
                train_loss = trainer.run_epoch(epoch, batch_loss, on_step)
                val_loss, val_top1 = loss_and_top1(model, dataset.val, preprocess)
                _check_finite(val_loss, f"on the validation pictures after epoch {epoch}", spec)
                record = Epoch(
                    epoch=epoch,
                    learning_rate=trainer.learning_rate,
                    train_loss=train_loss,
                    val_loss=val_loss,
                    val_top1=val_top1,
                    seconds=time.monotonic() - started,
                )
                curves = (*curves, record)
                if best_epoch(curves) is record:
                    save_weights(directory, model)
                # a finished run needs no more than its curves
                save_progress(directory, plan, Progress(curves) if epoch == spec.epochs else trainer.progress(curves))
                on_epoch(record)
    load_weights(directory, model)
    _with_layout(model, torch.contiguous_format).eval()
    return curves


class _Trainer:
    """Model, optimizer and schedule of one run. `steps` counts the optimizer's, from the run's first epoch on."""

    def __init__(self, model: nn.Module, pictures: AugmentedPictures, spec: TrainSpec) -> None:
        import_timm()
        from timm.optim import create_optimizer_v2
        from timm.scheduler import CosineLRScheduler

        self.accelerator = Accelerator()
        # 1.7 times as fast as NCHW for MobileViT-XXS on a CPU, no matter for a plain ViT; bfloat16 was slower there
        self.model = self.accelerator.prepare_model(_with_layout(model, torch.channels_last))
        # timm leaves biases, norms and what a model's no_weight_decay() names without weight decay
        self.optimizer = create_optimizer_v2(
            self.model, opt="adamw", lr=spec.learning_rate, weight_decay=spec.weight_decay
        )
        self.pictures = pictures
        self.spec = spec
        self.steps = 0
        self.steps_per_epoch = len(epoch_batches(pictures, spec, epoch=1))
        self.total_steps = self.steps_per_epoch * spec.epochs
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=self.total_steps,
            warmup_t=min(self.steps_per_epoch * spec.warmup_epochs, int(self.total_steps * LARGEST_WARMUP_SHARE)),
            warmup_lr_init=spec.learning_rate * FIRST_STEP_SHARE,
            t_in_epochs=False,
        )

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def run_epoch(self, epoch: int, batch_loss: BatchLoss, on_step: OnStep) -> float:
        """The mean loss per picture. Every random number of the epoch follows from the spec's seed and `epoch`."""
        seed_everything(epoch_seed(self.spec.seed, epoch))
        self.model.train()
        loss_sum, pictures = 0.0, 0
        for pixels, labels in epoch_batches(self.pictures, self.spec, epoch):
            loss = self._step(pixels, labels, batch_loss, epoch)
            loss_sum += loss * len(labels)
            pictures += len(labels)
            on_step(self.steps, self.total_steps, epoch, loss)
        return loss_sum / pictures

    def progress(self, curves: tuple[Epoch, ...]) -> Progress:
        return Progress(curves, self.model.state_dict(), self.optimizer.state_dict())

    def restore(self, progress: Progress, directory: Path) -> None:
        """Takes up where `progress` ends. Raises BadFileError when it belongs to another model."""
        self.steps = len(progress.curves) * self.steps_per_epoch
        if progress.weights is None or progress.optimizer is None:
            return
        try:
            self.model.load_state_dict(progress.weights)
            self.optimizer.load_state_dict(progress.optimizer)
        except (RuntimeError, ValueError, KeyError) as error:
            raise unusable_state(directory) from error

    def _step(self, pixels: Tensor, labels: Tensor, batch_loss: BatchLoss, epoch: int) -> float:
        device = self.accelerator.device
        self.schedule.step_update(self.steps)
        try:
            loss = batch_loss(pixels.to(device, memory_format=torch.channels_last), labels.to(device))
        except ValueError as error:  # BatchNorm's, for a batch of one
            if "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                "train.batch_size: this model has BatchNorm, which cannot learn from one picture at a time. "
                "Choose 2 or more, and give at least 2 training pictures."
            ) from error
        value = loss.item()
        _check_finite(value, f"at step {self.steps + 1} of {self.total_steps}, in epoch {epoch}", self.spec)
        self.accelerator.backward(loss)
        if self.spec.clip_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.spec.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return float(value)


def _batch_loss(
    trainer: _Trainer,
    preprocess: Preprocess,
    distill: DistillSpec | None,
    teacher: nn.Module | None,
    teacher_preprocess: Preprocess,
) -> BatchLoss:
    """The loss of one batch, pixels (N, channels, height, width) and labels (N,), with or without a teacher."""
    model, smoothing = trainer.model, trainer.spec.label_smoothing
    if distill is None or teacher is None:
        return lambda pixels, labels: label_loss(model(pixels), labels, smoothing)
    teacher = _with_layout(teacher, torch.channels_last).to(trainer.accelerator.device).eval()

    def distilled(pixels: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_logits = teacher(pixels_for_teacher(pixels, preprocess, teacher_preprocess))
        return distillation_loss(model(pixels), teacher_logits, labels, distill, smoothing)

    return distilled


@contextmanager
def _distillation_head(model: nn.Module, is_taught: bool) -> Iterator[None]:
    """While it lasts, a model with a distillation token gives (class head, distillation head) in training mode."""
    enable = getattr(model, "set_distilled_training", None) if is_taught else None
    if enable is None:
        yield
        return
    enable(True)
    try:
        yield
    finally:
        enable(False)


def _with_layout(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    # torch's stubs lack the overload that its documentation shows
    return model.to(memory_format=layout)  # type: ignore[no-any-return, call-overload]


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFileError(directory, f"cannot be made a directory ({error.strerror}).") from error


def _check_finite(loss: float, where: str, spec: TrainSpec) -> None:
    if not math.isfinite(loss):
        raise EdgevitError(
            f"Training stopped: the loss is {loss} {where}. "
            f"Lower train.learning_rate ({spec.learning_rate:g}), or raise train.warmup_epochs ({spec.warmup_epochs})."
        )


def _plan(
    model: nn.Module,
    dataset: Dataset,
    preprocess: Preprocess,
    *,
    spec: TrainSpec,
    distill: DistillSpec | None,
    teacher_preprocess: Preprocess,
) -> Plan:
    """Everything that a resumed run must share with the interrupted one, by the recipe's own keys."""
    plan: Plan = {f"train.{key}": value for key, value in spec.model_dump(mode="json").items()}
    plan["model"] = f"{type(model).__name__} of {sum(weight.numel() for weight in model.parameters())} parameters"
    plan["preprocess"] = preprocess.to_json()
    plan["data.classes"] = list(dataset.classes)
    plan["data.pictures"] = [len(dataset.train), len(dataset.val)]
    if distill is not None:
        plan["distill"] = distill.model_dump(mode="json")
        plan["distill.preprocess"] = teacher_preprocess.to_json()
    return plan
