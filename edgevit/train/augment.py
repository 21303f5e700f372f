"""The pictures of an epoch: augmented by timm's training transform, shuffled, batched, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from edgevit.board.preprocess import Preprocess, to_color
from edgevit.errors import InputError, ShapeMismatchError
from edgevit.models.torchvision_ops import import_timm
from edgevit.recipe import AugmentSpec, TrainSpec

if TYPE_CHECKING:
    from edgevit.data.pictures import PictureSet

LARGEST_CACHE_BYTES = 1024**3
PICTURES_SAMPLED_FOR_SIZE = 32
RGB, GRAY = 3, 1

Picture = Image.Image | NDArray[np.uint8]
Transform = Callable[[Picture], Tensor]


class AugmentedPictures(Dataset[tuple[Tensor, int]]):
    """Pairs of an augmented, normalized picture, float32 (channels, height, width), and its label.

    Decoded pictures stay in memory where all of them fit into LARGEST_CACHE_BYTES. Raises InputError for a transform
    that timm does not know.
    """

    def __init__(self, pictures: PictureSet, preprocess: Preprocess, augment: AugmentSpec) -> None:
        self._pictures = pictures
        self._preprocess = preprocess
        self._labels = [int(label) for label in pictures.labels]
        import_timm()
        make_transform = _band_transform if preprocess.color == "bands" else _picture_transform
        self._augment = make_transform(preprocess, augment)
        self._cache: list[Picture] | None = None
        if self._fits_into_memory():
            self._cache = [self._decode(index) for index in range(len(pictures))]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self._cache[index] if self._cache is not None else self._decode(index)
        return self._augment(picture), self._labels[index]

    def _decode(self, index: int) -> Picture:
        if self._preprocess.color == "bands":
            return self._pictures.load_array(index)
        return to_color(self._pictures.load(index), self._preprocess)

    def _fits_into_memory(self) -> bool:
        count = len(self._labels)
        step = max(1, count // PICTURES_SAMPLED_FOR_SIZE)
        sizes = [_bytes_in_memory(self._decode(index)) for index in range(0, count, step)]
        return bool(sizes) and sum(sizes) / len(sizes) * count <= LARGEST_CACHE_BYTES


def epoch_batches(pictures: AugmentedPictures, spec: TrainSpec, epoch: int) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches of pixels (N, channels, height, width) and labels int64 (N,), drawn with the spec's seed.

    A last batch of a single picture is left out, because BatchNorm has no variance over it.
    """
    lonely_last = len(pictures) > 1 and len(pictures) % spec.batch_size == 1
    return DataLoader(
        pictures,
        batch_size=spec.batch_size,
        shuffle=True,
        drop_last=lonely_last and spec.batch_size > 1,
        num_workers=spec.workers,
        generator=torch.Generator().manual_seed(epoch_seed(spec.seed, epoch)),
    )


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of 32 bits for one epoch, so that a resumed epoch draws what the uninterrupted one would have drawn."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's global generators. The workers are seeded by their loader's generator."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pixels_for_teacher(pixels: Tensor, student: Preprocess, teacher: Preprocess) -> Tensor:
    """The student's augmented pictures as its teacher takes them: the teacher's size, channels and normalization.

    pixels: float (N, channels, height, width) normalized for the student; the result likewise for the teacher.
    Raises ShapeMismatchError where the channels cannot be converted (only gray and RGB can).
    """
    if student == teacher:
        return pixels
    levels = pixels * _per_channel(student.std, pixels) + _per_channel(student.mean, pixels)  # 0..1
    levels = _with_channels(levels, teacher.channels)
    size = (teacher.height, teacher.width)
    if levels.shape[2:] != size:
        levels = functional.interpolate(levels, size=size, mode="bilinear", antialias=True)
    return (levels - _per_channel(teacher.mean, pixels)) / _per_channel(teacher.std, pixels)


def _picture_transform(preprocess: Preprocess, augment: AugmentSpec) -> Transform:
    """timm's training transform, from a Pillow image of mode L or RGB to normalized pixels."""
    from timm.data import create_transform

    try:
        transform: Transform = create_transform(
            input_size=(preprocess.height, preprocess.width),
            is_training=True,
            scale=augment.scale,
            ratio=augment.ratio,
            hflip=augment.hflip,
            color_jitter=augment.color_jitter or None,
            auto_augment=augment.auto_augment,
            interpolation=preprocess.interpolation,
            mean=preprocess.mean,
            std=preprocess.std,
            re_prob=augment.erasing,
        )
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"train.augment.auto_augment: timm cannot read '{augment.auto_augment}'. Try 'rand-m9-mstd0.5-inc1'."
        ) from error
    return transform


def _band_transform(preprocess: Preprocess, augment: AugmentSpec) -> Transform:
    """The same for uint8 (H, W, channels) of any number of channels, which Pillow has no picture for."""
    from torchvision.transforms import InterpolationMode, v2

    if augment.auto_augment or augment.color_jitter:
        raise InputError(
            f"train.augment: auto_augment and color_jitter know gray and RGB, not pictures of {preprocess.channels} "
            "channels. Leave them out."
        )
    transform: Transform = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(
                (preprocess.height, preprocess.width),
                scale=augment.scale,
                ratio=augment.ratio,
                interpolation=InterpolationMode(preprocess.interpolation),
                antialias=True,
            ),
            v2.RandomHorizontalFlip(augment.hflip),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocess.mean, preprocess.std),
            v2.RandomErasing(augment.erasing),
            v2.ToPureTensor(),
        ]
    )
    return transform


def _bytes_in_memory(picture: Picture) -> int:
    if isinstance(picture, np.ndarray):
        return picture.nbytes
    bytes_per_pixel = 1 if picture.mode == "L" else 4  # Pillow pads RGB
    return picture.width * picture.height * bytes_per_pixel


def _with_channels(levels: Tensor, channels: int) -> Tensor:
    own = levels.shape[1]
    if own == channels:
        return levels
    if (own, channels) == (GRAY, RGB):
        return levels.expand(-1, RGB, -1, -1)
    if (own, channels) == (RGB, GRAY):
        from torchvision.transforms.functional import rgb_to_grayscale

        gray: Tensor = rgb_to_grayscale(levels)
        return gray
    raise ShapeMismatchError(
        f"The teacher takes {channels} channels and the student {own}. Choose a teacher with {own} input channels."
    )


def _per_channel(values: Iterable[float], like: Tensor) -> Tensor:
    return torch.tensor(tuple(values), dtype=like.dtype, device=like.device).view(1, -1, 1, 1)
