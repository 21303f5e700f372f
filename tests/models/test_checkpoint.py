import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevit import __version__
from edgevit.errors import BadFileError, InputError
from edgevit.models.checkpoint import Checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from edgevit.models.create import create_model, preprocess_for
from edgevit.recipe import ModelSpec

SPEC = ModelSpec(
    name="vit_tiny_patch16_224",
    args={"depth": 1, "embed_dim": 48, "num_heads": 3, "patch_size": 8},
    image_size=32,
    channels=1,
    weights="random",
)
LABELS = ("cat", "dog", "überraschung")


def tiny_checkpoint(**changes: Any) -> tuple[torch.nn.Module, Checkpoint]:
    model = create_model(SPEC, len(LABELS))
    fields: dict[str, Any] = {
        "model": SPEC.name,
        "args": SPEC.args,
        "classes": len(LABELS),
        "channels": 1,
        "image_size": 32,
        "labels": LABELS,
        "preprocess": preprocess_for(model, SPEC).to_json(),
        "weights": "random",
        "trained_on": {"source": "pets"},
        "epochs": 3,
        "val_top1": 61.5,
    }
    return model, Checkpoint(**{**fields, **changes})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", *tiny_checkpoint())
    return tmp_path / "checkpoint"


def edit(directory: Path, **changes: Any) -> None:
    file = directory / "checkpoint.json"
    document = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps({key: value for key, value in document.items() if value != "remove"}), encoding="utf-8")


@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_a_checkpoint_gives_back_its_model_and_record(saved: Path, part: str) -> None:
    model, info = tiny_checkpoint()
    loaded, loaded_info = load_checkpoint(saved / part)
    assert loaded_info == info
    assert (loaded_info.edgevit, loaded_info.schema_version) == (__version__, 1)
    pictures = torch.ones(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(pictures), model(pictures))
    assert not loaded.training


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    model, info = tiny_checkpoint()
    model.blocks[0].norm2.weight = model.blocks[0].norm1.weight
    save_checkpoint(tmp_path / "shared", model, info)
    loaded, _ = load_checkpoint(tmp_path / "shared")
    assert torch.equal(loaded.blocks[0].norm2.weight, model.blocks[0].norm1.weight)


def test_a_checkpoint_is_never_overwritten(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="checkpoint"):
        save_checkpoint(saved, *tiny_checkpoint())
    assert (saved / "model.safetensors").read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["checkpoint"]


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgevit.models.checkpoint.write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "checkpoint", *tiny_checkpoint())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_record_says_how_to_do_without(saved: Path) -> None:
    (saved / "checkpoint.json").unlink()
    with pytest.raises(BadFileError) as caught:
        load_checkpoint(saved)
    message = "has no checkpoint.json beside its weights. Name the model that these weights belong to"
    assert str(caught.value).startswith(f"{saved}: {message}")


def test_missing_weights_are_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(BadFileError, match=r"checkpoint: has no model\.safetensors\."):
        load_checkpoint(saved)


def test_truncated_weights_are_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadFileError, match=r"model\.safetensors: is not a whole safetensors file") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [{"embed_dim": 96}, {"depth": 2}])
def test_weights_of_other_shapes_than_the_record_says_are_refused(saved: Path, shape: dict[str, int]) -> None:
    edit(saved, args={**SPEC.args, **shape})
    with pytest.raises(BadFileError, match="does not hold weights of 'vit_tiny_patch16_224' as asked for") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


def test_a_head_of_other_classes_than_the_record_says_is_refused(saved: Path) -> None:
    state = create_model(SPEC, 5).state_dict()
    save_file(state, saved / "model.safetensors")
    with pytest.raises(BadFileError, match="has 5 classes, 3 are asked for"):
        load_checkpoint(saved)


def test_a_newer_record_asks_for_an_update(saved: Path) -> None:
    edit(saved, schema_version=2)
    with pytest.raises(BadFileError) as caught:
        read_checkpoint(saved)
    expected = f"{saved / 'checkpoint.json'}: schema_version: is 2, this edgevit reads up to 1. Update edgevit."
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": "remove"}, "classes: "),
        ({"wings": 2}, "wings: "),
        ({"image_size": 0}, "image_size: "),
        ({"weights": "borrowed"}, "weights: "),
        ({"labels": ["cat"]}, "1 labels for 3 classes"),
        ({"preprocess": {"schema_version": 1}}, "is missing."),
        ({"schema_version": "1.5"}, "schema_version: "),
    ],
)
def test_a_bad_key_of_the_record_is_named(saved: Path, changes: dict[str, Any], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises(BadFileError) as caught:
        read_checkpoint(saved)
    assert str(caught.value).startswith(f"{saved / 'checkpoint.json'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not readable JSON"), (b"\xff\xfe", "is not readable JSON"), (b"[1]", "is not a JSON object")],
)
def test_a_record_that_is_no_json_object_is_refused(saved: Path, content: bytes, message: str) -> None:
    (saved / "checkpoint.json").write_bytes(content)
    with pytest.raises(BadFileError, match=message) as caught:
        read_checkpoint(saved)
    assert "\n" not in str(caught.value)
