"""PictureSet: labelled pictures, in memory or in files, that are decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgevit.board.preprocess import read_picture
from edgevit.errors import InputError, ShapeMismatchError

UNLABELLED = -1


class Store(Protocol):
    """Where pictures are: `read` gives one, upright and with 8 bits a channel, as an image or as (H, W, channels)."""

    def read(self, row: int) -> Image.Image | NDArray[np.uint8]: ...


@dataclass(frozen=True)
class ArrayStore:
    """Pictures in memory. `pixels`: uint8, (N, H, W) for gray or (N, H, W, channels)."""

    pixels: NDArray[np.uint8]

    def read(self, row: int) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self.pixels[row]
        return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels  # (H, W, C)


@dataclass(frozen=True)
class FileStore:
    """Pictures in files, read when they are asked for."""

    paths: tuple[Path, ...]

    def read(self, row: int) -> Image.Image:
        return read_picture(self.paths[row])


@dataclass(frozen=True)
class PictureSet:
    """labels: int64 (N,), UNLABELLED where there is none. names: one per picture. rows: where each is in `store`."""

    labels: NDArray[np.int64]
    names: tuple[str, ...]
    rows: NDArray[np.int64]
    store: Store

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Image.Image:
        """Picture `index`, upright, in mode L or RGB. Raises InputError naming the file, or for 2, 4 or more bands."""
        picture = self.store.read(int(self.rows[index]))
        if isinstance(picture, Image.Image):
            return picture.convert("L" if picture.mode in ("L", "LA") else "RGB")
        channels = picture.shape[2]
        if channels not in (1, 3):
            raise InputError(f"{self.names[index]}: has {channels} channels, and is neither gray nor RGB.")
        return Image.fromarray(picture[..., 0] if channels == 1 else picture)

    def load_array(self, index: int) -> NDArray[np.uint8]:
        """Picture `index` as uint8 (H, W, channels), with all the channels that it has."""
        pixels = np.asarray(self.store.read(int(self.rows[index])))
        return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels  # (H, W, C)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> PictureSet:
        """The pictures at `indices`, in that order; no pixel is copied."""
        chosen = np.asarray(indices, dtype=np.int64)
        names = tuple(self.names[index] for index in chosen)
        return PictureSet(self.labels[chosen], names, self.rows[chosen], self.store)


def from_arrays(pixels: NDArray[np.uint8], labels: Iterable[int], name: str = "picture") -> PictureSet:
    """A PictureSet of uint8 (N, H, W) or (N, H, W, channels); picture 7 is called 'NAME 7'.

    Raises ShapeMismatchError when the number of labels differs, or pixels are something else.
    """
    known = np.fromiter(labels, dtype=np.int64)
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise ShapeMismatchError(f"{name}: pixels are {pixels.dtype} {pixels.shape}, not uint8 (N, H, W[, channels]).")
    if len(pixels) != len(known):
        raise ShapeMismatchError(f"{name}: {len(pixels)} pictures and {len(known)} labels do not belong together.")
    names = tuple(f"{name} {index}" for index in range(len(known)))
    return PictureSet(known, names, np.arange(len(known)), ArrayStore(pixels))


def from_files(paths: Sequence[Path], labels: Iterable[int], root: Path) -> PictureSet:
    """A PictureSet of files below `root`, each called by its path from there; nothing is read yet."""
    known = np.fromiter(labels, dtype=np.int64)
    if len(paths) != len(known):
        raise ShapeMismatchError(f"{root}: {len(paths)} pictures and {len(known)} labels do not belong together.")
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    return PictureSet(known, names, np.arange(len(known)), FileStore(tuple(paths)))
