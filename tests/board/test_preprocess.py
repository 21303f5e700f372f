from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.board.preprocess import Preprocess, decode_picture, read_picture, resize_and_crop, to_color, to_input
from edgevit.errors import BadFileError, InputError, ShapeMismatchError

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make(**changes: object) -> Preprocess:
    values: dict[str, object] = {
        "height": 32,
        "width": 32,
        "channels": 3,
        "resize": 36,
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
        "color": "RGB",
    }
    return Preprocess(**{**values, **changes})  # type: ignore[arg-type]


GRAY = make(channels=1, color="L", mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def photos() -> dict[str, Image.Image]:
    skimage = pytest.importorskip("skimage")
    folder = Path(skimage.__file__).parent / "data"
    return {name: Image.open(folder / name).convert("RGB") for name in PHOTOS}


@pytest.fixture(scope="module")
def timm_data():
    pytest.importorskip("torch")
    from edgevit.models.torchvision_ops import import_timm

    import_timm()
    import timm.data

    return timm.data


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(width: int = 8, height: int = 6) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


# Agreement with timm's transform.


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (224, 0.9), (256, 0.9), (160, 1.0), (97, 0.95)])
def test_photos_agree_with_timm_in_landscape_and_portrait(photos, timm_data, interpolation, size, crop_pct) -> None:
    transform = timm_data.create_transform(
        size, is_training=False, interpolation=interpolation, crop_pct=crop_pct, mean=MEAN, std=STD
    )
    preprocess = make(height=size, width=size, resize=int(size / crop_pct), interpolation=interpolation)
    for photo in photos.values():
        for image in (photo, photo.transpose(Image.Transpose.ROTATE_90)):
            expected = transform(image).numpy()
            actual = to_input(resize_and_crop(image, preprocess)[np.newaxis], preprocess)[0]
            difference = np.abs(actual - expected) * np.array(STD)[:, None, None]  # in units of the 0..1 range
            assert difference.max() <= 1 / 255 / 10  # a tenth of one level: the same bytes


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_squashed_photos_agree_with_timm(photos, timm_data, interpolation) -> None:
    transform = timm_data.create_transform(
        (96, 128), is_training=False, interpolation=interpolation, crop_pct=1.0, crop_mode="squash", mean=MEAN, std=STD
    )
    preprocess = make(height=96, width=128, resize=None, crop_mode="squash", interpolation=interpolation)
    for image in photos.values():
        actual = to_input(resize_and_crop(image, preprocess)[np.newaxis], preprocess)[0]
        np.testing.assert_allclose(actual, transform(image).numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(96, 128), (128, 96)])
def test_photos_agree_with_timm_where_height_and_width_differ(photos, timm_data, size) -> None:
    transform = timm_data.create_transform(
        size, is_training=False, interpolation="bicubic", crop_pct=0.8, mean=MEAN, std=STD
    )
    preprocess = make(height=size[0], width=size[1], resize=120, interpolation="bicubic")
    for image in photos.values():
        actual = to_input(resize_and_crop(image, preprocess)[np.newaxis], preprocess)[0]
        np.testing.assert_allclose(actual, transform(image).numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(5, 7), (7, 5), (20, 31), (33, 32), (1, 40), (40, 1), (1, 1)])
def test_pictures_smaller_than_the_crop_agree_with_torchvision(timm_data, size) -> None:
    from torchvision.transforms.functional import center_crop, resize

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    preprocess = make(resize=29)  # below the crop of 32: black borders
    expected = np.asarray(center_crop(resize(image, 29), [32, 32]))
    np.testing.assert_array_equal(resize_and_crop(image, preprocess), expected)


def test_gray_pictures_agree_with_timm(photos, timm_data) -> None:
    transform = timm_data.create_transform((1, 64, 64), is_training=False, crop_pct=0.9, mean=(0.5,), std=(0.5,))
    preprocess = make(height=64, width=64, resize=71, channels=1, color="L", mean=(0.5,), std=(0.5,))
    gray = photos["coffee.png"].convert("L")
    actual = to_input(resize_and_crop(gray, preprocess)[np.newaxis], preprocess)[0]
    np.testing.assert_allclose(actual, transform(gray).numpy(), atol=1e-5)


def test_normalization_is_pixel_over_255_minus_mean_over_std() -> None:
    preprocess = make(height=1, width=2, resize=1, mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 0.25))
    pixels = np.array([[[[0, 51, 255], [255, 255, 0]]]], np.uint8)  # (1, 1, 2, 3)
    expected = np.array([[[[-1.0, 1.0]], [[0.2, 1.0]], [[0.0, -4.0]]]], np.float32)  # (1, 3, 1, 2)
    actual = to_input(pixels, preprocess)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-7)


def test_no_pictures_make_an_empty_input() -> None:
    assert to_input(np.empty((0, 32, 32, 3), np.uint8), make()).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("pictures", [np.zeros((1, 31, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)])
def test_pictures_of_another_shape_are_refused_with_both_shapes(pictures) -> None:
    with pytest.raises(ShapeMismatchError, match=r"Pictures are uint8 .* and the model takes uint8 \(N, 32, 32, 3\)"):
        to_input(pictures, make())


def test_float_pictures_are_refused() -> None:
    with pytest.raises(ShapeMismatchError, match="Pictures are float32"):
        to_input(np.zeros((1, 32, 32, 3), np.float32), make())  # type: ignore[arg-type]


# Decoding.


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a.transpose(1, 0, 2)[::-1, ::-1]),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_applied(orientation, undo) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(ramp()), "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(decode_picture(content, make())), undo(ramp()))


def test_sixteen_bit_gray_is_scaled_to_the_nearest_level() -> None:
    levels = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    content = saved(Image.fromarray(levels), "PNG")
    expected = [round(int(level) / 257) for level in levels[0]]
    np.testing.assert_array_equal(np.asarray(decode_picture(content, GRAY))[0], expected)
    np.testing.assert_array_equal(np.asarray(decode_picture(content, make()))[0, :, 2], expected)


def test_sixteen_bit_tiff_is_scaled_in_either_byte_order() -> None:
    levels = np.array([[0, 257, 65535]], np.uint16)
    for stored in (levels, levels.astype(">u2")):
        content = saved(Image.fromarray(stored), "TIFF")
        np.testing.assert_array_equal(np.asarray(decode_picture(content, GRAY)), [[0, 1, 255]])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(np.array([[0, 70000]], np.int32)), "has 32-bit pixels"),
        (Image.fromarray(np.array([[0, 1]], np.float32)), "has floating-point pixels"),
    ],
)
def test_pixels_deeper_than_16_bits_are_refused(image, words) -> None:
    with pytest.raises(InputError, match=f"picture in memory: {words}. Convert it to 8 or 16 bits a channel"):
        decode_picture(saved(image, "TIFF"), make())


def test_cmyk_is_converted_to_rgb() -> None:
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    image = decode_picture(saved(cmyk, "TIFF"), make())
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_cmyk_jpeg_gets_the_models_color() -> None:
    image = decode_picture(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"), GRAY)
    assert (image.mode, image.getpixel((0, 0))) == ("L", 0)


def test_palette_pictures_get_their_colors_back() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    decoded = decode_picture(saved(image, "PNG"), make())
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]


def test_transparent_palettes_keep_their_colors() -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([10, 20, 30])
    decoded = decode_picture(saved(image, "PNG", transparency=bytes([0])), make())
    assert decoded.getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize(
    ("mode", "pixel", "rgb"),
    [("RGBA", (9, 8, 7, 0), (9, 8, 7)), ("LA", (90, 3), (90, 90, 90)), ("L", 77, (77, 77, 77)), ("1", 1, (255,) * 3)],
)
def test_alpha_is_dropped_and_gray_repeated(mode, pixel, rgb) -> None:
    assert decode_picture(saved(Image.new(mode, (3, 3), pixel), "PNG"), make()).getpixel((1, 1)) == rgb


def test_other_color_spaces_become_rgb() -> None:
    content = saved(Image.new("YCbCr", (2, 2), (255, 128, 128)), "TIFF")
    assert decode_picture(content, make()).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode_picture(content, make()).getpixel((0, 0)) == (255, 0, 0)


def test_a_path_a_string_and_an_open_file_decode_alike(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(ramp()), "PNG"))
    with path.open("rb") as file:
        pictures = [np.asarray(decode_picture(source, make())) for source in (path, str(path), file)]
    assert all((picture == ramp()).all() for picture in pictures)


def test_an_empty_file_is_named(tmp_path) -> None:
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(InputError, match=r"a\.jpg: is empty \(0 bytes\)"):
        decode_picture(path, make())


def test_a_file_that_is_no_picture_is_named(tmp_path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"notes\.jpg: is not a picture that Pillow can read"):
        decode_picture(path, make())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_truncated_file_is_named(tmp_path, kind) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = saved(Image.fromarray(noise), kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"half\.{kind.lower()}: (cannot be decoded|is not a picture)"):
        decode_picture(path, make())


def test_a_decompression_bomb_is_refused() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    with pytest.raises(
        InputError, match="picture in memory: claims so many pixels that it may be a decompression bomb"
    ):
        read_picture(content)


def test_a_missing_file_and_a_folder_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: there is no such file"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(InputError, match="is a folder, not a picture"):
        read_picture(tmp_path)


def test_a_path_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_picture("a\0b.png")


def test_without_pillow_the_fix_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"Decoding pictures needs Pillow\. Install it with: pip install pillow"):
        read_picture(b"x")


# Bands.


def test_bands_are_resized_apart_from_each_other() -> None:
    bands = np.random.default_rng(0).integers(0, 256, (40, 50, 5), np.uint8)
    five = make(channels=5, color="bands", mean=(0.0,) * 5, std=(1.0,) * 5)
    alone = make(channels=1, color="L", mean=(0.0,), std=(1.0,))
    expected = [resize_and_crop(Image.fromarray(bands[..., band]), alone)[..., 0] for band in range(5)]
    np.testing.assert_array_equal(resize_and_crop(bands, five), np.stack(expected, axis=-1))


def test_the_fourth_band_is_not_taken_for_alpha() -> None:
    four = make(channels=4, color="bands", mean=(0.0,) * 4, std=(1.0,) * 4)
    content = saved(Image.new("RGBA", (9, 9), (200, 100, 50, 0)), "PNG")
    assert (resize_and_crop(decode_picture(content, four), four) == [200, 100, 50, 0]).all()


def test_another_number_of_bands_is_refused(tmp_path) -> None:
    four = make(channels=4, color="bands", mean=(0.0,) * 4, std=(1.0,) * 4)
    path = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(InputError, match=r"a\.png: the picture has 3 channels, and the model takes 4"):
        decode_picture(path, four)
    with pytest.raises(InputError, match=r"The picture is uint8 \(9, 9, 3\), not uint8 \(H, W, 4\)"):
        resize_and_crop(np.zeros((9, 9, 3), np.uint8), four)


def test_a_picture_in_the_models_color_is_not_converted() -> None:
    image = Image.new("RGB", (2, 2))
    assert to_color(image, make()) is image


def test_a_thread_of_pixels_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(InputError, match=r"too elongated to be scaled \(1 x 60000 pixels\)"):
        resize_and_crop(Image.new("L", (1, 60000)), make(height=224, width=224, resize=256))


# preprocess.json


@pytest.mark.parametrize("preprocess", [make(), GRAY, make(resize=None, crop_mode="squash")])
def test_from_json_reads_what_to_json_wrote(preprocess) -> None:
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    assert preprocess.to_json()["schema_version"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 0}, "height: is 0, and must be a whole number from 1 to 16384"),
        ({"width": 2.5}, "width: is 2.5, and must be a whole number"),
        ({"channels": True}, "channels: is True, and must be a whole number"),
        ({"height": 10**9}, "height: is 1000000000, and must be"),
        ({"resize": None}, "resize: is None, and must be a whole number"),
        ({"crop_mode": "squash"}, "resize: is 36, and must be null with crop_mode 'squash'"),
        ({"crop_mode": "border"}, "crop_mode: is 'border', and must be one of center, squash"),
        ({"interpolation": "cubic"}, "interpolation: is 'cubic', and must be one of bilinear, bicubic"),
        ({"color": "BGR"}, "color: is 'BGR', and must be one of RGB, L, bands"),
        ({"color": "L"}, "color: is 'L', which has 1 channels, and 'channels' is 3"),
        ({"mean": [0.5]}, "mean: has 1 numbers, and must have one for each of 3 channels"),
        ({"mean": 0.5}, "mean: is 0.5, and must be a list of numbers"),
        ({"std": [1, 1, "x"]}, "std: is .* and must be a list of numbers"),
        ({"std": [1, 1, float("nan")]}, "std: is .* and must be a list of numbers"),
        ({"std": [1, 0, 1]}, "std: is .* and must be above zero"),
        ({"schema_version": 2}, "schema_version: is 2, and this edgevit reads 1. Use the edgevit that wrote the file"),
        ({"schema_version": None}, "schema_version: is None"),
        ({"gamma": 1}, "gamma: is not a key of preprocess.json"),
    ],
)
def test_bad_values_are_named_with_file_and_key(changes, words) -> None:
    with pytest.raises(BadFileError, match=f"^B/preprocess.json: {words}"):
        Preprocess.from_json({**make().to_json(), **changes}, "B/preprocess.json")


def test_a_missing_key_is_named() -> None:
    document = make().to_json()
    del document["std"]
    with pytest.raises(BadFileError, match=r"preprocess\.json: std: is missing"):
        Preprocess.from_json(document)


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(BadFileError, match=r"preprocess\.json: is not a JSON object"):
        Preprocess.from_json([1, 2])


def test_bad_values_are_refused_without_a_file_too() -> None:
    with pytest.raises(BadFileError, match=r"^preprocess: std: has 2 numbers"):
        make(std=(1.0, 1.0))
