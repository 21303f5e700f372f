"""The few photographs that come with edgevit: for calibration and golden samples where no data is given."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgevit.board.preprocess import read_picture
from edgevit.data.pictures import UNLABELLED, PictureSet

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SMALLEST_SIDE = 0.6  # of the photograph's: a crop keeps enough to be a picture of something


@dataclass(frozen=True)
class CropStore:
    """Crops of the photographs, made when they are asked for: row r is of photograph r modulo 4, r below 4 is whole.

    channels 1: gray. 3: RGB. Other numbers: R, G and B in turn, which stands in for bands that no photograph has.
    """

    channels: int

    def read(self, row: int) -> Image.Image | NDArray[np.uint8]:
        image = _crop(_photo(PHOTOS[row % len(PHOTOS)]), row)
        if self.channels in (1, 3):
            return image.convert("L") if self.channels == 1 else image
        return np.asarray(image)[..., np.arange(self.channels) % 3]  # (H, W, channels)


def sample_pictures(n: int, channels: int = 3) -> PictureSet:
    """`n` unlabelled pictures, the same ones every time: the four photographs, then crops and mirror images of them."""
    names = tuple(f"{PHOTOS[row % len(PHOTOS)]} {row // len(PHOTOS)}" for row in range(n))
    return PictureSet(np.full(n, UNLABELLED, np.int64), names, np.arange(n), CropStore(channels))


def _crop(photo: Image.Image, row: int) -> Image.Image:
    if row < len(PHOTOS):
        return photo
    random = np.random.default_rng(row)
    width, height = (max(1, round(side * random.uniform(SMALLEST_SIDE, 1.0))) for side in photo.size)
    left, top = int(random.integers(photo.width - width + 1)), int(random.integers(photo.height - height + 1))
    crop = photo.crop((left, top, left + width, top + height))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop


@functools.cache
def _photo(name: str) -> Image.Image:
    return read_picture(Path(__file__).with_name("samples") / f"{name}.jpg")
