"""What an export layout is: which files a sample becomes, and which lists are written at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.codec import decode_image, encode_jpeg
from tryon.config import Category, Config, Size
from tryon.sample import Row

UInt8 = npt.NDArray[np.uint8]
JPEG_START = b"\xff\xd8\xff"
JPEG_QUALITY = 95
DEFAULT_SPLIT = "train"


class ExportConfig(Config):
    """What is written, and at which size."""

    size: Size | None = Field(
        None, description="(height, width) px to letterbox to; None keeps each sample's own, and JPEG photos untouched"
    )
    categories: tuple[Category, ...] = Field(
        ("upper", "lower", "dress"), min_length=1, description="garment categories to write; others are left out"
    )
    default_split: str = Field(
        DEFAULT_SPLIT, pattern="^(train|val|test)$", description="folder for rows whose split is not said"
    )


@dataclass
class Exported:
    """What one sample became.

    Attributes:
        files: content by path inside the export.
        entry: a JSON-like line of `metadata.jsonl`, or of the layout's other lists.
        notices: what the reader of the export should know, each to be counted.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


class Layout(Protocol):
    """One way of laying a data set out as files."""

    reads: tuple[str, ...]

    def export(self, row: Row, stem: str, split: str, config: ExportConfig) -> Exported:
        """Turns a sample into files.

        Args:
            row: encoded values of the fields in `reads` that the data set has.
            stem: file name to use.
            split: train, val or test.
            config: options.
        """

    def lines(self, entry: Mapping[str, Any]) -> Mapping[str, str]:
        """The lines an entry adds to lists, by the list's path."""


def photo_jpeg(data: bytes) -> bytes:
    """A photo as JPEG: its own bytes if it is one, else quality 95 without chroma subsampling."""
    return data if data.startswith(JPEG_START) else encode_jpeg(decode_image(data), JPEG_QUALITY)


def mask_jpeg(mask: UInt8) -> bytes:
    """A mask as grey JPEG that gives the same mask back at a threshold of 128.

    Args:
        mask: uint8 (H, W), {0, 1}.
    """
    for quality in (JPEG_QUALITY, 100):
        ok, data = cv2.imencode(".jpg", mask * np.uint8(255), [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert ok, "cv2.imencode refused a JPEG"
        back = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        if np.array_equal(back >= 128, mask > 0):
            break
    return bytes(data.tobytes())
