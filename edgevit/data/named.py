"""Reading the named datasets in the layouts in which torchvision and their publishers leave them on disk."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.data.folders import Splits, read_class_folders
from edgevit.data.pictures import PictureSet, from_arrays, from_files
from edgevit.data.splits import TEST_FRACTION, split_off
from edgevit.errors import BadFileError, MissingExtraError
from edgevit.recipe import DataSpec

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_DAMAGED = "is damaged. Remove it and fetch the dataset again."


def read_digits(spec: DataSpec) -> Splits:
    """scikit-learn's 1,797 digits of 8 x 8 pixels in 17 levels of gray, scaled to 0..255; split here."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", "train") from None
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    everything = from_arrays(pixels, digits.target, "digit")
    classes = tuple(str(digit) for digit in range(10))
    train, test, val = split_off(everything, [TEST_FRACTION, spec.val_fraction], spec.seed, classes, "digits")
    return Splits(classes, train, val, test, {})


def read_fashion_mnist(folder: Path, spec: DataSpec) -> Splits:
    """The four idx files, plain or .gz; 60,000 and 10,000 gray pictures of 28 x 28."""
    train = _read_idx_pair(folder, "train", "fashion-mnist train")
    test = _read_idx_pair(folder, "t10k", "fashion-mnist test")
    return _with_val(FASHION_CLASSES, train, test, spec, folder)


def read_cifar10(folder: Path, spec: DataSpec) -> Splits:
    classes = _classes_of(folder / "batches.meta", "label_names")
    train_files = [folder / f"data_batch_{number}" for number in range(1, 6)]
    train = _read_cifar(train_files, "labels", "cifar10 train")
    test = _read_cifar([folder / "test_batch"], "labels", "cifar10 test")
    return _with_val(classes, train, test, spec, folder)


def read_cifar100(folder: Path, spec: DataSpec) -> Splits:
    classes = _classes_of(folder / "meta", "fine_label_names")
    train = _read_cifar([folder / "train"], "fine_labels", "cifar100 train")
    test = _read_cifar([folder / "test"], "fine_labels", "cifar100 test")
    return _with_val(classes, train, test, spec, folder)


def read_pets(folder: Path, spec: DataSpec) -> Splits:
    """Oxford-IIIT Pet: 37 breeds; annotations/trainval.txt and test.txt say 'NAME CLASS SPECIES BREED'."""
    lists = {}
    breeds: dict[int, str] = {}
    for split in ("trainval", "test"):
        path = folder / "annotations" / f"{split}.txt"
        lines = [line.split() for line in _text_of(path).splitlines() if line.strip() and not line.startswith("#")]
        if not lines or not all(len(line) == 4 and line[1].isdigit() for line in lines):
            raise BadFileError(path, _DAMAGED)
        breeds.update({int(line[1]) - 1: line[0].rpartition("_")[0].replace("_", " ").title() for line in lines})
        paths = [folder / "images" / f"{line[0]}.jpg" for line in lines]
        lists[split] = from_files(paths, [int(line[1]) - 1 for line in lines], folder)
    classes = tuple(breeds[label] for label in sorted(breeds))
    return _with_val(classes, lists["trainval"], lists["test"], spec, folder)


def read_food101(folder: Path, spec: DataSpec) -> Splits:
    """Food-101: meta/train.json and test.json map each class to its pictures."""
    lists = {}
    titles: list[str] = []
    for split in ("train", "test"):
        path = folder / "meta" / f"{split}.json"
        try:
            by_class = json.loads(_text_of(path))
            titles = sorted(by_class)
            pairs = [(name, label) for label, title in enumerate(titles) for name in by_class[title]]
            paths = [folder / "images" / f"{name}.jpg" for name, _ in pairs]
        except (ValueError, TypeError, KeyError):
            raise BadFileError(path, _DAMAGED) from None
        lists[split] = from_files(paths, [label for _, label in pairs], folder)
    classes = tuple(title.replace("_", " ") for title in titles)
    return _with_val(classes, lists["train"], lists["test"], spec, folder)


def read_flowers(folder: Path, _spec: DataSpec) -> Splits:
    """Oxford 102 Flowers with its own train, val and test; titles are torchvision's."""
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", "train") from None
    from edgevit.data.downloads import torchvision_datasets

    documents = {}
    for name in ("imagelabels.mat", "setid.mat"):
        try:
            documents[name] = loadmat(folder / name, squeeze_me=True)
        except Exception:  # on damaged input scipy raises about any type
            raise BadFileError(folder / name, _DAMAGED) from None
    try:
        labels = np.asarray(documents["imagelabels.mat"]["labels"], dtype=np.int64) - 1
        numbers = {key: np.asarray(documents["setid.mat"][key]).tolist() for key in ("trnid", "valid", "tstid")}
        parts = {
            key: from_files([folder / "jpg" / f"image_{i:05d}.jpg" for i in ids], labels[np.array(ids) - 1], folder)
            for key, ids in numbers.items()
        }
    except (KeyError, IndexError, ValueError):
        raise BadFileError(folder / "setid.mat", _DAMAGED) from None
    classes = tuple(torchvision_datasets().Flowers102.classes)
    return Splits(classes, parts["trnid"], parts["valid"], parts["tstid"], {})


def read_beans(folder: Path, spec: DataSpec) -> Splits:
    """iBeans: train/, validation/ and test/ of three classes."""
    return read_class_folders(folder, spec.val_fraction, spec.seed)


def _with_val(classes: Sequence[str], train: PictureSet, test: PictureSet, spec: DataSpec, folder: Path) -> Splits:
    for part in (train, test):
        if len(part) and not 0 <= int(part.labels.min()) <= int(part.labels.max()) < len(classes):
            raise BadFileError(folder, f"has labels outside its {len(classes)} classes; it {_DAMAGED}")
    train, val = split_off(train, [spec.val_fraction], spec.seed, classes, str(folder))
    return Splits(tuple(classes), train, val, test, {})


def _read_idx_pair(folder: Path, prefix: str, name: str) -> PictureSet:
    pixels = _read_idx(folder / f"{prefix}-images-idx3-ubyte", 3)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte", 1)
    if len(pixels) != len(labels):
        raise BadFileError(folder, f"has {len(pixels)} {prefix} pictures and {len(labels)} labels; it {_DAMAGED}")
    return from_arrays(pixels, labels.tolist(), name)


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """uint8 array of an idx file: 00 00 08 D, then D sizes as big-endian 32-bit numbers, then the bytes.

    Source: Yann LeCun, "The MNIST database", section on file formats.
    """
    packed = path.with_name(path.name + ".gz")
    try:
        content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error):
        raise BadFileError(path if path.is_file() else packed, _DAMAGED) from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise BadFileError(path, _DAMAGED)
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != int(np.prod(shape, dtype=np.uint64)):
        raise BadFileError(path, _DAMAGED)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


class _PlainUnpickler(pickle.Unpickler):
    """Reads CIFAR's pickles, which hold NumPy arrays in containers, and executes nothing that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed here")


def _reconstruct(_kind: type, shape: tuple[int, ...], _code: bytes) -> NDArray[Any]:
    """What NumPy's own _reconstruct returns for an ndarray: an empty one, whose state follows in the pickle."""
    return np.ndarray(shape, np.int8)


def _encode(text: str, _encoding: str) -> bytes:
    return text.encode("latin1")


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            document = _PlainUnpickler(file, encoding="latin1").load()
    except Exception:  # pickle documents that damaged input raises about any type
        raise BadFileError(path, _DAMAGED) from None
    if not isinstance(document, dict):
        raise BadFileError(path, _DAMAGED)
    return document


def _classes_of(path: Path, key: str) -> tuple[str, ...]:
    try:
        return tuple(str(title) for title in _unpickle(path)[key])
    except (KeyError, TypeError):
        raise BadFileError(path, _DAMAGED, where=key) from None


def _read_cifar(paths: Sequence[Path], label_key: str, name: str) -> PictureSet:
    pixels, labels = [], []
    for path in paths:
        batch = _unpickle(path)
        try:
            planes = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
            labels += [int(label) for label in batch[label_key]]
        except (KeyError, ValueError, TypeError):
            raise BadFileError(path, _DAMAGED) from None
        pixels.append(planes.transpose(0, 2, 3, 1))  # (N, 32, 32, 3)
        if sum(len(part) for part in pixels) != len(labels):
            raise BadFileError(path, _DAMAGED)
    return from_arrays(np.concatenate(pixels), labels, name)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadFileError(path, "cannot be read. Remove the folder and fetch the dataset again.") from None
