from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgevit.board.preprocess import Preprocess, decode_picture, resize_and_crop, to_input
from edgevit.data.batches import input_batches, predict_all, prepared
from edgevit.data.pictures import PictureSet, from_arrays, from_files
from edgevit.errors import InputError, ShapeMismatchError

RGB = Preprocess(6, 8, 3, 7, "center", "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "RGB")
IDENTITY = Preprocess(2, 2, 1, 2, "center", "nearest", (0.0,), (1.0,), "L")


@pytest.fixture
def files(tmp_path) -> PictureSet:
    random = np.random.default_rng(0)
    paths = []
    for index, (mode, bands) in enumerate([("RGB", 3), ("RGBA", 4), ("CMYK", 4), ("L", 1)] * 20):
        pixels = random.integers(0, 256, (9 + index, 20, bands), np.uint8)
        path = tmp_path / f"{index:02}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.fromarray(pixels.squeeze(), mode=None).save(path) if mode != "CMYK" else _cmyk(pixels).save(path)
        paths.append(path)
    return from_files(paths, range(len(paths)), tmp_path)


def _cmyk(pixels: np.ndarray) -> Image.Image:
    return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(4)])


def ones(n: int) -> PictureSet:
    pixels = np.repeat(np.arange(n, dtype=np.uint8), 4).reshape(n, 2, 2)
    return from_arrays(pixels, range(n))


def total(batch: np.ndarray) -> np.ndarray:
    """Logits (n, 2): the picture's gray level, and its negative."""
    level = batch.mean(axis=(1, 2, 3)) * 255
    return np.stack([level, -level], axis=1)


def test_prepared_files_are_what_the_board_makes_of_them(files) -> None:
    expected = [resize_and_crop(decode_picture(path, RGB), RGB) for path in files.store.paths]
    actual = prepared(files, RGB)
    assert (actual.dtype, actual.shape) == (np.uint8, (80, 6, 8, 3))
    np.testing.assert_array_equal(actual, np.stack(expected))


def test_gray_prepared_files_are_what_the_board_makes_of_them(files) -> None:
    gray = Preprocess(6, 8, 1, 7, "center", "bilinear", (0.1,), (0.5,), "L")
    expected = [resize_and_crop(decode_picture(path, gray), gray) for path in files.store.paths]
    np.testing.assert_array_equal(prepared(files, gray), np.stack(expected))


def test_batches_are_normalized_in_order_and_the_last_is_smaller(files) -> None:
    batches = list(input_batches(files, RGB, 32))
    assert [batch.shape for batch in batches] == [(32, 3, 6, 8), (32, 3, 6, 8), (16, 3, 6, 8)]
    np.testing.assert_array_equal(np.concatenate(batches), to_input(prepared(files, RGB), RGB))


def test_bands_are_taken_as_they_are() -> None:
    bands = np.arange(2 * 2 * 2 * 5, dtype=np.uint8).reshape(2, 2, 2, 5)
    five = Preprocess(2, 2, 5, 2, "center", "nearest", (0.0,) * 5, (1.0,) * 5, "bands")
    np.testing.assert_array_equal(prepared(from_arrays(bands, [0, 1]), five), bands)


def test_no_pictures_prepare_to_an_empty_array() -> None:
    assert prepared(ones(3).subset([]), IDENTITY).shape == (0, 2, 2, 1)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_predictions_stand_in_the_order_of_the_pictures(batch_size) -> None:
    seen = []
    logits = predict_all(total, ones(10), IDENTITY, batch_size, progress=lambda done, of: seen.append((done, of)))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[:, 0], np.arange(10), atol=1e-4)
    assert seen[-1] == (10, 10)
    assert len(seen) == -(-10 // batch_size)


def test_the_model_sees_one_picture_at_a_time_by_default() -> None:
    shapes = []

    def run(batch: np.ndarray) -> np.ndarray:
        shapes.append(batch.shape)
        return total(batch)

    predict_all(run, ones(3), IDENTITY)
    assert shapes == [(1, 1, 2, 2)] * 3


def test_predicting_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="There are no pictures to predict"):
        predict_all(total, ones(3).subset([]), IDENTITY)


@pytest.mark.parametrize(
    "answer", [lambda x: x.ravel(), lambda x: total(x)[:1], lambda x: total(x)[:, : int(x.max() == 0) + 1]]
)
def test_an_answer_of_another_shape_is_refused(answer) -> None:
    with pytest.raises(ShapeMismatchError, match=r"The model gave \(.*\) for 2 pictures, not \(N, classes\)"):
        predict_all(answer, ones(2).subset([0, 0, 1, 1]), IDENTITY, 2)


def test_a_broken_file_is_named(files) -> None:
    files.store.paths[5].write_bytes(b"")
    with pytest.raises(InputError, match=r"05\.png: is empty"):
        prepared(files, RGB)


def test_a_picture_with_other_bands_is_named() -> None:
    four = Preprocess(2, 2, 4, 2, "center", "nearest", (0.0,) * 4, (1.0,) * 4, "bands")
    with pytest.raises(InputError, match=r"picture 0: The picture is uint8 \(2, 2, 1\), not uint8 \(H, W, 4\)"):
        prepared(ones(1), four)
