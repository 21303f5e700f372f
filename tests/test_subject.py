from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tiny_models import CLASSES, VIT, VIT_SHAPE, random_pixels, run_graph, vit_graph

from edgevit.errors import BadFileError, InputError
from edgevit.export.onnx import write_onnx
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.create import count_parameters, create_model, preprocess_for
from edgevit.recipe import ModelSpec
from edgevit.subject import class_names, open_subject

NAMED = ModelSpec(name="-")
CATS = tuple(f"cat {index}" for index in range(CLASSES))


def make_checkpoint(directory: Path, epochs: int, weights: str = "random") -> Path:
    model = create_model(VIT, CLASSES)
    info = Checkpoint(
        model=VIT.name, args=VIT.args, classes=CLASSES, channels=1, image_size=32, labels=CATS,
        preprocess=preprocess_for(model, VIT).to_json(), weights=weights, epochs=epochs,  # type: ignore[arg-type]
    )  # fmt: skip
    save_checkpoint(directory, model, info)
    return directory


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """The tiny ViT's graph with a preprocess.json beside it."""
    preprocess = preprocess_for(create_model(VIT, CLASSES), VIT)
    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess.to_json()))
    return write_onnx(vit_graph(), tmp_path / "net.onnx")


def test_a_name_with_random_weights_is_the_models_own_with_numbered_classes() -> None:
    subject = open_subject(VIT.name, VIT.model_copy(update={"name": "-"}), CLASSES)
    assert (subject.name, subject.weights, subject.graph) == (VIT.name, "random", None)
    assert subject.labels == tuple(f"class {index}" for index in range(CLASSES))
    assert subject.input_shape == VIT_SHAPE
    assert subject.parameters == count_parameters(create_model(VIT, CLASSES))
    assert subject.model is not None
    assert not subject.model.training


def test_random_weights_are_drawn_by_the_seed() -> None:
    spec = VIT.model_copy(update={"name": "-"})
    models = [open_subject(VIT.name, spec, CLASSES, seed=seed).model for seed in (0, 0, 1)]
    first, again, other = (model.state_dict()["head.weight"] for model in models if model is not None)
    assert first.equal(again)
    assert not first.equal(other)


def test_weights_of_a_file_are_a_checkpoints(tmp_path: Path) -> None:
    weights = make_checkpoint(tmp_path / "c", epochs=1) / "model.safetensors"
    subject = open_subject(VIT.name, VIT.model_copy(update={"weights": str(weights)}), CLASSES)
    assert subject.weights == "checkpoint"


def test_pretrained_weights_that_are_not_here_are_refused_offline() -> None:
    with pytest.raises(InputError, match=r"not on this machine and offline mode forbids fetching them"):
        open_subject("vit_tiny_patch16_224", NAMED, offline=True)


@pytest.mark.parametrize(("epochs", "weights"), [(0, "random"), (3, "checkpoint")])
def test_a_checkpoint_is_random_only_as_long_as_nobody_trained_it(tmp_path: Path, epochs: int, weights: str) -> None:
    directory = make_checkpoint(tmp_path / "c", epochs)
    for target in (directory, directory / "model.safetensors"):
        subject = open_subject(str(target), NAMED)
        assert (subject.name, subject.weights, subject.labels) == (VIT.name, weights, CATS)
        assert subject.input_shape == VIT_SHAPE


@pytest.mark.parametrize("option", [{"image_size": 64}, {"channels": 3}, {"weights": "random"}])
def test_options_that_a_checkpoint_has_itself_are_refused(tmp_path: Path, option: dict[str, object]) -> None:
    directory = make_checkpoint(tmp_path / "c", 1)
    words = r"c: has its own weights, classes, image size and channels\. Leave these options out\."
    with pytest.raises(InputError, match=words):
        open_subject(str(directory), NAMED.model_copy(update=option))


def test_a_checkpoint_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.safetensors"):
        open_subject(str(tmp_path / "absent.safetensors"), NAMED)


def test_a_bundle_is_no_source_of_another(make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle()
    with pytest.raises(InputError, match=rf"^{bundle}: is a bundle already\. Name the checkpoint or the model"):
        open_subject(str(bundle), NAMED)


def test_an_onnx_file_is_a_graph_of_unknown_weights(onnx_file: Path) -> None:
    subject = open_subject(str(onnx_file), NAMED)
    assert (subject.name, subject.weights, subject.model) == ("net", "unknown", None)
    assert (subject.input_shape, subject.parameters) == (VIT_SHAPE, None)
    assert subject.labels == tuple(f"class {index}" for index in range(CLASSES))
    assert subject.graph is not None
    pixels = random_pixels(VIT_SHAPE)
    assert run_graph(subject.graph, pixels) == pytest.approx(run_graph(vit_graph(), pixels), abs=1e-5)


def test_an_onnx_files_labels_lie_beside_it(onnx_file: Path) -> None:
    onnx_file.with_name("labels.txt").write_text("".join(f"{name}\n" for name in CATS))
    assert open_subject(str(onnx_file), NAMED).labels == CATS
    onnx_file.with_name("labels.txt").write_text("cat\ndog\n")
    with pytest.raises(BadFileError, match=r"labels\.txt: has 2 labels, and the model has 10 classes\."):
        open_subject(str(onnx_file), NAMED)


def test_an_onnx_file_without_a_preprocess_file_is_refused(onnx_file: Path) -> None:
    onnx_file.with_name("preprocess.json").unlink()
    with pytest.raises(
        BadFileError, match=r"net\.onnx: needs a preprocess\.json beside it\. How the pictures are prep"
    ):
        open_subject(str(onnx_file), NAMED)


def test_a_preprocess_file_of_another_size_is_refused(onnx_file: Path) -> None:
    beside = onnx_file.with_name("preprocess.json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "width": 48}))
    with pytest.raises(
        BadFileError, match=r"preprocess\.json: makes inputs of \(1, 32, 48\), and net\.onnx takes \(1, 32, 32\)"
    ):
        open_subject(str(onnx_file), NAMED)


def test_an_onnx_file_that_does_not_say_how_many_classes_it_has_is_refused(onnx_file: Path) -> None:
    model = vit_graph()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "many"
    del model.graph.value_info[:]
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Foreign", "a.vendor"
    model.opset_import.append(onnx.helper.make_opsetid("a.vendor", 1))
    onnx.save(model, onnx_file)
    with pytest.raises(BadFileError, match=r"net\.onnx: does not say how many classes it has\."):
        open_subject(str(onnx_file), NAMED)


def test_a_thousand_classes_are_imagenets() -> None:
    names = class_names(1000)
    assert len(set(names)) > 990  # two pairs of ImageNet's classes share a word
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")


def test_another_number_of_classes_is_numbered() -> None:
    assert class_names(2) == ("class 0", "class 1")


def test_a_resized_subject_takes_the_same_share_of_the_picture() -> None:
    subject = open_subject(VIT.name, VIT.model_copy(update={"name": "-"}), CLASSES)
    subject = replace(subject, preprocess=replace(subject.preprocess, resize=36))
    larger = subject.resized(48)
    assert (larger.preprocess.height, larger.preprocess.width, larger.preprocess.resize) == (48, 48, 54)  # 36 · 48/32
    assert larger.input_shape == (1, 1, 48, 48)
    assert subject.resized(24).preprocess.resize == 27
    assert replace(larger, model=subject.model, preprocess=subject.preprocess) == subject
    assert larger.model is not subject.model


def test_without_a_resize_before_the_crop_there_is_none_after_resizing() -> None:
    subject = open_subject(VIT.name, VIT.model_copy(update={"name": "-"}), CLASSES)
    plain = replace(subject, preprocess=replace(subject.preprocess, resize=None, crop_mode="squash"))
    assert plain.resized(64).preprocess.resize is None


def test_a_graph_cannot_be_resized(onnx_file: Path) -> None:
    with pytest.raises(InputError, match=r"^'net' is an ONNX file of 32 px, which cannot be resized\.$"):
        open_subject(str(onnx_file), NAMED).resized(64)


def test_a_size_that_the_model_does_not_take_is_refused() -> None:
    subject = open_subject(VIT.name, VIT.model_copy(update={"name": "-"}), CLASSES)
    with pytest.raises(InputError, match=r"^Model 'vit_tiny_patch16_224': image_size 36 is not a multiple"):
        subject.resized(36)
