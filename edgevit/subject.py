"""Subject: the model that a command's TARGET names, ready to be exported."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgevit.board.preprocess import Preprocess
from edgevit.bundle import LABELS, PREPROCESS, is_bundle, read_labels, read_preprocess
from edgevit.errors import BadFileError, InputError
from edgevit.recipe import PRETRAINED, RANDOM, DataSpec, ModelSpec

if TYPE_CHECKING:
    import onnx
    import torch

Weights = Literal["pretrained", "random", "checkpoint", "unknown"]
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Subject:
    """Either `model` (a torch module in inference form) or `graph` (an ONNX file that was given) is there."""

    name: str
    weights: Weights
    preprocess: Preprocess
    labels: tuple[str, ...]
    model: torch.nn.Module | None = None
    graph: onnx.ModelProto | None = None
    parameters: int | None = None
    trained_on: DataSpec | None = None

    def resized(self, side: int) -> Subject:
        """The same weights for pictures of side x side pixels; position embeddings are interpolated.

        The crop takes the same share of the picture. Raises InputError for a graph, whose size is fixed, and for a size
        that the model does not take.
        """
        from edgevit.models.resize import resize_model

        if self.model is None:
            raise InputError(f"'{self.name}' is an ONNX file of {self.preprocess.height} px, which cannot be resized.")
        resize = self.preprocess.resize
        share = resize and math.floor(resize * side / self.preprocess.height)
        preprocess = dataclasses.replace(self.preprocess, height=side, width=side, resize=share)
        return dataclasses.replace(self, model=resize_model(self.model, side), preprocess=preprocess)

    def fingerprint(self) -> str:
        """sha256 of the weights, or of the graph: two subjects with the same are the same function."""
        digest = hashlib.sha256()
        if self.graph is not None:
            digest.update(self.graph.SerializeToString())
        elif self.model is not None:
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return 1, self.preprocess.channels, self.preprocess.height, self.preprocess.width


def open_subject(
    target: str, spec: ModelSpec, classes: int | None = None, offline: bool = False, seed: int = 0
) -> Subject:
    """What TARGET names: a checkpoint, an .onnx file, or a model of the registry or timm.

    spec: image size, channels and weights, for a model that is named. Raises InputError.
    """
    path = Path(target)
    is_file = path.suffix in (".onnx", ".safetensors", ".pth", ".pt", ".bin")
    if (is_file or path.exists()) and (spec.image_size or spec.channels or spec.weights != PRETRAINED or classes):
        raise InputError(f"{path}: has its own weights, classes, image size and channels. Leave these options out.")
    if path.suffix == ".onnx":
        return _from_onnx(path)
    if is_bundle(path):
        raise InputError(f"{target}: is a bundle already. Name the checkpoint or the model that it was made from.")
    if is_file or path.exists():
        return from_checkpoint(path)
    return _from_name(spec.model_copy(update={"name": target}), classes, offline, seed)


def from_checkpoint(path: Path) -> Subject:
    from edgevit.models.checkpoint import load_checkpoint
    from edgevit.models.create import count_parameters
    from edgevit.models.fusion import fuse_for_inference

    model, info = load_checkpoint(path)
    return Subject(
        name=info.model,
        weights="random" if info.weights == RANDOM and not info.epochs else "checkpoint",
        preprocess=Preprocess.from_json(info.preprocess, path),
        labels=tuple(info.labels),
        model=fuse_for_inference(model),
        parameters=count_parameters(model),
        trained_on=info.trained_on,
    )


def _from_name(spec: ModelSpec, classes: int | None, offline: bool, seed: int) -> Subject:
    from edgevit.models.create import count_parameters, create_model, preprocess_for
    from edgevit.models.fusion import fuse_for_inference

    model = create_model(spec, classes, offline=offline, seed=seed)
    count = int(getattr(model, "num_classes", 0))
    if count < 1:
        raise InputError(f"Model '{spec.name}' has no classifier. Fine-tune it first, or ask for one with --classes N.")
    weights: Weights = "random" if spec.weights == RANDOM else "pretrained"
    return Subject(
        name=spec.name,
        weights=weights if spec.weights in (RANDOM, PRETRAINED) else "checkpoint",
        preprocess=preprocess_for(model, spec),
        labels=class_names(count),
        model=fuse_for_inference(model),
        parameters=count_parameters(model),
    )


def _from_onnx(path: Path) -> Subject:
    from edgevit.export.onnx import class_count, input_shape, read_onnx, simplified

    graph = read_onnx(path)
    beside = path.with_name(PREPROCESS)
    if not beside.is_file():
        fix = "How the pictures are prepared cannot be guessed from a graph."
        raise BadFileError(path, f"needs a {PREPROCESS} beside it.", fix=fix)
    preprocess = read_preprocess(beside)
    shape, expected = input_shape(graph)[1:], (preprocess.channels, preprocess.height, preprocess.width)
    if shape != expected:
        raise BadFileError(beside, f"makes inputs of {expected}, and {path.name} takes {shape}.")
    labels_file = path.with_name(LABELS)
    classes = class_count(graph)
    if classes < 1:
        raise BadFileError(path, "does not say how many classes it has.", fix="Export it with a fixed output shape.")
    labels = read_labels(labels_file) if labels_file.is_file() else class_names(classes)
    if len(labels) != classes:
        raise BadFileError(labels_file, f"has {len(labels)} labels, and the model has {classes} classes.")
    return Subject(path.stem, "unknown", preprocess, labels, graph=simplified(graph))


def require_same_classes(target: object, labels: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Raises InputError when `target`, made for `labels`, cannot be judged by pictures of `classes`."""
    if labels == classes:
        return
    only = [name for name in classes if name not in labels]
    difference = f"it does not know '{only[0]}'" if only else "in another order or number"
    raise InputError(
        f"{target}: was made for {len(labels)} classes, and the pictures have {len(classes)}: {difference}."
    )


def class_names(classes: int) -> tuple[str, ...]:
    """ImageNet's names for 1,000 classes, else 'class 0', 'class 1', …"""
    if classes != IMAGENET_CLASSES:
        return tuple(f"class {index}" for index in range(classes))
    from edgevit.models.torchvision_ops import import_timm

    names = import_timm().data.ImageNetInfo("imagenet-1k")
    return tuple(names.index_to_description(index).split(",")[0] for index in range(classes))
