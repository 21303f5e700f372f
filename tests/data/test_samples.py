from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgevit.data.samples
from edgevit.board.preprocess import Preprocess
from edgevit.data.batches import prepared
from edgevit.data.samples import PHOTOS, sample_pictures

FOLDER = Path(edgevit.data.samples.__file__).with_name("samples")


@pytest.mark.parametrize("photo", PHOTOS)
def test_each_photograph_is_small_and_its_license_is_stated(photo) -> None:
    assert (FOLDER / f"{photo}.jpg").stat().st_size <= 40 * 1024
    assert f"{photo}.jpg" in (FOLDER / "NOTICE").read_text()
    assert max(sample_pictures(4).load(PHOTOS.index(photo)).size) <= 256


def test_samples_are_the_same_every_time_and_all_different() -> None:
    first, again = (prepared(sample_pictures(64), _preprocess(3, "RGB")) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) == 64


def test_more_samples_begin_with_the_same_ones() -> None:
    few, more = (prepared(sample_pictures(n), _preprocess(3, "RGB")) for n in (8, 16))
    np.testing.assert_array_equal(few, more[:8])


def test_samples_have_no_labels_and_say_where_they_come_from() -> None:
    pictures = sample_pictures(6)
    assert pictures.labels.tolist() == [-1] * 6
    assert pictures.names[:5] == ("astronaut 0", "chelsea 0", "coffee 0", "rocket 0", "astronaut 1")


def test_samples_are_photographs_and_not_flat() -> None:
    assert prepared(sample_pictures(32), _preprocess(3, "RGB")).std(axis=(1, 2, 3)).min() > 10


@pytest.mark.parametrize(("channels", "color"), [(1, "L"), (2, "bands"), (4, "bands"), (7, "bands")])
def test_samples_come_with_as_many_channels_as_the_model_takes(channels, color) -> None:
    pictures = prepared(sample_pictures(5, channels), _preprocess(channels, color))
    assert pictures.shape == (5, 24, 24, channels)
    if channels > 3:
        np.testing.assert_array_equal(pictures[..., 3], pictures[..., 0])  # R, G, B and R again


def test_no_samples_are_an_empty_set() -> None:
    assert len(sample_pictures(0)) == 0


def _preprocess(channels: int, color: str) -> Preprocess:
    return Preprocess(24, 24, channels, 24, "center", "bilinear", (0.5,) * channels, (0.5,) * channels, color)
