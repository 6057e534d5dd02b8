"""Photos from outside: safe decoding with named faults, and placing an image into a working size."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tryon.config import ImageLimits
from tryon.errors import ImageError

UInt8 = npt.NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# What Pillow's readers raise on damaged files, found by flipping bytes: TypeError and struct.error from TIFF and EXIF.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, struct.error)


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Attributes:
        pixels: RGB uint8 (H, W, 3), upright.
        notices: sentences on what was converted on the way (EXIF rotation, CMYK, 16-bit, alpha).
    """

    pixels: UInt8
    notices: tuple[str, ...] = field(default=())


def decode_photo(data: bytes, name: str, limits: ImageLimits | None = None) -> Photo:
    """Decodes a photo that someone sent.

    EXIF rotation is applied, CMYK, grey, palette and 16-bit are converted and transparency is laid over
    white; each with a notice. Sizes are checked on the header, before any pixel is decoded.

    Args:
        data: the file's bytes.
        name: what to call the photo in messages: a path or a form field.
        limits: bounds on bytes and pixels.

    Raises:
        ImageError: no image, 0 bytes, truncated, animated, too small, too wide, too many pixels.
    """
    limits = limits or ImageLimits()
    if not data:
        raise ImageError(f"{name} is empty (0 bytes)", code="image-empty", field=name)
    if len(data) > limits.max_bytes:
        text = f"{name} has {len(data):,} bytes; at most {limits.max_bytes:,} are taken"
        raise ImageError(text, code="image-too-large", field=name)
    image = _open(data, name)
    _check_size(image, name, limits)
    with _naming_damage(name):
        frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a phone's JPEG with a preview behind it
        text = f"{name} is animated ({frames} frames); give a still image"
        raise ImageError(text, code="image-animated", field=name)
    with _naming_damage(name):
        if image.format == "PNG":  # Pillow decodes past a wrong checksum, and the picture is then noise
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()
        return _to_rgb(image, name)


@contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        text = f"{name} is truncated or damaged: {_reason(error)}"
        raise ImageError(text, code="image-truncated", field=name) from error


def _open(data: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        kinds = "JPEG, PNG, WebP, BMP or TIFF"
        raise ImageError(f"{name} is no image that can be read ({kinds})", code="not-an-image", field=name) from error
    except Image.DecompressionBombError as error:
        text = f"{name} would unpack to more pixels than are taken (decompression bomb?)"
        raise ImageError(text, code="image-too-large", field=name) from error
    except DAMAGE as error:
        text = f"{name} is truncated or damaged: {_reason(error)}"
        raise ImageError(text, code="image-truncated", field=name) from error


def _check_size(image: Image.Image, name: str, limits: ImageLimits) -> None:
    width, height = image.size
    if max(width, height) > limits.max_side_px:
        text = f"{name} is {width}x{height} px; the longest side may be {limits.max_side_px} px"
        raise ImageError(text, code="image-too-large", field=name)
    if width * height > limits.max_pixels:
        text = f"{name} is {width}x{height} px, {width * height:,} in all; at most {limits.max_pixels:,} are taken"
        raise ImageError(text, code="image-too-large", field=name)
    if min(width, height) < limits.min_side_px:
        text = f"{name} is {width}x{height} px; the shortest side must be at least {limits.min_side_px} px"
        raise ImageError(text, code="image-too-small", field=name)


def _to_rgb(image: Image.Image, name: str) -> Photo:
    notices: list[str] = []
    orientation = image.getexif().get(0x0112, 1)
    image.load()
    if orientation not in (0, 1):
        notices.append(f"{name}: EXIF orientation {orientation} was applied")
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        notices.append(f"{name}: {image.mode} samples (16 bits or more) were scaled to 8 bits")
        image = Image.fromarray(_to_8bit(np.asarray(image)))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        notices.append(f"{name}: transparency was laid over white")
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    elif image.mode != "RGB":
        notices.append(f"{name}: {image.mode} was converted to RGB")
    return Photo(np.array(image.convert("RGB"), dtype=np.uint8), tuple(notices))


def _to_8bit(samples: npt.NDArray[Any]) -> UInt8:
    """Full 16-bit range to 8 bits; what already lies in 0..255 or in 0..1 (float) is kept so."""
    values = np.nan_to_num(samples.astype(np.float64))
    top = values.max(initial=0.0)
    scale = 255.0 / 65535.0 if top > 255 else (255.0 if samples.dtype.kind == "f" and top <= 1 else 1.0)
    eight_bit: UInt8 = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return eight_bit


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def resize(array: npt.NDArray[Any], height: int, width: int, *, nearest: bool = False) -> npt.NDArray[Any]:
    """Resizes (H, W) or (H, W, C); area filter when shrinking, bilinear when growing, or nearest."""
    if array.shape[:2] == (height, width):
        return array
    shrinks = height < array.shape[0] or width < array.shape[1]
    mode = cv2.INTER_NEAREST if nearest else (cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    resized: npt.NDArray[Any] = cv2.resize(array, (width, height), interpolation=mode)
    return resized


@dataclass(frozen=True)
class Placement:
    """Where a letterboxed photo sits inside the working size, in px of the working size."""

    x: int
    y: int
    width: int
    height: int

    def vector(self) -> npt.NDArray[np.float32]:
        """As the float32 (4,) vector that the `person_placement` field holds."""
        return np.array([self.x, self.y, self.width, self.height], dtype=np.float32)

    @classmethod
    def within(cls, photo: tuple[int, int], height: int, width: int) -> Placement:
        """A photo (H, W) px scaled to fit (height, width), aspect kept, centred."""
        scale = min(height / photo[0], width / photo[1])
        new_h, new_w = max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale))
        return cls((width - new_w) // 2, (height - new_h) // 2, new_w, new_h)

    @classmethod
    def of_vector(cls, vector: npt.NDArray[np.float32]) -> Placement:
        """From the `person_placement` field."""
        x, y, width, height = (int(v) for v in vector)
        return cls(x, y, width, height)

    def crop(self, canvas: npt.NDArray[Any], photo: tuple[int, ...], *, nearest: bool = False) -> npt.NDArray[Any]:
        """The placed part of a canvas of the working size, at the photo's own size (H, W)."""
        part = canvas[self.y : self.y + self.height, self.x : self.x + self.width]
        return resize(part, photo[0], photo[1], nearest=nearest)


def letterbox(image: UInt8, height: int, width: int) -> tuple[UInt8, Placement]:
    """Scales an image to fit (height, width), aspect kept, centred; borders repeat the edge's mean colour.

    Args:
        image: RGB uint8 (H, W, 3).
        height: of the canvas, px.
        width: of the canvas, px.

    Returns:
        The canvas uint8 (height, width, 3) and where the image sits in it.
    """
    place = Placement.within((image.shape[0], image.shape[1]), height, width)
    if (place.height, place.width) == (height, width):
        return resize(image, height, width), place
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean(axis=0)
    canvas = np.broadcast_to(np.rint(edge).astype(np.uint8), (height, width, 3)).copy()
    inside = slice(place.y, place.y + place.height), slice(place.x, place.x + place.width)
    canvas[inside] = resize(image, place.height, place.width)
    return canvas, place
