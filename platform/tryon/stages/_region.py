"""The box of an image in which something is made: what a network gives is enlarged there alone.

At 1024x768 a try-on fills some two fifths of the photo; what lies outside costs no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """A box, px.

    Attributes:
        rows: of the image.
        columns: of the image.
    """

    rows: slice
    columns: slice

    @classmethod
    def around(cls, mask_hw: npt.NDArray[np.uint8], size: tuple[int, int] | None = None, margin: int = 0) -> Region:
        """The box of the mask's pixels that are not 0.

        Args:
            mask_hw: uint8 (H, W).
            size: (height, width) px of the image that the box is for; None: the mask's own.
            margin: px of the mask on each side.
        """
        x, y, width, height = cv2.boundingRect(mask_hw)
        if width == 0 or height == 0:
            return cls(slice(0, 0), slice(0, 0))
        shape = mask_hw.shape
        size = size or (shape[0], shape[1])
        return cls(
            _scaled(y - margin, y + height + margin, shape[0], size[0]),
            _scaled(x - margin, x + width + margin, shape[1], size[1]),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is in it."""
        return bool(self.rows.start >= self.rows.stop or self.columns.start >= self.columns.stop)

    def of(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The box of an image, a view."""
        return image[self.rows, self.columns]

    def enlarged(self, image: Float32, size: tuple[int, int]) -> Float32:
        """The box of an image that is resized to (height, width), bilinear, without the rest of it.

        Args:
            image: float32 (h, w) or (h, w, c).
            size: of the whole after resizing, px.

        Returns:
            float32: equal to ``resize(image, size)`` in the box.
        """
        h, w = image.shape[:2]
        if size[0] % h or size[1] % w:
            whole = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
            return np.asarray(whole[self.rows, self.columns])
        top, bottom, down = _window(self.rows, h, size[0] // h)
        left, right, across = _window(self.columns, w, size[1] // w)
        part = image[top:bottom, left:right]
        shape = ((right - left) * (size[1] // w), (bottom - top) * (size[0] // h))
        return np.asarray(cv2.resize(part, shape, interpolation=cv2.INTER_LINEAR)[down, across])


def paint(image: UInt8, region: Region, mask: UInt8, made: npt.NDArray[np.float32]) -> None:
    """Writes what was made into an image, in place, where the mask is not 0.

    Args:
        image: uint8 (H, W, 3).
        region: of the image.
        mask: uint8 (H, W).
        made: float32 (height, width, 3) of the region, 0..255; rounded, and cut off beyond.
    """
    rounded = cv2.addWeighted(made, 1.0, made, 0.0, 0.0, dtype=cv2.CV_8U)  # the one call that does both, in one pass
    cv2.copyTo(rounded, region.of(mask), region.of(image))


def _scaled(start: int, stop: int, length: int, size: int) -> slice:
    """A range of `length` px among `size` px, rounded outwards."""
    return slice(max(0, start * size // length), min(size, -(-stop * size // length)))


def _window(part: slice, length: int, scale: int) -> tuple[int, int, slice]:
    """Px before the resize that a range after it depends on, and the range within what they become."""
    start, stop = max(0, part.start // scale - 1), min(length, -(-part.stop // scale) + 1)
    return start, stop, slice(part.start - start * scale, part.stop - start * scale)
