"""Evaluate: accuracy of whatever TARGET is, on labelled pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevit.accuracy import is_correct, share_correct
from edgevit.board.preprocess import Preprocess
from edgevit.bundle import LABELS, PREPROCESS, is_bundle, load_bundle, read_labels, read_preprocess
from edgevit.data.batches import predict_all
from edgevit.data.pictures import PictureSet
from edgevit.errors import BadFileError, InputError
from edgevit.extras import require_extras
from edgevit.progress import Progress
from edgevit.recipe import DataSpec
from edgevit.results import Accuracy
from edgevit.runtimes import open_session, runtime_for
from edgevit.schema import Record
from edgevit.subject import require_same_classes

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


class Evaluation(Record):
    """`per_class`: accuracy on the pictures of each class that has any."""

    target: str
    precision: str
    accuracy: Accuracy
    per_class: dict[str, Accuracy]


def evaluate_target(target: Path, pictures: PictureSet, classes: tuple[str, ...], progress: Progress) -> Evaluation:
    """Accuracy of a checkpoint, an .onnx or .ts with preprocess.json and labels.txt beside it, or a bundle.

    Raises InputError when it is none of these, or was made for other classes.
    """
    if not target.exists():
        raise InputError(f"{target}: does not exist. Give a checkpoint, an .onnx file or a bundle.")
    progress.stage(f"Evaluating {target} on {len(pictures):,} pictures")
    precision, logits = _logits(target, pictures, classes, progress)
    if logits.shape[1] != len(classes):
        raise InputError(f"{target}: gives {logits.shape[1]} figures for a picture, and its labels are {len(classes)}.")
    correct = is_correct(logits, pictures.labels)
    per_class = {
        name: share_correct(correct[pictures.labels == index])
        for index, name in enumerate(classes)
        if (pictures.labels == index).any()
    }
    return Evaluation(target=str(target), precision=precision, accuracy=share_correct(correct), per_class=per_class)


def trained_on(target: Path) -> DataSpec | None:
    """The data that a bundle's or checkpoint's model was trained on, and their split; None where it is not recorded."""
    for bundle in (target, target.parent):  # an artifact inside a bundle is the bundle's
        if is_bundle(bundle):
            return load_bundle(bundle).manifest.model.trained_on
    if not target.is_dir() and target.suffix != CHECKPOINT_SUFFIXES[0]:
        return None
    require_extras("train")
    from edgevit.models.checkpoint import read_checkpoint

    return read_checkpoint(target).trained_on


def _logits(
    target: Path, pictures: PictureSet, classes: tuple[str, ...], progress: Progress
) -> tuple[str, NDArray[np.float32]]:
    """Precision and logits of the target. Raises InputError before any picture when it was made for other classes."""
    if is_bundle(target):
        bundle = load_bundle(target)
        require_same_classes(target, bundle.labels, classes)
        runtime = bundle.manifest.runtime
        logits = _run_session(bundle.entry, runtime.name, runtime.session, bundle.preprocess, pictures, progress)
        return bundle.manifest.precision, logits
    if target.is_dir() or target.suffix in CHECKPOINT_SUFFIXES:
        require_extras("train")
        from edgevit.subject import from_checkpoint
        from edgevit.train.evaluate import torch_run

        subject = from_checkpoint(target)
        require_same_classes(target, subject.labels, classes)
        assert subject.model is not None
        run = torch_run(subject.model)
        return "fp32", predict_all(run, pictures, subject.preprocess, 16, progress.update)
    runtime_name = runtime_for(target)
    for name in (PREPROCESS, LABELS):
        if not target.with_name(name).is_file():
            raise BadFileError(target, f"needs a {name} beside it.", fix="A bundle has both: evaluate the bundle.")
    require_same_classes(target, read_labels(target.with_name(LABELS)), classes)
    preprocess = read_preprocess(target.with_name(PREPROCESS))
    logits = _run_session(target, runtime_name, {}, preprocess, pictures, progress)
    return "as given", logits


def _run_session(
    path: Path, runtime: str, config: dict[str, str], preprocess: Preprocess, pictures: PictureSet, progress: Progress
) -> NDArray[np.float32]:
    session = open_session(path, runtime, 0, config)
    try:
        return predict_all(session.run, pictures, preprocess, progress=progress.update, input_type=session.input_type)
    finally:
        session.close()
