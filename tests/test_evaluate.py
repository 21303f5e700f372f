from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from digits_shop import DIGITS, Told, digits
from tiny_figures import tiny_logits
from tiny_models import VIT, vit_model

from edgevit.board.preprocess import to_input
from edgevit.data.batches import prepared
from edgevit.data.pictures import PictureSet, from_arrays
from edgevit.errors import BadFileError, InputError, MissingExtraError
from edgevit.evaluate import evaluate_target
from edgevit.export.torchscript import export_torchscript
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.create import preprocess_for

COLORS = ("red", "green", "blue", "gray")


@pytest.fixture
def pictures() -> PictureSet:
    """24 pictures labelled by the tiny model's own formula, but for the last six, which are labelled 'red'."""
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    images += (np.eye(4, 3, dtype=np.uint8) * 60)[np.arange(24) % 4][:, None, None]  # so that all classes come up
    labels = tiny_logits(images).argmax(axis=1)
    labels[18:] = 0
    return from_arrays(images, labels)


def expected_top1(pictures: PictureSet) -> float:
    images = np.stack([pictures.load_array(index) for index in range(len(pictures))])
    return 100 * float((tiny_logits(images).argmax(axis=1) == pictures.labels).mean())


def test_a_bundle_is_evaluated_with_its_own_preprocessing(
    make_bundle: Callable[..., Path], pictures: PictureSet
) -> None:
    told = Told()
    bundle = make_bundle(precision="int8-dynamic")
    found = evaluate_target(bundle, pictures, COLORS, told)
    assert (found.target, found.precision) == (str(bundle), "int8-dynamic")
    assert (found.accuracy.n, found.accuracy.top1) == (24, pytest.approx(expected_top1(pictures)))
    assert told.stages == [f"Evaluating {bundle} on 24 pictures"]
    assert told.updates[-1][:2] == (24, 24)


def test_accuracy_by_class_leaves_out_classes_without_pictures(
    make_bundle: Callable[..., Path], pictures: PictureSet
) -> None:
    chosen = pictures.subset(np.flatnonzero(pictures.labels < 2))
    found = evaluate_target(make_bundle(), chosen, COLORS, Told())
    present = {COLORS[label] for label in chosen.labels}
    assert set(found.per_class) == present
    assert sum(each.n for each in found.per_class.values()) == len(chosen)
    hits = sum(each.n * each.top1 / 100 for each in found.per_class.values())
    assert hits == pytest.approx(found.accuracy.top1 * len(chosen) / 100)


def test_an_onnx_file_is_evaluated_with_what_lies_beside_it(
    make_bundle: Callable[..., Path], pictures: PictureSet
) -> None:
    bundle = make_bundle()
    (bundle / "manifest.json").unlink()
    found = evaluate_target(bundle / "model.onnx", pictures, COLORS, Told())
    assert (found.precision, found.accuracy.top1) == ("as given", pytest.approx(expected_top1(pictures)))


@pytest.mark.parametrize("name", ["preprocess.json", "labels.txt"])
def test_an_onnx_file_alone_is_refused(make_bundle: Callable[..., Path], pictures: PictureSet, name: str) -> None:
    bundle = make_bundle()
    (bundle / "manifest.json").unlink()
    (bundle / name).unlink()
    words = rf"model\.onnx: needs a {name} beside it\. A bundle has both: evaluate the bundle\."
    with pytest.raises(BadFileError, match=words):
        evaluate_target(bundle / "model.onnx", pictures, COLORS, Told())


def digits_top1() -> float:
    test = digits().test
    preprocess = preprocess_for(vit_model(), VIT)
    with torch.no_grad():
        logits = vit_model()(torch.from_numpy(to_input(prepared(test, preprocess), preprocess)))
    return 100 * float((logits.argmax(dim=1).numpy() == test.labels).mean())


def test_a_checkpoint_is_evaluated_by_torch(tmp_path: Path) -> None:
    model = vit_model()
    info = Checkpoint(
        model=VIT.name, args=VIT.args, classes=10, channels=1, image_size=32, labels=DIGITS,
        preprocess=preprocess_for(model, VIT).to_json(), weights="random",
    )  # fmt: skip
    save_checkpoint(tmp_path / "c", model, info)
    for target in (tmp_path / "c", tmp_path / "c" / "model.safetensors"):
        found = evaluate_target(target, digits().test, DIGITS, Told())
        assert (found.precision, found.accuracy.n) == ("fp32", 40)
        assert found.accuracy.top1 == pytest.approx(digits_top1())


def test_a_checkpoint_without_the_packages_to_open_it_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'timm'"):
        evaluate_target(tmp_path, digits().test, DIGITS, Told())


def test_a_torchscript_file_is_evaluated_too(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    preprocess = preprocess_for(vit_model(), VIT)
    path = export_torchscript(vit_model(), (1, 1, 32, 32), tmp_path / "net.ts")
    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess.to_json()))
    (tmp_path / "labels.txt").write_text("\n".join(DIGITS) + "\n")
    assert evaluate_target(path, digits().test, DIGITS, Told()).accuracy.top1 == pytest.approx(digits_top1())


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("red", "green", "blue", "pink"), "was made for 4 classes, and the pictures have 4: it does not know 'pink'."),
        (
            ("green", "red", "blue", "gray"),
            "was made for 4 classes, and the pictures have 4: in another order or number.",
        ),
        (("red", "green"), "was made for 4 classes, and the pictures have 2: in another order or number."),
    ],
)
def test_pictures_of_other_classes_are_refused(
    make_bundle: Callable[..., Path], pictures: PictureSet, classes: tuple[str, ...], words: str
) -> None:
    told = Told()
    with pytest.raises(InputError) as caught:
        evaluate_target(make_bundle(), pictures, classes, told)
    assert str(caught.value).endswith(f": {words}")
    assert told.updates == []


def test_an_onnx_file_with_other_labels_than_classes_is_refused(
    make_bundle: Callable[..., Path], pictures: PictureSet
) -> None:
    bundle = make_bundle()
    (bundle / "manifest.json").unlink()
    (bundle / "labels.txt").write_text("red\ngreen\n")
    with pytest.raises(InputError, match=r"model\.onnx: gives 4 figures for a picture, and its labels are 2\."):
        evaluate_target(bundle / "model.onnx", pictures.subset(range(2)), COLORS[:2], Told())


def test_what_is_not_there_or_of_another_kind_is_refused(tmp_path: Path, pictures: PictureSet) -> None:
    with pytest.raises(InputError, match=r"none: does not exist\. Give a checkpoint, an \.onnx file or a bundle\."):
        evaluate_target(tmp_path / "none", pictures, COLORS, Told())
    (tmp_path / "net.engine").write_bytes(b"x")
    with pytest.raises(BadFileError, match=r"has the suffix '\.engine', and no runtime opens that"):
        evaluate_target(tmp_path / "net.engine", pictures, COLORS, Told())


def test_a_changed_bundle_is_refused(make_bundle: Callable[..., Path], pictures: PictureSet, tmp_path: Path) -> None:
    bundle = make_bundle()
    shutil.copy(bundle / "labels.txt", bundle / "extra.txt")
    with pytest.raises(InputError, match=r"extra\.txt: is not in the manifest"):
        evaluate_target(bundle, pictures, COLORS, Told())
