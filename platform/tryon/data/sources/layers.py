"""Layers that a data set brings beside its photos: decoded, and checked against the photo they lie on."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tryon.errors import DataError
from tryon.images import DAMAGE

if TYPE_CHECKING:
    from PIL import Image

UInt8 = npt.NDArray[np.uint8]
Size = tuple[int, int]  # width, height
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112
PARTS = 24  # of the body, in DensePose


def upright_size(photo: bytes) -> Size | None:
    """(width, height) px of a photo once its EXIF rotation is applied; None if it is no image (decoding names that)."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(photo))
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)
    except (*DAMAGE, Image.DecompressionBombError):
        return None


def picture(data: bytes, layer: str, modes: tuple[str, ...], size: Size | None) -> UInt8:
    """Decodes a layer.

    Args:
        data: the file.
        layer: what to call it in messages.
        modes: PIL modes it may have; a file of another one is converted to the first, but never to labels.
        size: (width, height) px it must have; checked on the header, before any pixel is decoded. None: any.

    Raises:
        DataError: damaged, of another size than its photo, or not of these modes.
    """
    from PIL import Image

    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        _check_header(image, layer, modes, size)
        return np.array(image if image.mode in modes else image.convert(modes[0]), dtype=np.uint8)
    except DataError:
        raise
    except (*DAMAGE, Image.DecompressionBombError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{layer} is damaged: {reason}", code="layer-corrupt") from error


def _check_header(image: Image.Image, layer: str, modes: tuple[str, ...], size: Size | None) -> None:
    if size is not None and image.size != size:
        text = f"{layer} is {image.size[0]}x{image.size[1]} px, its photo {size[0]}x{size[1]} px"
        raise DataError(text, code="layer-size")
    if "P" in modes and image.mode not in modes:
        text = f"{layer} is a picture of mode {image.mode}; label numbers are needed"
        raise DataError(text, code="layer-corrupt")


def labels(data: bytes, layer: str, count: int, size: Size | None) -> UInt8:
    """Decodes a label map: uint8 (H, W), values 0..count - 1.

    Raises:
        DataError: see `picture`, or a label is out of range.
    """
    array = picture(data, layer, ("P", "L"), size)
    if array.max(initial=0) >= count:
        raise DataError(f"{layer} has label {array.max()}; 0..{count - 1} are known", code="layer-corrupt")
    return array


def mask(data: bytes, layer: str, size: Size | None) -> UInt8:
    """Decodes a mask, black and white: uint8 (H, W), values {0, 1}.

    Raises:
        DataError: see `picture`.
    """
    return (picture(data, layer, ("L",), size) > 127).astype(np.uint8)


def true_iuv(image_rgb: UInt8) -> UInt8 | None:
    """The IUV map in a picture of a DensePose result, if it is one; drawings of such results are not.

    Args:
        image_rgb: uint8 (H, W, 3). A file written by OpenCV holds I in the last channel.

    Returns:
        uint8 (H, W, 3): part 0..24, U, V; None for any other picture.
    """
    for order in ((0, 1, 2), (2, 1, 0)):
        iuv = image_rgb[..., list(order)]
        part = iuv[..., 0]
        if 0 < part.max(initial=0) <= PARTS and not iuv[part == 0].any():
            return np.ascontiguousarray(iuv)
    return None


def parsed_json(data: bytes, layer: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: it is none.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise DataError(f"{layer} is no JSON: {error}", code="layer-corrupt") from error
    if not isinstance(value, dict):
        raise DataError(f"{layer} holds a {type(value).__name__}, an object is needed", code="layer-corrupt")
    return cast("dict[str, Any]", value)


def keypoints(values: Any, layer: str, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Keypoints from numbers: float32 of `shape`.

    Raises:
        DataError: no numbers, or not as many as the shape needs.
    """
    try:
        array = np.asarray(values, dtype=np.float32).reshape(shape)
    except (TypeError, ValueError) as error:
        raise DataError(f"{layer} does not hold {shape[0]} x {shape[1]} numbers", code="layer-corrupt") from error
    if not np.isfinite(array).all():
        raise DataError(f"{layer} holds a keypoint that is no number", code="layer-corrupt")
    return array
