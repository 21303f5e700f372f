"""Checkpoint: a directory with a model's weights and everything that is needed to use them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator
from torch import nn

from edgevit import __version__
from edgevit.board.preprocess import Preprocess
from edgevit.errors import BadFileError, MissingExtraError
from edgevit.models.create import create_model
from edgevit.models.weights import WEIGHTS_FILE, weights_file
from edgevit.recipe import DataSpec, ModelSpec
from edgevit.schema import SCHEMA_VERSION, Record
from edgevit.store import new_directory, write_bytes, write_json

INFO_FILE = "checkpoint.json"


class Checkpoint(Record):
    """checkpoint.json. trained_on: the data and how they were split, so that no one tests on training pictures.

    `model` and `args`: as in a recipe. `preprocess`: Preprocess.to_json().

    weights: what the training started from. epochs is 0 and val_top1 (percent) is None for an untrained model.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    args: dict[str, Any] = Field(default={})
    classes: PositiveInt
    channels: PositiveInt
    image_size: PositiveInt
    labels: tuple[str, ...]
    preprocess: dict[str, Any]
    weights: Literal["pretrained", "random", "checkpoint"]
    trained_on: DataSpec | None = None
    epochs: int = Field(default=0, ge=0)
    val_top1: float | None = Field(default=None, ge=0.0, le=100.0)
    edgevit: str = __version__

    @model_validator(mode="after")
    def _one_label_per_class(self) -> Checkpoint:
        if len(self.labels) != self.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.classes} classes")
        return self


def save_checkpoint(directory: Path, model: nn.Module, info: Checkpoint) -> None:
    """Writes the checkpoint directory, whole or not at all. Raises InputError when it exists or cannot be written."""
    try:
        from safetensors.torch import save
    except ModuleNotFoundError as error:
        raise MissingExtraError("safetensors", "train") from error
    # A copy of each: tensors that share memory are refused by safetensors.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with new_directory(directory) as new:
        write_bytes(new / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
        write_json(new / INFO_FILE, info)


def load_checkpoint(path: Path) -> tuple[nn.Module, Checkpoint]:
    """The model in eval mode and its record, from a checkpoint directory or the model.safetensors in it.

    Raises BadFileError when a part is missing, damaged, of a newer edgevit, or does not fit the other.
    """
    info = read_checkpoint(path)
    spec = ModelSpec(
        name=info.model,
        args=info.args,
        image_size=info.image_size,
        channels=info.channels,
        weights=str(weights_file(path)),
    )
    return create_model(spec, info.classes), info


def read_checkpoint(path: Path) -> Checkpoint:
    """The record alone, of a checkpoint directory or the model.safetensors in it. Raises BadFileError."""
    weights = weights_file(path)
    file = weights.parent / INFO_FILE
    if not file.is_file():
        fix = "Name the model that these weights belong to: edgevit COMMAND MODEL --weights PATH."
        raise BadFileError(path, f"has no {INFO_FILE} beside its weights.", fix=fix)
    document = _read_json(file)
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        problem = f"is {version}, this edgevit reads up to {SCHEMA_VERSION}."
        raise BadFileError(file, problem, where="schema_version", fix="Update edgevit.")
    try:
        info = Checkpoint.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadFileError(file, f"{first['msg']}.", where=where) from error
    Preprocess.from_json(info.preprocess, file)
    return info


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BadFileError(file, f"is not readable JSON ({error}).", fix="Copy it again.") from error
    if not isinstance(document, dict):
        raise BadFileError(file, "is not a JSON object.", fix="Copy it again.")
    return document
