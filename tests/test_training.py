from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from digits_shop import DIGITS, Told, digits
from tiny_models import VIT, VIT_ARGS

from edgevit import training
from edgevit.errors import InputError
from edgevit.models.checkpoint import load_checkpoint, read_checkpoint
from edgevit.models.create import preprocess_for
from edgevit.recipe import DataSpec, DistillSpec, ModelSpec, Recipe, TrainSpec
from edgevit.train.evaluate import loss_and_top1
from edgevit.training import train_checkpoint

DISTILLED = ModelSpec(
    name="timm:deit_tiny_distilled_patch16_224", args=VIT_ARGS, image_size=32, channels=1, weights="random"
)


def recipe(model: ModelSpec = VIT, epochs: int = 2, distill: DistillSpec | None = None, **train: Any) -> Recipe:
    spec = TrainSpec(epochs=epochs, batch_size=40, learning_rate=2e-3, **train)
    return Recipe(name="tiny", model=model, data=DataSpec(source="digits"), train=spec, distill=distill)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one epoch."""
    folder = tmp_path_factory.mktemp("teacher")
    train_checkpoint(recipe(epochs=1), digits(), folder / "state", folder / "teacher", True, Told())
    return folder / "teacher"


def taught_by(weights: str, **changes: Any) -> DistillSpec:
    return DistillSpec(teacher=VIT.model_copy(update={"weights": weights, **changes}))


def test_the_best_epoch_becomes_a_checkpoint_that_says_where_it_is_from(tmp_path: Path) -> None:
    told = Told()
    curves = train_checkpoint(recipe(), digits(), tmp_path / "state", tmp_path / "c", True, told)
    assert [epoch.epoch for epoch in curves] == [1, 2]
    model, info = load_checkpoint(tmp_path / "c")
    assert (info.model, info.args, info.labels, info.classes) == (VIT.name, VIT.args, DIGITS, 10)
    assert (info.channels, info.image_size, info.weights, info.trained_on) == (1, 32, "random", recipe().data)
    assert (info.epochs, info.val_top1) == (2, max(epoch.val_top1 for epoch in curves))
    preprocess = preprocess_for(model, VIT)
    assert info.preprocess == preprocess.to_json()
    assert loss_and_top1(model, digits().val, preprocess)[1] == pytest.approx(info.val_top1)


def test_stages_steps_and_epochs_are_told(tmp_path: Path) -> None:
    told = Told()
    curves = train_checkpoint(recipe(), digits(), tmp_path / "state", tmp_path / "c", True, told)
    assert told.stages == ["Loading the model", f"Training {VIT.name} on 80 pictures of digits"]
    assert [(done, total) for done, total, _ in told.updates] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told.updates[0][2].startswith("loss ")
    assert told.updates[-1][2] == f"epoch 1: validation top-1 {curves[0].val_top1:.1f} %"
    assert [note.partition(",")[0] for note in told.notes] == [
        f"epoch {epoch.epoch}: validation top-1 {epoch.val_top1:.1f} %" for epoch in curves
    ]


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train_checkpoint(recipe(), digits(), tmp_path / "state", tmp_path / "c", True, Told())
    written = (tmp_path / "c" / "model.safetensors").stat()
    told = Told()
    assert train_checkpoint(recipe(), digits(), tmp_path / "state", tmp_path / "c", True, told) == first
    assert (told.updates, told.notes) == ([], [])
    assert (tmp_path / "c" / "model.safetensors").stat() == written


def test_an_interrupted_training_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    class Interrupting(Told):
        def note(self, text: str) -> None:
            raise KeyboardInterrupt

    whole = train_checkpoint(recipe(), digits(), tmp_path / "one go", tmp_path / "c1", True, Told())
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(recipe(), digits(), tmp_path / "state", tmp_path / "c2", True, Interrupting())
    assert not (tmp_path / "c2").exists()
    told = Told()
    resumed = train_checkpoint(recipe(), digits(), tmp_path / "state", tmp_path / "c2", True, told)
    assert [(done, total) for done, total, _ in told.updates] == [(3, 4), (4, 4)]
    assert [epoch.train_loss for epoch in resumed] == pytest.approx([epoch.train_loss for epoch in whole], rel=1e-4)


def test_drop_path_is_for_training_and_not_for_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[torch.nn.Module] = []

    def remember(model: torch.nn.Module, *rest: Any, **options: Any) -> Any:
        trained.append(model)
        return fine_tune(model, *rest, **options)

    fine_tune = training.fine_tune
    monkeypatch.setattr(training, "fine_tune", remember)
    train_checkpoint(recipe(epochs=1, drop_path=0.3), digits(), tmp_path / "state", tmp_path / "c", True, Told())

    def rates(model: torch.nn.Module) -> list[float]:
        return [float(m.drop_prob) for m in model.modules() if type(m).__name__ == "DropPath"]

    assert max(rates(trained[0])) == pytest.approx(0.3)
    model, info = load_checkpoint(tmp_path / "c")
    assert (rates(model), info.args) == ([], VIT.args)


def test_training_that_starts_from_a_checkpoint_says_so(tmp_path: Path, teacher: Path) -> None:
    spec = VIT.model_copy(update={"weights": str(teacher)})
    train_checkpoint(recipe(spec, epochs=1), digits(), tmp_path / "state", tmp_path / "c", True, Told())
    assert read_checkpoint(tmp_path / "c").weights == "checkpoint"


@pytest.mark.parametrize("student", [VIT, DISTILLED], ids=["vit", "distilled"])
def test_a_checkpoint_can_teach(tmp_path: Path, teacher: Path, student: ModelSpec) -> None:
    taught = recipe(student, epochs=1, distill=taught_by(str(teacher)))
    alone = recipe(student, epochs=1)
    losses = []
    for name, each in (("taught", taught), ("alone", alone)):
        (epoch,) = train_checkpoint(each, digits(), tmp_path / f"state {name}", tmp_path / name, True, Told())
        losses.append(epoch.train_loss)
    assert losses[0] != pytest.approx(losses[1])
    assert read_checkpoint(tmp_path / "taught").model == student.name


def test_a_pretrained_teacher_of_other_classes_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    distill = DistillSpec(teacher=ModelSpec(name="resnet50"))
    with pytest.raises(InputError) as caught:
        train_checkpoint(recipe(distill=distill), digits(), tmp_path / "state", tmp_path / "c", False, Told())
    assert str(caught.value) == (
        "Teacher 'resnet50' was trained on 1000 classes, and the data have 10: a new head teaches nothing. "
        "Fine-tune it first (edgevit finetune resnet50), and give the checkpoint as its weights."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_teachers_checkpoint_of_other_classes_is_refused(tmp_path: Path, teacher: Path) -> None:
    fewer = replace(digits(), classes=DIGITS[:9])
    with pytest.raises(InputError, match=r"has 10 classes, 9 are asked for"):
        train_checkpoint(
            recipe(distill=taught_by(str(teacher))), fewer, tmp_path / "state", tmp_path / "c", True, Told()
        )
