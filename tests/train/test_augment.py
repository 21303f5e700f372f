from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgevit.board.preprocess import Preprocess, resize_and_crop, to_input
from edgevit.data.pictures import PictureSet, from_arrays
from edgevit.errors import InputError, ShapeMismatchError
from edgevit.recipe import AugmentSpec, TrainSpec
from edgevit.train import augment
from edgevit.train.augment import AugmentedPictures, epoch_batches, epoch_seed, pixels_for_teacher, seed_everything

GRAY = Preprocess(12, 16, 1, None, "squash", "bilinear", (0.4,), (0.2,), "L")
RGB = Preprocess(12, 16, 3, None, "squash", "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "RGB")
FIVE_BANDS = Preprocess(12, 16, 5, None, "squash", "bilinear", (0.5,) * 5, (0.25,) * 5, "bands")
UNCHANGED = AugmentSpec(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0)


def noise(count: int, channels: int) -> PictureSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 10, 10, channels), dtype=np.uint8)
    return from_arrays(pixels, range(count))


def epoch_of(pictures: AugmentedPictures, epoch: int = 1, **spec: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = TrainSpec(**{"batch_size": 4, **spec})
    seed_everything(epoch_seed(settings.seed, epoch))
    return [(pixels, labels) for pixels, labels in epoch_batches(pictures, settings, epoch)]


@pytest.mark.parametrize("preprocess", [GRAY, RGB, FIVE_BANDS])
def test_without_augmentation_a_picture_is_what_the_board_makes_of_it(preprocess: Preprocess) -> None:
    pictures = noise(2, preprocess.channels)
    pixels, label = AugmentedPictures(pictures, preprocess, UNCHANGED)[1]
    expected = to_input(resize_and_crop(pictures.load_array(1), preprocess)[np.newaxis], preprocess)[0]
    assert label == 1
    # bands are resized as tensors: they may round to the next of 256 levels
    tolerance = 1.01 / 255 / min(preprocess.std) if preprocess.color == "bands" else 1e-5
    np.testing.assert_allclose(pixels.numpy(), expected, atol=tolerance)


@pytest.mark.parametrize("preprocess", [GRAY, FIVE_BANDS])
def test_pictures_are_flipped_only_where_the_recipe_says_so(preprocess: Preprocess) -> None:
    pictures = noise(1, preprocess.channels)
    straight, _ = AugmentedPictures(pictures, preprocess, UNCHANGED)[0]
    flipping = AugmentedPictures(pictures, preprocess, UNCHANGED.model_copy(update={"hflip": 0.5}))
    seed_everything(0)
    seen = [flipping[0][0] for _ in range(20)]
    is_straight = [torch.equal(pixels, straight) for pixels in seen]
    is_mirrored = [torch.allclose(pixels, straight.flip(-1), atol=1e-5) for pixels in seen]
    assert all(a != b for a, b in zip(is_straight, is_mirrored, strict=True))
    assert any(is_straight)
    assert any(is_mirrored)


@pytest.mark.parametrize("preprocess", [GRAY, RGB])
def test_every_option_gives_finite_pixels_of_the_models_shape(preprocess: Preprocess) -> None:
    spec = AugmentSpec(scale=(0.3, 1.0), color_jitter=0.4, auto_augment="rand-m9-n3-mstd0.5-inc1", erasing=0.5)
    jitter_only = spec.model_copy(update={"auto_augment": None})
    for options in (spec, jitter_only):
        pictures = AugmentedPictures(noise(30, preprocess.channels), preprocess, options)
        for index in range(30):
            pixels, _ = pictures[index]
            assert pixels.shape == (preprocess.channels, 12, 16)
            assert pixels.dtype == torch.float32
            assert torch.isfinite(pixels).all()


def test_an_unknown_auto_augment_is_refused_with_one_that_works() -> None:
    with pytest.raises(InputError, match=r"train\.augment\.auto_augment: timm cannot read 'rant-m9'\. Try 'rand-m9"):
        AugmentedPictures(noise(1, 1), GRAY, AugmentSpec(auto_augment="rant-m9"))


@pytest.mark.parametrize("option", [{"auto_augment": "rand-m9"}, {"color_jitter": 0.4}])
def test_color_augmentation_of_other_bands_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"know gray and RGB, not pictures of 5 channels\. Leave them out"):
        AugmentedPictures(noise(1, 5), FIVE_BANDS, AugmentSpec(**option))


def test_small_sets_are_decoded_once_and_large_ones_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Counting(PictureSet):
        def load(self, index: int) -> Image.Image:
            loads.append(index)
            return super().load(index)

    loads: list[int] = []
    plain = noise(3, 3)
    pictures = Counting(plain.labels, plain.names, plain.rows, plain.store)
    for largest, decoded_later in ((3 * 10 * 10 * 4, []), (3 * 10 * 10 * 4 - 1, [2, 2])):  # Pillow: 4 bytes a pixel
        monkeypatch.setattr(augment, "LARGEST_CACHE_BYTES", largest)
        augmented = AugmentedPictures(pictures, RGB, UNCHANGED)
        loads.clear()
        for _ in range(2):
            augmented[2]
        assert loads == decoded_later


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    pictures = AugmentedPictures(noise(10, 1), GRAY, UNCHANGED)
    orders = [torch.cat([labels for _, labels in epoch_of(pictures, epoch)]).tolist() for epoch in (1, 1, 2)]
    assert sorted(orders[0]) == list(range(10))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_and_epoch_give_the_same_pixels(workers: int) -> None:
    spec = AugmentSpec(auto_augment="rand-m9-mstd0.5", erasing=0.3)
    pictures = AugmentedPictures(noise(10, 1), GRAY, spec)
    first, again = (epoch_of(pictures, seed=3, workers=workers) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    other = epoch_of(pictures, seed=4, workers=workers)
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1]), (3, 4, [3])],
)
def test_only_a_lonely_last_picture_is_left_out(count: int, batch_size: int, sizes: list[int]) -> None:
    pictures = AugmentedPictures(noise(count, 1), GRAY, UNCHANGED)
    assert [len(labels) for _, labels in epoch_of(pictures, batch_size=batch_size)] == sizes


def test_seeding_covers_python_numpy_and_torch() -> None:
    def draws() -> Iterator[float]:
        seed_everything(5)
        yield from (random.random(), float(np.random.random()), torch.rand(()).item())

    assert list(draws()) == list(draws())


def test_epoch_seeds_differ_by_seed_and_by_epoch() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(seeds) == 400


def test_a_teacher_of_the_same_preprocessing_sees_the_same_pixels() -> None:
    pixels = torch.rand(2, 1, 12, 16)
    assert pixels_for_teacher(pixels, GRAY, GRAY) is pixels


def test_a_teacher_sees_the_students_levels_normalized_its_own_way() -> None:
    # gray level 0.6 is (0.6 - 0.4) / 0.2 = 1 for the student
    seen = pixels_for_teacher(torch.ones(2, 1, 12, 16), GRAY, RGB)
    assert seen.shape == (2, 3, 12, 16)
    torch.testing.assert_close(seen[1, :, 5, 7], torch.tensor([0.2 / 0.2, 0.1 / 0.3, 0.0]))


def test_a_gray_teacher_sees_the_luminance_of_an_rgb_student() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RGB.mean, RGB.std))
    seen = pixels_for_teacher(((red - mean) / std).expand(1, 3, 12, 16), RGB, GRAY)
    # ITU-R 601: red weighs 0.299
    torch.testing.assert_close(seen, torch.full((1, 1, 12, 16), (0.299 - 0.4) / 0.2), atol=1e-3, rtol=0)


def test_a_teacher_of_another_size_sees_the_picture_scaled() -> None:
    half = Preprocess(6, 8, 1, None, "squash", "bilinear", (0.4,), (0.2,), "L")
    left_to_right = torch.linspace(0, 1, 16).expand(1, 1, 12, 16)
    seen = pixels_for_teacher(left_to_right, GRAY, half)
    assert seen.shape == (1, 1, 6, 8)
    # away from the borders, halving a ramp gives the means of its neighbours
    expected = (left_to_right[0, 0, 0, 0::2] + left_to_right[0, 0, 0, 1::2]) / 2
    torch.testing.assert_close(seen[0, 0, 3, 1:-1], expected[1:-1])


def test_a_teacher_of_other_channels_is_refused() -> None:
    with pytest.raises(ShapeMismatchError, match=r"takes 5 channels and the student 3\. Choose a teacher with 3 input"):
        pixels_for_teacher(torch.zeros(1, 3, 12, 16), RGB, FIVE_BANDS)
