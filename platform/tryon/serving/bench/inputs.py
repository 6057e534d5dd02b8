"""Photos to measure with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from tryon.codec import UInt8, encode_jpeg
from tryon.data.simulator import simulate

SEED = 4001
QUALITY = 92


@dataclass(frozen=True)
class Pair:
    """Two JPEG files.

    Attributes:
        person: photo.
        garment: photo of a top.
    """

    person: bytes
    garment: bytes


def make_pairs(num: int, size: tuple[int, int]) -> list[Pair]:
    """Simulated pairs of tops, all files different.

    Args:
        num: of pairs.
        size: (height, width) px of each photo.
    """
    height, width = size
    made: list[Pair] = []
    index = 0
    while len(made) < num:
        row = simulate(SEED, index, 512, 384)  # drawn small and enlarged: the time to draw grows with the area
        index += 1
        if row["category"] == "upper":
            person, garment = (_enlarged(row[name], height, width) for name in ("person", "garment"))
            made.append(Pair(encode_jpeg(person, QUALITY), encode_jpeg(garment, QUALITY)))
    return made


def another_file(photo: bytes, number: int) -> bytes:
    """The same picture with another hash: a JPEG's decoder passes by what follows its end."""
    return photo + number.to_bytes(4, "big")


def _enlarged(image: UInt8, height: int, width: int) -> UInt8:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).astype("uint8")
