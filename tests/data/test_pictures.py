from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from edgevit.data.pictures import from_arrays, from_files
from edgevit.errors import InputError, ShapeMismatchError


def gray(n: int = 4) -> np.ndarray:
    return np.arange(n * 6, dtype=np.uint8).reshape(n, 2, 3)


def test_arrays_give_gray_and_color_pictures() -> None:
    assert from_arrays(gray(), [0, 1, 0, 1]).load(1).mode == "L"
    color = from_arrays(np.zeros((1, 2, 3, 3), np.uint8), [0]).load(0)
    assert (color.mode, color.size) == ("RGB", (3, 2))


def test_one_channel_with_its_own_axis_is_gray_too() -> None:
    pictures = from_arrays(gray()[..., np.newaxis], [0, 1, 0, 1])
    np.testing.assert_array_equal(np.asarray(pictures.load(2)), gray()[2])
    np.testing.assert_array_equal(pictures.load_array(2)[..., 0], gray()[2])


def test_labels_are_int64_and_names_count_up() -> None:
    pictures = from_arrays(gray(), [3, 1, 0, 1], "digit")
    assert pictures.labels.dtype == np.int64
    assert pictures.labels.tolist() == [3, 1, 0, 1]
    assert pictures.names == ("digit 0", "digit 1", "digit 2", "digit 3")
    assert len(pictures) == 4


def test_a_subset_keeps_label_name_and_pixels_together() -> None:
    pictures = from_arrays(gray(), [10, 11, 12, 13]).subset([3, 1]).subset([1, 0, 0])
    assert pictures.labels.tolist() == [11, 13, 13]
    assert pictures.names == ("picture 1", "picture 3", "picture 3")
    np.testing.assert_array_equal(pictures.load_array(1)[..., 0], gray()[3])


def test_an_empty_subset_has_no_pictures() -> None:
    assert len(from_arrays(gray(), [0] * 4).subset([])) == 0


def test_files_are_named_by_their_path_from_the_root(tmp_path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("LA", (3, 2), (9, 0)).save(tmp_path / "cat" / "a.png")
    Image.new("RGBA", (3, 2), (9, 8, 7, 0)).save(tmp_path / "cat" / "b.png")
    pictures = from_files([tmp_path / "cat" / "a.png", tmp_path / "cat" / "b.png"], [0, 0], tmp_path)
    assert pictures.names == ("cat/a.png", "cat/b.png")
    assert [pictures.load(index).mode for index in (0, 1)] == ["L", "RGB"]
    assert pictures.load_array(1).shape == (2, 3, 4)  # with all its bands


def test_a_file_that_vanished_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: there is no such file"):
        from_files([tmp_path / "gone.png"], [0], tmp_path).load(0)


def test_more_bands_than_color_has_come_as_an_array_only() -> None:
    pictures = from_arrays(np.zeros((1, 2, 3, 6), np.uint8), [0], "plot")
    assert pictures.load_array(0).shape == (2, 3, 6)
    with pytest.raises(InputError, match="plot 0: has 6 channels, and is neither gray nor RGB"):
        pictures.load(0)


def test_pictures_travel_to_other_processes() -> None:
    pictures = pickle.loads(pickle.dumps(from_arrays(gray(), [0, 1, 2, 3])))
    np.testing.assert_array_equal(pictures.load_array(3)[..., 0], gray()[3])


def test_another_number_of_labels_is_refused(tmp_path) -> None:
    with pytest.raises(ShapeMismatchError, match="picture: 4 pictures and 3 labels do not belong together"):
        from_arrays(gray(), [0, 1, 2])
    with pytest.raises(ShapeMismatchError, match="1 pictures and 2 labels do not belong together"):
        from_files([tmp_path / "a.png"], [0, 1], tmp_path)


@pytest.mark.parametrize("pixels", [np.zeros((2, 3, 3), np.float32), np.zeros((2, 3), np.uint8)])
def test_pixels_that_are_not_bytes_of_pictures_are_refused(pixels) -> None:
    with pytest.raises(ShapeMismatchError, match=r"pixels are .* not uint8 \(N, H, W\[, channels\]\)"):
        from_arrays(pixels, [0, 0])
