"""Reading folders of class folders: train/, val/, test/, or one folder that is split here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.data.pictures import UNLABELLED, PictureSet, from_files
from edgevit.data.splits import TEST_FRACTION, split_off
from edgevit.errors import InputError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".jp2", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".ico"),
)
SYSTEM_FILES = ("thumbs.db", "desktop.ini")
VAL_NAMES = ("val", "valid", "validation")
LISTED = 5


@dataclass(frozen=True)
class Splits:
    """What a dataset brings: `skipped` names the files that are no pictures, with the reason."""

    classes: tuple[str, ...]
    train: PictureSet
    val: PictureSet
    test: PictureSet
    skipped: dict[str, str]


def read_class_folders(root: Path, val_fraction: float, seed: int) -> Splits:
    """The splits of a folder; sorted class-folder names give the class index.

    With train/ and val/ [and test/]: as they are; a missing val is split off train, a missing test is half of val.
    Without train/: one folder of class folders, split into train, val and as large a test.
    Raises InputError naming the folder and what is wrong with it. No picture is opened.
    """
    _need_folder(root, "DATA is a folder of class folders, or the name of a dataset.")
    folders = {folder.name: folder for folder in _folders_in(root)}
    if not (_is_split(folders.get("train")) or any(_is_split(folders.get(name)) for name in (*VAL_NAMES, "test"))):
        classes, everything, skipped = _read_one(root, root)
        train, test, val = split_off(everything, [TEST_FRACTION, val_fraction], seed, classes, str(root))
        return Splits(classes, train, val, test, skipped)
    _refuse_odd_splits(root, folders)
    return _read_splits(root, folders, val_fraction, seed)


def read_unlabelled_folder(root: Path) -> tuple[PictureSet, dict[str, str]]:
    """All pictures below `root`, sorted by path, with the label UNLABELLED; and the files that are no pictures."""
    _need_folder(root, "Give a folder of pictures.")
    files = sorted(path for path in root.rglob("*") if path.is_file() and not _is_hidden(path))
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise InputError(f"{root}: holds no pictures ({', '.join(SUFFIXES[:4])}, …).")
    return from_files(paths, [UNLABELLED] * len(paths), root), _strays(files, root)


def _read_splits(root: Path, folders: dict[str, Path], val_fraction: float, seed: int) -> Splits:
    classes, train, skipped = _read_one(folders["train"], root)
    val_folder = next((folders[name] for name in VAL_NAMES if name in folders), None)
    test = _read_alike(folders["test"], root, classes, skipped) if "test" in folders else None
    if val_folder is not None:
        val = _read_alike(val_folder, root, classes, skipped)
        if test is None:
            val, test = split_off(val, [0.5], seed, classes, str(val_folder))
    elif test is not None:
        train, val = split_off(train, [val_fraction], seed, classes, str(folders["train"]))
    else:
        train, test, val = split_off(train, [TEST_FRACTION, val_fraction], seed, classes, str(folders["train"]))
    return Splits(classes, train, val, test, skipped)


def _read_one(folder: Path, root: Path) -> tuple[tuple[str, ...], PictureSet, dict[str, str]]:
    """(classes, pictures, stray files) of a folder of class folders."""
    class_folders = _folders_in(folder)
    loose = [path.name for path in _files_in(folder) if path.suffix.lower() in SUFFIXES]
    if not class_folders and not loose:
        raise InputError(f"{folder}: is empty. DATA is a folder with one folder of pictures for each class.")
    if loose:
        beside = "beside its class folders" if class_folders else "and no class folders"
        raise InputError(f"{folder}: holds {_some(loose)} {beside}. Move each picture into the folder of its class.")
    if len(class_folders) < 2:
        raise InputError(f"{folder}: has one class only, '{class_folders[0].name}'. Classifying takes at least two.")
    paths: list[Path] = []
    labels: list[int] = []
    skipped = _strays(_files_in(folder), root)
    for label, class_folder in enumerate(class_folders):
        if not class_folder.name.isprintable() or not class_folder.name.strip():
            raise InputError(f"{class_folder.parent}: the class name {class_folder.name!r} cannot be shown. Rename it.")
        files = _files_in(class_folder)
        pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        nested = [path.name for path in _folders_in(class_folder)]
        if nested:
            raise InputError(
                f"{class_folder}: holds {_some(nested)}, and a class folder holds pictures only. "
                f"Give the folder directly above the class folders."
            )
        if not pictures:
            raise InputError(f"{class_folder}: the class has no pictures. Add some, or remove the folder.")
        skipped.update(_strays(files, root))
        paths += pictures
        labels += [label] * len(pictures)
    return tuple(path.name for path in class_folders), from_files(paths, labels, root), skipped


def _read_alike(folder: Path, root: Path, classes: tuple[str, ...], skipped: dict[str, str]) -> PictureSet:
    """The pictures of val/ or test/, which must have the classes of train/; adds to `skipped`."""
    found, pictures, strays = _read_one(folder, root)
    missing, extra = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if missing:
        raise InputError(f"{folder}: lacks {_some(missing)}, which train has. Each split needs the same class folders.")
    if extra:
        raise InputError(f"{folder}: has {_some(extra)}, which train lacks. Each split needs the same class folders.")
    skipped.update(strays)
    return pictures


def _refuse_odd_splits(root: Path, folders: dict[str, Path]) -> None:
    if "train" not in folders:
        raise InputError(f"{root}: has {_some(sorted(folders))} but no 'train' folder.")
    odd = sorted(set(folders) - {"train", "test", *VAL_NAMES})
    if odd:
        raise InputError(f"{root}: holds {_some(odd)} beside 'train'. It may hold only train, val and test.")
    doubled = [name for name in VAL_NAMES if name in folders]
    if len(doubled) > 1:
        raise InputError(f"{root}: has {_some(doubled)}. Keep one of them.")


def _is_split(folder: Path | None) -> bool:
    """Whether it holds class folders, and is not itself a class that is called 'train'."""
    return folder is not None and not any(path.suffix.lower() in SUFFIXES for path in _files_in(folder))


def _need_folder(root: Path, fix: str) -> None:
    if not root.exists():
        raise InputError(f"{root}: there is no such folder.")
    if not root.is_dir():
        raise InputError(f"{root}: is a file. {fix}")


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _files_in(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not _is_hidden(path))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from None


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "__MACOSX")) or path.name.lower() in SYSTEM_FILES


def _strays(files: Sequence[Path], root: Path) -> dict[str, str]:
    strays = [path for path in files if path.suffix.lower() not in SUFFIXES]
    return {path.relative_to(root).as_posix(): "is not a picture by its suffix" for path in strays}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"'{name}'" for name in names[:LISTED]) + more
