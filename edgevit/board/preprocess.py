"""From a picture file to the model's input: one implementation, on the host and on the board.

It agrees with timm's evaluation transform (torchvision's Resize and CenterCrop on Pillow images), rounding included.
Python 3.8, numpy and Pillow only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import asdict, dataclass, fields
from typing import IO, TYPE_CHECKING, Any, Union

import numpy as np

from edgevit.errors import BadFileError, InputError, ShapeMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    PictureSource = Union[str, "os.PathLike[str]", bytes, IO[bytes]]

PREPROCESS_SCHEMA_VERSION = 1
CROP_MODES = ("center", "squash")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
COLORS = ("RGB", "L", "bands")
LARGEST_SIDE = 16384
LARGEST_RESIZED_PIXELS = 178_956_970  # Pillow refuses to decode more, too


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes an input of (channels, height, width).

    crop_mode 'center': the picture is scaled until its shorter side is `resize` pixels long, then its middle is cut
    out, with black where it is too small. Where height and width differ, `resize` belongs to the shorter of the two.
    'squash': it is scaled to (height, width), whatever its own aspect ratio; `resize` is None.
    mean, std: one per channel, of pixels scaled to 0..1. color 'bands': channels are taken as they are.
    Raises InputError naming the field when a value makes no sense.
    """

    height: int
    width: int
    channels: int
    resize: int | None
    crop_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str

    def __post_init__(self) -> None:
        key, problem = _preprocess_problem(self)
        if problem:
            raise BadFileError("preprocess", problem, where=key)

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        document.update(schema_version=PREPROCESS_SCHEMA_VERSION, mean=list(self.mean), std=list(self.std))
        return document

    @staticmethod
    def from_json(document: object, path: object = "preprocess.json") -> Preprocess:
        """The value that to_json wrote. `path` is what errors name. Raises BadFileError for a bad key or value."""
        if not isinstance(document, dict):
            raise BadFileError(path, "is not a JSON object.")
        version = document.get("schema_version")
        if version != PREPROCESS_SCHEMA_VERSION:
            problem = f"is {version!r}, and this edgevit reads {PREPROCESS_SCHEMA_VERSION}."
            raise BadFileError(path, problem, where="schema_version", fix="Use the edgevit that wrote the file.")
        known = {field.name for field in fields(Preprocess)}
        for key in sorted(known - set(document)):
            raise BadFileError(path, "is missing.", where=key)
        for key in sorted(set(document) - known - {"schema_version"}, key=str):
            raise BadFileError(path, "is not a key of preprocess.json.", where=str(key))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        values.pop("schema_version")
        try:
            return Preprocess(**values)
        except BadFileError as error:
            raise BadFileError(path, str(error).split(": ", 1)[1]) from None


def read_picture(source: PictureSource) -> Image.Image:
    """The first frame of a picture, upright, 8 bits a channel, otherwise in its own mode (L, LA, RGB, RGBA, CMYK, …).

    Sixteen-bit gray is scaled (65535 becomes 255). Palettes are resolved to RGB or RGBA.
    Raises InputError naming the file when it is missing, empty, truncated, not a picture, or a decompression bomb.
    """
    name = _picture_name(source)
    content = _picture_bytes(source, name)
    if not content:
        raise InputError(f"{name}: is empty (0 bytes).")
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise InputError("Decoding pictures needs Pillow. Install it with: pip install pillow") from None

    try:
        first_frame = Image.open(io.BytesIO(content))
        first_frame.load()
        return _to_8_bit(ImageOps.exif_transpose(first_frame), name)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name}: is not a picture that Pillow can read.") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: claims so many pixels that it may be a decompression bomb.") from None
    except Exception as error:  # Pillow's decoders raise about any type on a damaged file
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise InputError(f"{name}: cannot be decoded ({reason}).") from error


def decode_picture(source: PictureSource, preprocess: Preprocess) -> Image.Image:
    """The picture as read_picture gives it, in the model's color: RGB, L, or its own bands.

    Alpha is dropped, not blended, as Image.convert does it and torchvision's loader with it.
    Raises InputError naming the file.
    """
    image = read_picture(source)
    try:
        return to_color(image, preprocess)
    except InputError as error:
        raise InputError(f"{_picture_name(source)}: {error}") from None


def to_color(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """`image` in the model's color. Raises InputError where 'bands' asks for another number of channels."""
    if preprocess.color == "bands":
        bands = len(image.getbands())
        if bands != preprocess.channels:
            raise InputError(f"the picture has {bands} channels, and the model takes {preprocess.channels}.")
        return image
    return image if image.mode == preprocess.color else image.convert(preprocess.color)


def resize_and_crop(image: Image.Image | NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """uint8 (height, width, channels). `image` is a Pillow image of any 8-bit mode, or uint8 (H, W, channels).

    Raises InputError when the number of channels differs, or the picture is too elongated to be scaled.
    Source: torchvision.transforms.functional, _compute_resized_output_size and center_crop; timm's ResizeKeepRatio.
    """
    if isinstance(image, np.ndarray):
        return _resize_bands(image, preprocess)
    image = to_color(image, preprocess)
    if preprocess.color == "bands":  # Pillow would weigh the other bands by what it takes for alpha
        return _resize_bands(np.asarray(image), preprocess)
    pixels = np.asarray(_resized(image, preprocess))
    return pixels.reshape(preprocess.height, preprocess.width, preprocess.channels)  # (H, W, C)


def to_input(pictures: NDArray[np.uint8], preprocess: Preprocess, input_type: str = "float32") -> NDArray[Any]:
    """What an artifact takes of `pictures`, uint8 (N, height, width, channels), by its session's input_type.

    'float32': (N, channels, height, width), normalized. 'uint8': the pictures; the artifact normalizes them itself.
    Raises ShapeMismatchError when the pictures' shape or dtype differ from that.
    """
    expected = (preprocess.height, preprocess.width, preprocess.channels)
    if pictures.ndim != 4 or pictures.shape[1:] != expected or pictures.dtype != np.uint8:
        raise ShapeMismatchError(
            f"Pictures are {pictures.dtype} {pictures.shape}, and the model takes uint8 (N, {expected[0]}, "
            f"{expected[1]}, {expected[2]}). Pass them through resize_and_crop first."
        )
    if input_type == "uint8":
        return pictures
    batch = np.empty((len(pictures), preprocess.channels, preprocess.height, preprocess.width), np.float32)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    for channel, (mean, std) in enumerate(zip(preprocess.mean, preprocess.std)):
        normalized = (levels - np.float32(mean)) / np.float32(std)  # (256,): a byte has no other values
        batch[:, channel] = normalized[pictures[..., channel]]
    return batch


def _preprocess_problem(preprocess: Preprocess) -> tuple[str, str]:
    """(field, what is wrong with it), or two empty strings."""
    for key in ("height", "width", "channels"):
        if not _is_whole(getattr(preprocess, key), LARGEST_SIDE):
            return key, f"is {getattr(preprocess, key)!r}, and must be a whole number from 1 to {LARGEST_SIDE}."
    for key, choices in (("crop_mode", CROP_MODES), ("interpolation", INTERPOLATIONS), ("color", COLORS)):
        if getattr(preprocess, key) not in choices:
            return key, f"is {getattr(preprocess, key)!r}, and must be one of {', '.join(choices)}."
    if preprocess.crop_mode == "squash" and preprocess.resize is not None:
        return "resize", f"is {preprocess.resize!r}, and must be null with crop_mode 'squash'."
    if preprocess.crop_mode == "center" and not _is_whole(preprocess.resize, LARGEST_SIDE):
        return "resize", f"is {preprocess.resize!r}, and must be a whole number from 1 to {LARGEST_SIDE}."
    bands = {"RGB": 3, "L": 1}.get(preprocess.color, preprocess.channels)
    if preprocess.channels != bands:
        return "color", f"is {preprocess.color!r}, which has {bands} channels, and 'channels' is {preprocess.channels}."
    for key in ("mean", "std"):
        values = getattr(preprocess, key)
        if not isinstance(values, tuple) or not all(_is_finite(value) for value in values):
            return key, f"is {values!r}, and must be a list of numbers."
        if len(values) != preprocess.channels:
            return key, f"has {len(values)} numbers, and must have one for each of {preprocess.channels} channels."
    if min(preprocess.std) <= 0:
        return "std", f"is {preprocess.std!r}, and must be above zero."
    return "", ""


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _picture_name(source: PictureSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "name", "picture in memory"))


def _picture_bytes(source: PictureSource, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                return file.read()
        return source.read()
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, not a picture.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, a closed file
        raise InputError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def _to_8_bit(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"{name}: has 32-bit pixels. Convert it to 8 or 16 bits a channel.")
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{name}: has floating-point pixels. Convert it to 8 or 16 bits a channel.")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("RGB")


def _resized(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """`image` scaled and cut to (width, height), in its own mode."""
    from PIL import Image

    width, height = _scaled_size(image.size, preprocess)
    if width * height > LARGEST_RESIZED_PIXELS:
        raise InputError(f"the picture is too elongated to be scaled ({image.width} x {image.height} pixels).")
    image = image.resize((width, height), getattr(Image, preprocess.interpolation.upper()))
    left, top = _crop_offset(width, preprocess.width), _crop_offset(height, preprocess.height)
    # Pillow's crop fills with zero what lies outside
    return image.crop((left, top, left + preprocess.width, top + preprocess.height))


def _resize_bands(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    from PIL import Image

    if pixels.ndim != 3 or pixels.shape[2] != preprocess.channels or pixels.dtype != np.uint8:
        raise InputError(f"The picture is {pixels.dtype} {pixels.shape}, not uint8 (H, W, {preprocess.channels}).")
    bands = (Image.fromarray(np.ascontiguousarray(pixels[..., band])) for band in range(preprocess.channels))
    return np.stack([np.asarray(_resized(band, preprocess)) for band in bands], axis=-1)  # (H, W, C)


def _scaled_size(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """(width, height) before the crop."""
    width, height = size
    if preprocess.resize is None:
        return preprocess.width, preprocess.height
    if preprocess.width == preprocess.height:
        longer = int(preprocess.resize * max(size) / min(size))
        return (preprocess.resize, longer) if width <= height else (longer, preprocess.resize)
    shorter = min(preprocess.width, preprocess.height)
    cover_width = preprocess.resize * preprocess.width // shorter
    cover_height = preprocess.resize * preprocess.height // shorter
    ratio = min(height / cover_height, width / cover_width)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _crop_offset(size: int, crop: int) -> int:
    """Where the crop begins; negative where it is larger than the picture."""
    return -((crop - size) // 2) if crop > size else round((size - crop) / 2)
