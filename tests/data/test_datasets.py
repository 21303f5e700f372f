from __future__ import annotations

import gzip
import importlib.util
import json
import pickle
import shutil
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgevit.data import datasets, downloads
from edgevit.data.checks import drop_broken
from edgevit.data.datasets import DATASETS, open_dataset, open_unlabelled
from edgevit.data.pictures import from_arrays
from edgevit.errors import BadFileError, InputError, MissingExtraError
from edgevit.recipe import DataSpec, split_as_trained

FASHION = Path("/usr/share/datasets/fashion-mnist")


def fill(folder: Path, n: int, level: int = 100) -> None:
    """`n` pictures, each of its own gray level, so that no two are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        Image.new("RGB", (8, 6), (level, index, 0)).save(folder / f"{index:03}.png")


def open_folder(root: Path, **spec: object) -> datasets.Dataset:
    return open_dataset(DataSpec(source=str(root), **spec))  # type: ignore[arg-type]


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> Path:
    """An empty data root, and no other one."""
    monkeypatch.setenv("EDGEVIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(downloads, "data_roots", lambda: [tmp_path / "data"])
    return tmp_path / "data"


# Folders.


def test_one_folder_is_split_in_three_by_class(tmp_path) -> None:
    fill(tmp_path / "dog", 40)
    fill(tmp_path / "cat", 20)
    dataset = open_folder(tmp_path)
    assert (dataset.name, dataset.classes, dataset.skipped) == (tmp_path.name, ("cat", "dog"), {})
    counts = [np.bincount(part.labels).tolist() for part in (dataset.train, dataset.val, dataset.test)]
    assert counts == [[14, 28], [2, 4], [4, 8]]
    names = [*dataset.train.names, *dataset.val.names, *dataset.test.names]
    assert len(set(names)) == 60
    assert all(
        name.startswith(dataset.classes[label])
        for name, label in zip(dataset.val.names, dataset.val.labels, strict=True)
    )


def test_the_seed_fixes_the_split(tmp_path) -> None:
    fill(tmp_path / "a", 30)
    fill(tmp_path / "b", 30)
    first, again, other = (open_folder(tmp_path, seed=seed).test.names for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("val_name", ["val", "valid", "validation"])
def test_given_splits_are_kept(tmp_path, val_name) -> None:
    for part, n in (("train", 6), (val_name, 4), ("test", 3)):
        fill(tmp_path / part / "a", n)
        fill(tmp_path / part / "b", n)
    dataset = open_folder(tmp_path)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [12, 8, 6]
    assert {name.split("/")[0] for name in dataset.val.names} == {val_name}


def test_a_missing_test_is_half_of_val(tmp_path) -> None:
    for part, n in (("train", 6), ("val", 10)):
        fill(tmp_path / part / "a", n)
        fill(tmp_path / part / "b", n)
    dataset = open_folder(tmp_path)
    assert [np.bincount(part.labels).tolist() for part in (dataset.val, dataset.test)] == [[5, 5], [5, 5]]
    assert {name.split("/")[0] for name in dataset.test.names} == {"val"}


def test_a_missing_val_is_split_off_train(tmp_path) -> None:
    for part, n in (("train", 20), ("test", 5)):
        fill(tmp_path / part / "a", n)
        fill(tmp_path / part / "b", n)
    dataset = open_folder(tmp_path, val_fraction=0.2)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [32, 8, 10]
    assert {name.split("/")[0] for name in dataset.test.names} == {"test"}


def test_train_alone_is_split_in_three(tmp_path) -> None:
    fill(tmp_path / "train" / "a", 10)
    fill(tmp_path / "train" / "b", 10)
    dataset = open_folder(tmp_path)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [14, 2, 4]


def test_a_class_may_be_called_train(tmp_path) -> None:
    fill(tmp_path / "bus", 10)
    fill(tmp_path / "train", 10)
    assert open_folder(tmp_path).classes == ("bus", "train")


def test_limits_thin_out_train_and_evaluation(tmp_path) -> None:
    fill(tmp_path / "a", 60)
    fill(tmp_path / "b", 60)
    dataset = open_folder(tmp_path, train_limit=10, eval_limit=4)
    counts = [np.bincount(part.labels).tolist() for part in (dataset.train, dataset.val, dataset.test)]
    assert counts == [[5, 5], [2, 2], [2, 2]]


def test_a_limit_below_the_number_of_classes_is_refused(tmp_path) -> None:
    for name in "abc":
        fill(tmp_path / name, 10)
    with pytest.raises(InputError, match=r"data\.train_limit: 2 pictures cannot show all 3 classes"):
        open_folder(tmp_path, train_limit=2)


def test_any_first_few_pictures_are_a_mixture(tmp_path) -> None:
    fill(tmp_path / "a", 60)
    fill(tmp_path / "b", 60)
    assert set(open_folder(tmp_path).train.labels[:12].tolist()) == {0, 1}


def test_hidden_and_system_files_do_not_matter(tmp_path) -> None:
    fill(tmp_path / "a", 10)
    fill(tmp_path / "b", 10)
    for name in (".DS_Store", "Thumbs.db", "a/._x.png", "a/desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    dataset = open_folder(tmp_path)
    assert (dataset.classes, dataset.skipped) == (("a", "b"), {})


def test_files_that_are_no_pictures_are_reported_by_name(tmp_path) -> None:
    fill(tmp_path / "a", 10)
    fill(tmp_path / "b", 10)
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "b" / "labels.csv").write_text("1,2")
    reason = "is not a picture by its suffix"
    assert open_folder(tmp_path).skipped == {"README.txt": reason, "b/labels.csv": reason}


def test_one_broken_picture_in_a_hundred_is_skipped_by_name(tmp_path) -> None:
    fill(tmp_path / "a", 50)
    fill(tmp_path / "b", 50)
    (tmp_path / "a" / "007.png").write_bytes(b"")
    dataset = open_folder(tmp_path)
    assert dataset.skipped == {"a/007.png": "is empty (0 bytes)."}
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 99


def test_more_than_one_percent_broken_fails_with_the_first_ten(tmp_path) -> None:
    fill(tmp_path / "a", 30)
    fill(tmp_path / "b", 30)
    for index in range(12):
        (tmp_path / "a" / f"{index:03}.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        open_folder(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: 12 of 60 pictures are broken, more than 1 %: a/0")
    assert message.count("is not a picture that Pillow can read") == 10
    assert message.endswith("; and 2 more. Mend or delete them.")
    assert "\n" not in message


def test_a_class_that_loses_its_only_training_picture_is_named(tmp_path) -> None:
    fill(tmp_path / "train" / "a", 120)
    fill(tmp_path / "train" / "b", 1)
    fill(tmp_path / "val" / "a", 4)
    fill(tmp_path / "val" / "b", 4)
    (tmp_path / "train" / "b" / "000.png").write_bytes(b"")
    with pytest.raises(InputError, match="no picture of class 'b' is left to train on"):
        open_folder(tmp_path)


def test_checking_tells_how_far_it_is(tmp_path) -> None:
    fill(tmp_path / "a", 10)
    fill(tmp_path / "b", 10)
    seen = []
    open_dataset(DataSpec(source=str(tmp_path)), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 20) for done in range(1, 21)]


def test_pictures_in_memory_need_no_check() -> None:
    pictures = from_arrays(np.zeros((3, 2, 2), np.uint8), [0, 1, 2])
    assert drop_broken([pictures], "here") == ([pictures], {})


def _nothing(root: Path) -> None:
    pass


def _one_class(root: Path) -> None:
    fill(root / "cat", 10)


def _empty_class(root: Path) -> None:
    fill(root / "cat", 10)
    (root / "dog").mkdir()


def _loose_beside_classes(root: Path) -> None:
    fill(root / "cat", 10)
    fill(root / "dog", 10)
    fill(root, 7)


def _loose_only(root: Path) -> None:
    fill(root, 2)


def _nested(root: Path) -> None:
    fill(root / "animals" / "cat", 10)
    fill(root / "animals" / "dog", 10)


def _too_few(root: Path) -> None:
    fill(root / "cat", 10)
    fill(root / "dog", 2)


def _class_missing_in_val(root: Path) -> None:
    fill(root / "train" / "cat", 5)
    fill(root / "train" / "dog", 5)
    fill(root / "train" / "eel", 5)
    fill(root / "val" / "cat", 5)
    fill(root / "val" / "dog", 5)


def _class_missing_in_train(root: Path) -> None:
    fill(root / "train" / "cat", 5)
    fill(root / "train" / "dog", 5)
    for name in ("cat", "dog", "eel"):
        fill(root / "test" / name, 5)


def _no_train(root: Path) -> None:
    fill(root / "val" / "cat", 5)
    fill(root / "val" / "dog", 5)


def _odd_folder(root: Path) -> None:
    fill(root / "train" / "cat", 5)
    fill(root / "train" / "dog", 5)
    fill(root / "holdout" / "cat", 5)


def _two_vals(root: Path) -> None:
    for part in ("train", "val", "valid"):
        fill(root / part / "cat", 5)
        fill(root / part / "dog", 5)


def _val_too_small_to_halve(root: Path) -> None:
    for part, n in (("train", 5), ("val", 1)):
        fill(root / part / "cat", n)
        fill(root / part / "dog", n)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_nothing, "pets: is empty. DATA is a folder with one folder of pictures for each class"),
        (_one_class, "pets: has one class only, 'cat'. Classifying takes at least two"),
        (_empty_class, "pets/dog: the class has no pictures. Add some, or remove the folder"),
        (_loose_beside_classes, r"holds '000\.png', .*'004\.png' and 2 more beside its class folders. Move each"),
        (_loose_only, r"holds '000\.png', '001\.png' and no class folders. Move each picture"),
        (_nested, "has one class only, 'animals'"),
        (_too_few, "pets: class 'dog' has 2 pictures, and a split into 3 parts takes at least 3"),
        (_class_missing_in_val, "pets/val: lacks 'eel', which train has. Each split needs the same class folders"),
        (_class_missing_in_train, "pets/test: has 'eel', which train lacks. Each split needs the same class folders"),
        (_no_train, "pets: has 'val' but no 'train' folder"),
        (_odd_folder, "pets: holds 'holdout' beside 'train'. It may hold only train, val and test"),
        (_two_vals, "pets: has 'val', 'valid'. Keep one of them"),
        (_val_too_small_to_halve, "pets/val: class 'cat' has 1 pictures, and a split into 2 parts takes at least 2"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(tmp_path, prepare, words) -> None:
    root = tmp_path / "pets"
    root.mkdir()
    prepare(root)
    with pytest.raises(InputError, match=words) as caught:
        open_folder(root)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_folders_inside_a_class_folder_are_refused(tmp_path) -> None:
    fill(tmp_path / "cat", 3)
    fill(tmp_path / "dog" / "puppies", 3)
    with pytest.raises(
        InputError, match=r"dog: holds 'puppies', and a class folder holds pictures only\. Give the folder"
    ):
        open_folder(tmp_path)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path) -> None:
    (tmp_path / "cats.zip").write_bytes(b"x")
    with pytest.raises(InputError, match=r"cats\.zip: is a file. DATA is a folder of class folders"):
        open_folder(tmp_path / "cats.zip")


def test_a_folder_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        open_folder(tmp_path / "nowhere")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch) -> None:
    fill(tmp_path / "cat", 3)

    def refuse(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        open_folder(tmp_path)


def test_an_unknown_name_brings_a_suggestion_and_the_list() -> None:
    with pytest.raises(InputError, match=r"Unknown dataset 'fashon-mnist'\. Did you mean 'fashion-mnist'\?") as caught:
        open_dataset(DataSpec(source="fashon-mnist"))
    assert all(name in str(caught.value) for name in DATASETS)


def test_a_val_fraction_that_leaves_nothing_to_train_on_is_refused(tmp_path) -> None:
    fill(tmp_path / "a", 10)
    fill(tmp_path / "b", 10)
    with pytest.raises(
        InputError, match=r"data\.val_fraction: 0\.85 leaves nothing to train on. Choose less than 0\.8"
    ):
        open_folder(tmp_path, val_fraction=0.85)


def test_the_test_pictures_are_the_same_whatever_val_fraction_is(tmp_path) -> None:
    fill(tmp_path / "a", 40)
    fill(tmp_path / "b", 40)
    few, many = (open_folder(tmp_path, val_fraction=fraction) for fraction in (0.1, 0.4))
    assert set(few.test.names) == set(many.test.names)
    assert not set(few.test.names) & {*many.train.names, *many.val.names}


def test_unlabelled_pictures_are_found_at_any_depth(tmp_path) -> None:
    fill(tmp_path, 2)
    fill(tmp_path / "deep" / "down", 3)
    (tmp_path / "notes.txt").write_text("x")
    pictures, skipped = open_unlabelled(tmp_path)
    assert (len(pictures), set(pictures.labels.tolist())) == (5, {-1})
    assert skipped == {"notes.txt": "is not a picture by its suffix"}


def test_a_folder_without_pictures_cannot_calibrate(tmp_path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        open_unlabelled(tmp_path)


# Named datasets.


def test_digits_are_scaled_to_the_full_range_and_split() -> None:
    dataset = open_dataset(DataSpec(source="digits"), offline=True)
    from sklearn.datasets import load_digits

    digits = load_digits()
    assert dataset.classes == tuple("0123456789")
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 1797
    assert len(dataset.test) == 359  # a fifth of each class, rounded
    for index in (0, 50, 100):
        original = int(dataset.test.names[index].split()[1])
        assert dataset.test.labels[index] == digits.target[original]
        expected = np.floor(digits.images[original] * 255 / 16 + 0.5)  # no level lies halfway but 8: 127.5
        np.testing.assert_allclose(np.asarray(dataset.test.load(index), float), expected, atol=0.5)
    assert max(np.asarray(dataset.test.load(index)).max() for index in range(20)) == 255


def test_digits_without_scikit_learn_name_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"'scikit-learn'. Install it with: pip install 'edgevit\[train\]'"):
        open_dataset(DataSpec(source="digits"))


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_read_from_where_debian_puts_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEVIT_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    dataset = open_dataset(DataSpec(source="fashion-mnist"), offline=True)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [54_000, 6_000, 10_000]
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert np.bincount(dataset.val.labels).tolist() == [600] * 10
    first = dataset.test.names.index("fashion-mnist test 0")
    assert dataset.classes[dataset.test.labels[first]] == "Ankle boot"
    assert dataset.test.load(first).size == (28, 28)


def write_idx(path: Path, array: np.ndarray, *, packed: bool = False) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".gz" * packed).write_bytes(gzip.compress(content) if packed else content)


def write_fashion(folder: Path, packed: bool = False) -> None:
    for prefix, n in (("train", 40), ("t10k", 20)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        pixels = np.repeat(labels, 28 * 28).reshape(n, 28, 28)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", pixels, packed=packed)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels, packed=packed)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "fashion-mnist"])
def test_idx_files_are_read_packed_and_plain(data_root, folder, packed) -> None:
    write_fashion(data_root / folder, packed)
    dataset = open_dataset(DataSpec(source="fashion-mnist"), offline=True)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [30, 10, 20]
    for index in range(20):
        assert (np.asarray(dataset.test.load(index)) == dataset.test.labels[index]).all()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0\0\x08\x03",
        b"hello world, this is no idx file at all",
        bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28, 7]),
    ],
)
def test_a_damaged_idx_file_is_named(data_root, damage) -> None:
    write_fashion(data_root / "fashion-mnist")
    (data_root / "fashion-mnist" / "train-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(
        BadFileError, match=r"train-images-idx3-ubyte: is damaged\. Remove it and fetch the dataset again"
    ):
        open_dataset(DataSpec(source="fashion-mnist"), offline=True)


def test_a_damaged_gzip_file_is_named(data_root) -> None:
    write_fashion(data_root / "fashion-mnist", packed=True)
    (data_root / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bno")
    with pytest.raises(BadFileError, match=r"t10k-labels-idx1-ubyte\.gz: is damaged"):
        open_dataset(DataSpec(source="fashion-mnist"), offline=True)


def test_labels_that_do_not_fit_the_pictures_are_refused(data_root) -> None:
    write_fashion(data_root / "fashion-mnist")
    labels = data_root / "fashion-mnist" / "t10k-labels-idx1-ubyte"
    write_idx(labels, np.zeros(19, np.uint8))
    with pytest.raises(BadFileError, match="has 20 t10k pictures and 19 labels"):
        open_dataset(DataSpec(source="fashion-mnist"), offline=True)
    write_idx(labels, np.full(20, 10, np.uint8))
    with pytest.raises(BadFileError, match="has labels outside its 10 classes"):
        open_dataset(DataSpec(source="fashion-mnist"), offline=True)


def write_cifar(folder: Path, files: tuple[str, ...], key: str, meta: str, meta_key: str, *, classes: int) -> None:
    folder.mkdir(parents=True)
    labels = [index % classes for index in range(2 * classes)]
    pixels = np.zeros((len(labels), 3, 32, 32), np.uint8)
    pixels[:, 0] = np.array(labels)[:, None, None]  # red is the label
    pixels[:, 1, 0, :] = 200  # green is the top row
    for file in files:
        (folder / file).write_bytes(pickle.dumps({"data": pixels.reshape(-1, 3072), key: labels}, protocol=2))
    (folder / meta).write_bytes(pickle.dumps({meta_key: [f"class {index}" for index in range(classes)]}))


CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def test_cifar10_is_read_with_planes_in_their_places(data_root) -> None:
    write_cifar(data_root / "cifar-10-batches-py", CIFAR10_FILES, "labels", "batches.meta", "label_names", classes=10)
    dataset = open_dataset(DataSpec(source="cifar10"), offline=True)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [90, 10, 20]
    assert dataset.classes[3] == "class 3"
    picture, label = dataset.test.load(7), int(dataset.test.labels[7])
    assert picture.getpixel((5, 0)) == (label, 200, 0)
    assert picture.getpixel((5, 1)) == (label, 0, 0)


def test_cifar100_has_its_fine_classes(data_root) -> None:
    write_cifar(
        data_root / "cifar-100-python", ("train", "test"), "fine_labels", "meta", "fine_label_names", classes=100
    )
    dataset = open_dataset(DataSpec(source="cifar100"), offline=True)
    assert len(dataset.classes) == 100
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [100, 100, 200]


def test_protocol_0_to_5_pickles_of_arrays_are_read(tmp_path) -> None:
    from edgevit.data.named import _unpickle

    array = np.arange(300, dtype=np.uint8).reshape(3, 100)
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}"
        path.write_bytes(pickle.dumps({"data": array}, protocol=protocol))
        np.testing.assert_array_equal(_unpickle(path)["data"], array)


def test_a_pickle_that_would_execute_code_is_refused_and_does_not(data_root, tmp_path) -> None:
    write_cifar(data_root / "cifar-10-batches-py", CIFAR10_FILES, "labels", "batches.meta", "label_names", classes=10)
    trace = tmp_path / "executed"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return open, (str(trace), "w")

    (data_root / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({"data": Attack()}))
    with pytest.raises(BadFileError, match="data_batch_3: is damaged"):
        open_dataset(DataSpec(source="cifar10"), offline=True)
    assert not trace.exists()


@pytest.mark.parametrize(
    "document",
    [
        [1, 2],
        {"labels": [0]},
        {"data": np.zeros((1, 5), np.uint8), "labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((1, 3072), np.uint8)},
    ],
)
def test_a_damaged_cifar_batch_is_named(data_root, document) -> None:
    folder = data_root / "cifar-10-batches-py"
    write_cifar(folder, CIFAR10_FILES, "labels", "batches.meta", "label_names", classes=10)
    (folder / "test_batch").write_bytes(pickle.dumps(document))
    with pytest.raises(BadFileError, match="test_batch: is damaged"):
        open_dataset(DataSpec(source="cifar10"), offline=True)


def test_cifar_without_class_names_is_damaged(data_root) -> None:
    folder = data_root / "cifar-10-batches-py"
    write_cifar(folder, CIFAR10_FILES, "labels", "batches.meta", "other", classes=10)
    with pytest.raises(BadFileError, match=r"batches\.meta: label_names: is damaged"):
        open_dataset(DataSpec(source="cifar10"), offline=True)


def write_pets(folder: Path) -> None:
    (folder / "annotations").mkdir(parents=True)
    fill(folder / "images", 0)
    breeds = ("Abyssinian", "american_bulldog")
    for split, n in (("trainval", 20), ("test", 4)):
        lines = []
        for label, breed in enumerate(breeds, start=1):
            for index in range(n):
                name = f"{breed}_{split}{index}"
                Image.new("RGB", (5, 5)).save(folder / "images" / f"{name}.jpg")
                lines.append(f"{name} {label} {label} 1")
        (folder / "annotations" / f"{split}.txt").write_text("#a comment\n" + "\n".join(lines) + "\n")


def test_pets_are_read_with_their_breeds_and_their_own_test(data_root) -> None:
    write_pets(data_root / "oxford-iiit-pet")
    dataset = open_dataset(DataSpec(source="pets"), offline=True)
    assert dataset.classes == ("Abyssinian", "American Bulldog")
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [36, 4, 8]
    assert all("test" in name for name in dataset.test.names)


def test_damaged_lists_of_pets_are_named(data_root) -> None:
    write_pets(data_root / "oxford-iiit-pet")
    path = data_root / "oxford-iiit-pet" / "annotations" / "test.txt"
    for text in ("", "Abyssinian_1 x 1 1", "Abyssinian_1"):
        path.write_text(text)
        with pytest.raises(BadFileError, match=r"test\.txt: is damaged"):
            open_dataset(DataSpec(source="pets"), offline=True)
    path.unlink()
    with pytest.raises(BadFileError, match=r"test\.txt: cannot be read. Remove the folder and fetch the dataset again"):
        open_dataset(DataSpec(source="pets"), offline=True)


def test_food101_is_read_from_its_lists(data_root) -> None:
    folder = data_root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for split, n in (("train", 10), ("test", 3)):
        by_class = {title: [f"{title}/{split}{index}" for index in range(n)] for title in ("pad_thai", "apple_pie")}
        (folder / "meta" / f"{split}.json").write_text(json.dumps(by_class))
        for names in by_class.values():
            for name in names:
                path = folder / "images" / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (5, 5)).save(path)
    dataset = open_dataset(DataSpec(source="food101"), offline=True)
    assert dataset.classes == ("apple pie", "pad thai")
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [18, 2, 6]
    (folder / "meta" / "train.json").write_text("[1")
    with pytest.raises(BadFileError, match=r"train\.json: is damaged"):
        open_dataset(DataSpec(source="food101"), offline=True)


def write_flowers(folder: Path) -> None:
    from scipy.io import savemat

    (folder / "jpg").mkdir(parents=True)
    for index in range(1, 3 * 102 + 1):
        Image.new("L", (2, 2)).save(folder / "jpg" / f"image_{index:05d}.jpg")
    numbers = np.arange(1, 3 * 102 + 1)
    savemat(folder / "imagelabels.mat", {"labels": (numbers - 1) % 102 + 1})
    savemat(folder / "setid.mat", {"trnid": numbers[:102], "valid": numbers[102:204], "tstid": numbers[204:]})


def test_flowers_keep_their_own_three_splits(data_root) -> None:
    pytest.importorskip("scipy")
    write_flowers(data_root / "flowers-102")
    dataset = open_dataset(DataSpec(source="flowers"), offline=True)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [102] * 3
    assert dataset.classes[0] == "pink primrose"
    first = dataset.val.names.index("jpg/image_00103.jpg")  # number 103: label 1 again
    assert dataset.val.labels[first] == 0


def test_damaged_lists_of_flowers_are_named(data_root) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    folder = data_root / "flowers-102"
    write_flowers(folder)
    scipy_io.savemat(folder / "setid.mat", {"trnid": [1]})
    with pytest.raises(BadFileError, match=r"setid\.mat: is damaged"):
        open_dataset(DataSpec(source="flowers"), offline=True)
    (folder / "imagelabels.mat").write_bytes(b"no")
    with pytest.raises(BadFileError, match=r"imagelabels\.mat: is damaged"):
        open_dataset(DataSpec(source="flowers"), offline=True)


def test_flowers_without_scipy_name_the_extra(data_root, monkeypatch) -> None:
    (data_root / "flowers-102" / "jpg").mkdir(parents=True)
    for name in ("imagelabels.mat", "setid.mat"):
        (data_root / "flowers-102" / name).touch()
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match="This needs the package 'scikit-learn'"):
        open_dataset(DataSpec(source="flowers"), offline=True)


def test_beans_are_read_as_class_folders(data_root) -> None:
    for part in ("train", "validation", "test"):
        for name in ("angular_leaf_spot", "bean_rust", "healthy"):
            fill(data_root / "beans" / part / name, 2)
    dataset = open_dataset(DataSpec(source="beans"), offline=True)
    assert dataset.classes == ("angular_leaf_spot", "bean_rust", "healthy")
    assert (dataset.name, len(dataset.val)) == ("beans", 6)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_offline_a_dataset_that_is_not_here_says_where_it_belongs(data_root, name) -> None:
    with pytest.raises(InputError, match=f"Dataset '{name}' is not on this machine, and --offline forbids") as caught:
        open_dataset(DataSpec(source=name), offline=True)
    assert f"Put it into {data_root}" in str(caught.value)
    assert "or set EDGEVIT_DATA to the folder that holds '" in str(caught.value)
    assert not data_root.exists()


# Downloads.


def fake_torchvision(monkeypatch, download) -> None:
    classes = {"FashionMNIST", "CIFAR10", "CIFAR100", "OxfordIIITPet", "Flowers102", "Food101"}
    monkeypatch.setattr(downloads, "torchvision_datasets", lambda: SimpleNamespace(**dict.fromkeys(classes, download)))


def test_a_download_is_announced_and_then_found_on_disk(data_root, monkeypatch, capsys) -> None:
    fake_torchvision(monkeypatch, lambda root, download: write_fashion(Path(root) / "FashionMNIST" / "raw"))
    said: list[str] = []
    assert len(open_dataset(DataSpec(source="fashion-mnist"), notify=said.append).test) == 20
    assert said == [f"Downloading dataset 'fashion-mnist' (about 31 MB) to {data_root / 'FashionMNIST/raw'}"]
    open_dataset(DataSpec(source="fashion-mnist"), notify=said.append)
    assert len(said) == 1
    assert [path.name for path in data_root.iterdir()] == ["FashionMNIST"]
    shutil.rmtree(data_root)
    open_dataset(DataSpec(source="fashion-mnist"))
    assert "Downloading dataset 'fashion-mnist'" in capsys.readouterr().err


def test_a_download_that_fails_says_why_and_leaves_nothing(data_root, monkeypatch) -> None:
    def fail(root: str, download: bool) -> None:
        write_fashion(Path(root) / "FashionMNIST" / "raw")
        raise RuntimeError("Error downloading\nmore")

    fake_torchvision(monkeypatch, fail)
    with pytest.raises(
        InputError, match=r"'fashion-mnist' could not be downloaded \(Error downloading\)\. Put it into"
    ):
        open_dataset(DataSpec(source="fashion-mnist"), notify=lambda message: None)
    assert list(data_root.iterdir()) == []


def test_an_incomplete_dataset_is_not_overwritten(data_root, monkeypatch) -> None:
    (data_root / "FashionMNIST" / "raw").mkdir(parents=True)
    fake_torchvision(monkeypatch, lambda root, download: write_fashion(Path(root) / "FashionMNIST" / "raw"))
    with pytest.raises(InputError, match="exists and is incomplete; remove it"):
        open_dataset(DataSpec(source="fashion-mnist"), notify=lambda message: None)


def test_beans_come_from_their_published_archives(data_root, tmp_path, monkeypatch) -> None:
    asked = []
    for part in ("train", "validation", "test"):
        for name in ("angular_leaf_spot", "bean_rust", "healthy"):
            fill(tmp_path / "source" / part / part / name, 3)
        shutil.make_archive(str(tmp_path / part), "zip", tmp_path / "source" / part)

    def urlopen(url: str, timeout: int):
        asked.append(url)
        return (tmp_path / url.rsplit("/", 1)[1]).open("rb")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", urlopen)
    dataset = open_dataset(DataSpec(source="beans"), notify=lambda message: None)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [9, 9, 9]
    assert [url.rsplit("/", 1)[1] for url in asked] == ["train.zip", "validation.zip", "test.zip"]


def test_without_torchvision_a_download_names_the_extra(data_root, monkeypatch) -> None:
    def missing() -> None:
        raise MissingExtraError("torchvision", "train")

    monkeypatch.setattr(downloads, "torchvision_datasets", missing)
    with pytest.raises(MissingExtraError, match="This needs the package 'torchvision'"):
        open_dataset(DataSpec(source="cifar10"), notify=lambda message: None)


def test_torchvisions_datasets_are_what_downloads_use() -> None:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    names = {origin.torchvision for origin, _ in datasets._ON_DISK.values()} - {""}
    assert all(hasattr(downloads.torchvision_datasets(), name) for name in names)


def test_data_roots_begin_with_the_users_own(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("EDGEVIT_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert downloads.data_roots()[:2] == [tmp_path / "mine", tmp_path / "torch"]
    monkeypatch.delenv("EDGEVIT_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert downloads.data_roots()[0] == tmp_path / ".cache" / "edgevit" / "data"


def test_arrays_that_python_2_pickled_are_read(tmp_path) -> None:
    from edgevit.data.named import _unpickle

    content = (
        rb"(dS'data'" + b"\n" + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I1\nI3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x01\\x80\\xff'\ntbs."
    )  # as CIFAR's files are: bytes as strings
    (tmp_path / "batch").write_bytes(content)
    np.testing.assert_array_equal(_unpickle(tmp_path / "batch")["data"], np.array([[1, 128, 255]], np.uint8))


def test_data_are_split_as_the_training_drew_them() -> None:
    trained_on = DataSpec(source="digits", seed=5, val_fraction=0.3, train_limit=10, eval_limit=10)
    again = split_as_trained("digits", trained_on)
    assert (again.seed, again.val_fraction, again.train_limit, again.eval_limit) == (5, 0.3, None, None)
    assert split_as_trained("fashion-mnist", trained_on) == DataSpec(source="fashion-mnist")
    assert split_as_trained("digits", None) == DataSpec(source="digits")


@pytest.mark.parametrize("name", ["v\x85tab", "new\nline", "line\u2028end", " "])
def test_a_class_name_that_cannot_be_shown_is_refused(tmp_path, name) -> None:
    fill(tmp_path / name, 5)
    fill(tmp_path / "b", 5)
    with pytest.raises(InputError, match=r"the class name .* cannot be shown\. Rename it"):
        open_folder(tmp_path)


def test_a_fingerprint_is_of_the_pictures_their_classes_and_their_splits(tmp_path: Path) -> None:
    spec = DataSpec(source="digits")
    found = open_dataset(spec).fingerprint()
    assert open_dataset(spec).fingerprint() == found
    assert open_dataset(spec.model_copy(update={"seed": 1})).fingerprint() != found
    assert open_dataset(spec.model_copy(update={"train_limit": 100})).fingerprint() != found
