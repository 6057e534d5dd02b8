"""What a photo's header says, before it is kept. Pixels are decoded later, by annotation."""

from __future__ import annotations

import io
import warnings

from tryon.config import ImageLimits
from tryon.data.crawl.guard import FetchError
from tryon.images import DAMAGE, FORMATS

_SUFFIX = {"JPEG": "jpg", "MPO": "jpg"}


def check_header(data: bytes, url: str, limits: ImageLimits) -> tuple[str, int, int]:
    """Suffix, width and height px of a photo.

    Raises:
        FetchError: no image, or its size is not within the limits.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            kind, (width, height) = str(image.format), image.size
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise FetchError(f"{url} is no image that can be read", code="not-an-image") from error
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise FetchError(f"{url} is {width}x{height} px, more than is taken", code="image-too-large")
    if min(width, height) < limits.min_side_px:
        text = f"{url} is {width}x{height} px; the shortest side must be at least {limits.min_side_px} px"
        raise FetchError(text, code="image-too-small")
    return _SUFFIX.get(kind, kind.lower()), width, height
