from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgevit.board.preprocess import Preprocess
from edgevit.data.datasets import Dataset
from edgevit.data.pictures import PictureSet, from_arrays
from edgevit.errors import BadFileError, EdgevitError, InputError, ShapeMismatchError
from edgevit.models.torchvision_ops import import_timm
from edgevit.recipe import AugmentSpec, DistillSpec, ModelSpec, TrainSpec
from edgevit.results import Epoch
from edgevit.train.augment import AugmentedPictures
from edgevit.train.evaluate import loss_and_top1
from edgevit.train.loop import _Trainer, fine_tune
from edgevit.train.state import STATE_FILE, WEIGHTS_FILE

CLASSES = ("top left", "top right", "bottom left", "bottom right")
GRAY = Preprocess(32, 32, 1, None, "squash", "bilinear", (0.5,), (0.5,), "L")
TINY_RGB = Preprocess(16, 16, 3, None, "squash", "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "RGB")
SPEC = TrainSpec(
    epochs=3, batch_size=8, learning_rate=2e-3, warmup_epochs=1, augment=AugmentSpec(scale=(0.8, 1.0), hflip=0.0)
)
TEACHER = ModelSpec(name="timm:resnet18")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bright_quadrants(count: int, seed: int) -> PictureSet:
    """Noise of 8 x 8 pixels with one bright quadrant, whose number is the label."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 100, (count, 8, 8), dtype=np.uint8)
    labels = np.arange(count) % 4
    for picture, label in zip(pixels, labels, strict=True):
        top, left = label // 2 * 4, label % 2 * 4
        picture[top : top + 4, left : left + 4] += 120
    return from_arrays(pixels, labels)


def quadrants(train: int = 41, val: int = 16) -> Dataset:
    return Dataset(
        "quadrants", CLASSES, bright_quadrants(train, 1), bright_quadrants(val, 2), bright_quadrants(4, 3), {}
    )


def tiny_vit(name: str = "vit_tiny_patch16_224", seed: int = 0, **args: Any) -> nn.Module:
    torch.manual_seed(seed)
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model: nn.Module = import_timm().create_model(name, num_classes=4, in_chans=1, **shape, **args)
    return model


class WithBatchNorm(nn.Sequential):
    """BatchNorm over a single value per channel and picture: it fails for a batch of one."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(4 * channels), nn.Linear(4 * channels, 4)
        )


class Constant(nn.Module):
    """A teacher that is sure of one class whatever it sees, and remembers the shape of it."""

    def __init__(self, label: int, classes: int = 4) -> None:
        super().__init__()
        self.register_buffer("logits", torch.nn.functional.one_hot(torch.tensor(label), classes) * 20.0)
        self.seen: tuple[int, ...] = ()

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen = tuple(pixels.shape)
        logits: Tensor = self.logits.expand(len(pixels), -1)
        return logits


def without_seconds(curves: tuple[Epoch, ...]) -> list[Epoch]:
    return [epoch.model_copy(update={"seconds": 0.0}) for epoch in curves]


class InterruptionError(Exception):
    pass


def interrupt_in_epoch(which: int) -> Any:
    def on_step(done: int, total: int, epoch: int, loss: float) -> None:
        if epoch == which and done % 5 == 3:
            raise InterruptionError

    return on_step


def test_training_learns_what_sets_the_classes_apart(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"epochs": 8, "learning_rate": 5e-3})
    curves = fine_tune(tiny_vit(), quadrants(train=80), GRAY, spec, tmp_path)
    assert [epoch.epoch for epoch in curves] == list(range(1, 9))
    assert curves[-1].train_loss < curves[0].train_loss
    assert max(epoch.val_top1 for epoch in curves) >= 90.0


def test_the_model_ends_in_evaluation_mode_with_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    model = tiny_vit()
    curves = fine_tune(model, quadrants(), GRAY, SPEC, tmp_path)
    best = max(curves, key=lambda epoch: (epoch.val_top1, -epoch.val_loss))
    assert not model.training
    assert all(weight.is_contiguous() for weight in model.parameters())
    assert loss_and_top1(model, quadrants().val, GRAY) == pytest.approx((best.val_loss, best.val_top1))


def test_the_callbacks_count_steps_from_one_to_the_last(tmp_path: Path) -> None:
    steps: list[tuple[int, int, int]] = []
    epochs: list[Epoch] = []
    curves = fine_tune(
        tiny_vit(),
        quadrants(train=17),
        GRAY,
        SPEC,
        tmp_path,
        on_step=lambda done, total, epoch, loss: steps.append((done, total, epoch)),
        on_epoch=epochs.append,
    )
    # 17 pictures in batches of 8 are 2 steps: the lonely last picture waits for another epoch
    assert steps == [(1, 6, 1), (2, 6, 1), (3, 6, 2), (4, 6, 2), (5, 6, 3), (6, 6, 3)]
    assert tuple(epochs) == curves


def test_the_learning_rate_warms_up_by_the_step_and_falls_along_a_cosine(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"epochs": 4, "learning_rate": 1e-3})
    curves = fine_tune(WithBatchNorm(), quadrants(train=32), GRAY, spec, tmp_path)
    # 4 steps an epoch, 16 in all; the rate is that of the epoch's last step, counted from 0
    warming = 1e-5 + 3 * (1e-3 - 1e-5) / 4
    falling = [0.5e-3 * (1 + math.cos(math.pi * step / 16)) for step in (7, 11, 15)]
    assert [epoch.learning_rate for epoch in curves] == pytest.approx([warming, *falling])


def test_warm_up_takes_at_most_half_of_a_short_run(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"epochs": 1, "warmup_epochs": 5, "learning_rate": 1e-3})
    (epoch,) = fine_tune(WithBatchNorm(), quadrants(train=32), GRAY, spec, tmp_path)
    assert epoch.learning_rate == pytest.approx(0.5e-3 * (1 + math.cos(math.pi * 3 / 4)))


def test_biases_norms_and_embeddings_get_no_weight_decay() -> None:
    model = tiny_vit()
    trainer = _Trainer(model, AugmentedPictures(quadrants().train, GRAY, SPEC.augment), SPEC)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decay = {names[id(w)]: group["weight_decay"] for group in trainer.optimizer.param_groups for w in group["params"]}
    assert set(decay) == set(names.values())
    exempt = {name for name in decay if name.endswith("bias") or "norm" in name or name in ("pos_embed", "cls_token")}
    assert {name for name, value in decay.items() if value == 0.0} == exempt
    assert {decay[name] for name in decay.keys() - exempt} == {0.05}


def test_the_same_seed_gives_the_same_curves_and_another_seed_others(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"epochs": 2})
    first = fine_tune(tiny_vit(drop_path_rate=0.2), quadrants(), GRAY, spec, tmp_path / "first")
    torch.manual_seed(99)
    again = fine_tune(tiny_vit(drop_path_rate=0.2), quadrants(), GRAY, spec, tmp_path / "again")
    other_spec = spec.model_copy(update={"seed": 1})
    other = fine_tune(tiny_vit(drop_path_rate=0.2), quadrants(), GRAY, other_spec, tmp_path / "other")
    assert without_seconds(again) == without_seconds(first)
    assert without_seconds(other) != without_seconds(first)


def test_a_resumed_run_gives_the_curves_and_weights_of_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = fine_tune(tiny_vit(drop_path_rate=0.2), quadrants(), GRAY, SPEC, tmp_path / "whole")
    for epoch in (1, 2, 3):
        with pytest.raises(InterruptionError):
            fine_tune(
                tiny_vit(drop_path_rate=0.2),
                quadrants(),
                GRAY,
                SPEC,
                tmp_path / "resumed",
                on_step=interrupt_in_epoch(epoch),
            )
    resumed = fine_tune(tiny_vit(drop_path_rate=0.2), quadrants(), GRAY, SPEC, tmp_path / "resumed")
    assert without_seconds(resumed) == without_seconds(whole)
    weights = [(tmp_path / run / WEIGHTS_FILE).read_bytes() for run in ("whole", "resumed")]
    assert weights[0] == weights[1]


def kill_in_second_epoch(directory: str) -> None:
    """What the next test runs in a process of its own."""

    def on_step(done: int, total: int, epoch: int, loss: float) -> None:
        if epoch == 2 and done == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    fine_tune(tiny_vit(), quadrants(), GRAY, SPEC, Path(directory), on_step=on_step)


def test_a_killed_run_loses_no_more_than_the_epoch_it_was_in(tmp_path: Path) -> None:
    code = f"import {Path(__file__).stem} as test; test.kill_in_second_epoch({str(tmp_path / 'run')!r})"
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{root}"}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    trained: list[int] = []
    curves = fine_tune(
        tiny_vit(seed=7), quadrants(), GRAY, SPEC, tmp_path / "run", on_epoch=lambda epoch: trained.append(epoch.epoch)
    )
    assert trained == [2, 3]
    assert without_seconds(curves) == without_seconds(
        fine_tune(tiny_vit(), quadrants(), GRAY, SPEC, tmp_path / "whole")
    )


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    model = tiny_vit()
    curves = fine_tune(model, quadrants(), GRAY, SPEC, tmp_path)
    other = tiny_vit(seed=5)
    assert fine_tune(other, quadrants(), GRAY, SPEC, tmp_path, on_step=interrupt_in_epoch(1)) == curves
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    assert (tmp_path / STATE_FILE).stat().st_size < (tmp_path / WEIGHTS_FILE).stat().st_size / 10


def test_a_directory_of_other_settings_is_refused_and_names_them(tmp_path: Path) -> None:
    fine_tune(WithBatchNorm(), quadrants(), GRAY, SPEC, tmp_path)
    changed = SPEC.model_copy(update={"epochs": 4, "learning_rate": 1.0})
    with pytest.raises(
        InputError, match=r"train\.epochs was 3, is 4, train\.learning_rate was 0\.002, is 1\.0"
    ) as error:
        fine_tune(WithBatchNorm(), quadrants(), GRAY, changed, tmp_path)
    assert "Give another directory, or the same settings again to resume it." in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"holds a run with other settings \(model was WithBatchNorm of 28 parameters"):
        fine_tune(tiny_vit(), quadrants(), GRAY, SPEC, tmp_path)


def test_a_state_for_another_model_of_the_same_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterruptionError):
        fine_tune(WithBatchNorm(), quadrants(), GRAY, SPEC, tmp_path, on_step=interrupt_in_epoch(2))
    renamed = WithBatchNorm()
    renamed.add_module("head", renamed[3])
    with pytest.raises(BadFileError, match=r"training\.pt: cannot be read as what training left there\."):
        fine_tune(renamed, quadrants(), GRAY, SPEC, tmp_path)


def test_a_learning_rate_that_explodes_ends_in_one_line_that_says_what_to_lower(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"learning_rate": 1e38, "clip_grad_norm": None})
    expected = (
        r"^Training stopped: the loss is nan at step \d+ of 15, in epoch \d\. Lower train\.learning_rate \(1e\+38\)"
    )
    with pytest.raises(EdgevitError, match=expected) as error:
        fine_tune(tiny_vit(), quadrants(), GRAY, spec, tmp_path)
    assert error.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_weights_that_break_in_an_epochs_last_step_are_noticed_before_they_are_kept(tmp_path: Path) -> None:
    class NanInEvaluation(WithBatchNorm):
        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = super().forward(pixels)
            return logits if self.training else logits * math.nan

    with pytest.raises(EdgevitError, match="the loss is nan on the validation pictures after epoch 1"):
        fine_tune(NanInEvaluation(), quadrants(), GRAY, SPEC, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lonely_last_picture_does_not_break_batch_norm(tmp_path: Path) -> None:
    curves = fine_tune(WithBatchNorm(), quadrants(train=9), GRAY, SPEC, tmp_path)
    assert len(curves) == 3


def test_batch_norm_with_batches_of_one_says_to_choose_more(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"batch_size": 1})
    with pytest.raises(InputError, match=r"train\.batch_size: this model has BatchNorm.* Choose 2 or more"):
        fine_tune(WithBatchNorm(), quadrants(), GRAY, spec, tmp_path)


@pytest.mark.parametrize(("train", "val"), [(0, 4), (4, 0)])
def test_a_split_without_pictures_is_refused(tmp_path: Path, train: int, val: int) -> None:
    with pytest.raises(InputError, match="at least one training picture and one validation picture"):
        fine_tune(WithBatchNorm(), quadrants(train, val), GRAY, SPEC, tmp_path)


def test_a_file_where_the_directory_is_meant_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(BadFileError, match=r"run: cannot be made a directory \(File exists\)"):
        fine_tune(WithBatchNorm(), quadrants(), GRAY, SPEC, tmp_path / "run")


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_student_without_a_token_learns_what_its_teacher_says(tmp_path: Path, mode: Any) -> None:
    student, teacher = WithBatchNorm(), Constant(2)
    spec = SPEC.model_copy(update={"learning_rate": 0.1})
    distill = DistillSpec(teacher=TEACHER, mode=mode, alpha=1.0)
    curves = fine_tune(
        student, quadrants(), GRAY, spec, tmp_path, distill=distill, teacher=teacher, teacher_preprocess=TINY_RGB
    )
    # one picture in four belongs to the class that the teacher always names
    assert curves[-1].val_top1 == 25.0
    assert teacher.seen[1:] == (3, 16, 16)


@pytest.mark.parametrize(("alpha", "untaught"), [(1.0, "head"), (0.0, "head_dist")])
def test_labels_teach_the_class_head_and_the_teacher_the_distillation_head(
    tmp_path: Path, alpha: float, untaught: str
) -> None:
    student = tiny_vit("deit_tiny_distilled_patch16_224")
    before = {name: getattr(student, name).weight.clone() for name in ("head", "head_dist")}
    spec = SPEC.model_copy(update={"weight_decay": 0.0, "epochs": 1})
    distill = DistillSpec(teacher=TEACHER, alpha=alpha)
    fine_tune(student, quadrants(), GRAY, spec, tmp_path, distill=distill, teacher=Constant(2))
    for name, weight in before.items():
        assert torch.equal(getattr(student, name).weight, weight) == (name == untaught)
    assert student.distilled_training is False


def test_the_teacher_is_used_as_it_is_and_not_trained(tmp_path: Path) -> None:
    teacher = WithBatchNorm(channels=3).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distill = DistillSpec(teacher=TEACHER, mode="soft")
    fine_tune(
        WithBatchNorm(),
        quadrants(),
        GRAY,
        SPEC,
        tmp_path,
        distill=distill,
        teacher=teacher,
        teacher_preprocess=TINY_RGB,
    )
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatchError, match="teacher knows 1000 classes and the student 4"):
        fine_tune(
            WithBatchNorm(),
            quadrants(),
            GRAY,
            SPEC,
            tmp_path,
            distill=DistillSpec(teacher=TEACHER),
            teacher=Constant(0, classes=1000),
        )
