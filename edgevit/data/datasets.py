"""Opening the data of a recipe: a named dataset or a folder of class folders, split, checked and shuffled."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgevit.data.checks import Progress, drop_broken, no_progress
from edgevit.data.downloads import Notify, Origin, find_or_fetch
from edgevit.data.folders import Splits, read_class_folders, read_unlabelled_folder
from edgevit.data.named import (
    read_beans,
    read_cifar10,
    read_cifar100,
    read_digits,
    read_fashion_mnist,
    read_flowers,
    read_food101,
    read_pets,
)
from edgevit.data.pictures import PictureSet
from edgevit.data.splits import shuffled, stratified_subset
from edgevit.errors import InputError
from edgevit.recipe import DataSpec

Reader = Callable[[Path, DataSpec], Splits]

_IDX_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
_CIFAR100_FILES = ("train", "test", "meta")
_FLOWERS_FILES = ("jpg", "imagelabels.mat", "setid.mat")

_ON_DISK: dict[str, tuple[Origin, Reader]] = {
    "fashion-mnist": (Origin("FashionMNIST/raw", _IDX_FILES, 31, "FashionMNIST"), read_fashion_mnist),
    "cifar10": (Origin("cifar-10-batches-py", _CIFAR10_FILES, 170, "CIFAR10"), read_cifar10),
    "cifar100": (Origin("cifar-100-python", _CIFAR100_FILES, 169, "CIFAR100"), read_cifar100),
    "pets": (Origin("oxford-iiit-pet", ("images", "annotations"), 811, "OxfordIIITPet"), read_pets),
    "flowers": (Origin("flowers-102", _FLOWERS_FILES, 345, "Flowers102"), read_flowers),
    "food101": (Origin("food-101", ("images", "meta"), 4997, "Food101"), read_food101),
    "beans": (Origin("beans", ("train", "validation", "test"), 180, ""), read_beans),
}
DATASETS = ("digits", *_ON_DISK)


@dataclass(frozen=True)
class Dataset:
    """`skipped`: files left out, by name, with the reason. Any first few of a split are a fair sample of it."""

    name: str
    classes: tuple[str, ...]
    train: PictureSet
    val: PictureSet
    test: PictureSet
    skipped: dict[str, str]

    def fingerprint(self) -> str:
        """Equal for the same pictures, by name and class, in the same splits; their pixels are not looked at."""
        splits = [[part.names, part.labels.tolist()] for part in (self.train, self.val, self.test)]
        return hashlib.sha256(json.dumps([self.classes, splits]).encode()).hexdigest()


def notify_on_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def open_dataset(
    spec: DataSpec, *, offline: bool = False, notify: Notify = notify_on_stderr, progress: Progress = no_progress
) -> Dataset:
    """The dataset, every picture file of it decoded once; broken ones are in `skipped`.

    An official test split stays the test split. `progress` is called with (checked, total) after each file.
    Raises InputError naming what is wrong with the source, and where a dataset that is not here belongs.
    """
    splits = _read(spec, offline, notify)
    parts = [
        stratified_subset(splits.train, spec.train_limit, spec.seed),
        stratified_subset(splits.val, spec.eval_limit, spec.seed),
        stratified_subset(splits.test, spec.eval_limit, spec.seed),
    ]
    (train, val, test), broken = drop_broken(parts, spec.source, progress)
    _need_every_class(train, splits.classes, spec)
    name = spec.source if spec.source in DATASETS else Path(spec.source).expanduser().resolve().name
    return Dataset(
        name=name,
        classes=splits.classes,
        train=shuffled(train, spec.seed),
        val=shuffled(val, spec.seed),
        test=shuffled(test, spec.seed),
        skipped={**splits.skipped, **broken},
    )


def open_unlabelled(
    folder: str | os.PathLike[str], progress: Progress = no_progress
) -> tuple[PictureSet, dict[str, str]]:
    """All pictures below `folder`, in a fixed shuffled order, unlabelled; and the files left out, with the reason."""
    pictures, strays = read_unlabelled_folder(Path(folder).expanduser())
    (whole,), broken = drop_broken([pictures], str(folder), progress)
    return shuffled(whole, seed=0), {**strays, **broken}


def _read(spec: DataSpec, offline: bool, notify: Notify) -> Splits:
    if spec.source == "digits":
        return read_digits(spec)
    if spec.source in _ON_DISK:
        origin, read = _ON_DISK[spec.source]
        return read(find_or_fetch(spec.source, origin, offline, notify), spec)
    path = Path(spec.source).expanduser()
    if not path.exists() and path.name == spec.source:
        nearest = difflib.get_close_matches(spec.source, DATASETS, n=1)
        suggestion = f" Did you mean '{nearest[0]}'?" if nearest else ""
        raise InputError(
            f"Unknown dataset '{spec.source}'.{suggestion} "
            f"DATA is a folder of class folders, or one of: {', '.join(DATASETS)}."
        )
    return read_class_folders(path, spec.val_fraction, spec.seed)


def _need_every_class(train: PictureSet, classes: tuple[str, ...], spec: DataSpec) -> None:
    present = set(train.labels.tolist())
    absent = [title for label, title in enumerate(classes) if label not in present]
    if absent and spec.train_limit is not None and spec.train_limit < len(classes):
        raise InputError(f"data.train_limit: {spec.train_limit} pictures cannot show all {len(classes)} classes.")
    if absent:
        raise InputError(f"{spec.source}: no picture of class '{absent[0]}' is left to train on.")
