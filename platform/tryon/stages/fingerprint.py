"""Fingerprint stage: a perceptual hash and a pixel digest of each photo, by which duplicates are found.

The hash is 384 bits, 96 hex digits, in two parts that are compared apart:

| part      | bits | what                                                                              |
|-----------|------|-----------------------------------------------------------------------------------|
| structure | 256  | signs of the 256 lowest DCT terms of the luma against their median, low ones first |
| colour    | 128  | luma, Cr and Cb of 2 x 4 cells of the middle, each as a thermometer               |

64 bits do not do: of 800 catalogue persons, whose photos all have one background, different ones come as near as 10
bits, and a photo to itself with 2 % cropped as far as 12. With 256 the nearest different ones are 68 apart, and
JPEG, resizing, brightness and a crop of 1 % a side stay within 34. Colour is apart because luma alone cannot tell a
product's colours from each other: the photo is the same but for the dye.

Sums are over whole numbers below 2**53, so the bits do not depend on a machine's order of addition.
"""

from __future__ import annotations

import functools
import hashlib
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.images import resize
from tryon.sample import Row
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

STRUCTURE_BITS = 256
COLOUR_BITS = 128
HASH_BITS = STRUCTURE_BITS + COLOUR_BITS
DIGEST_DIGITS = 16

_SIDE = 64
_FREQUENCIES = 24  # 1 to 23 along each axis; the 256 lowest by their sum lie within
_MIDDLE = (slice(8, 56), slice(12, 52))  # of 64 x 64: most backgrounds stay out, 12 x 20 pixels a cell
_LUMA_STEPS = (50, 100, 150, 200)
_CHROMA_STEPS = (108, 118, 125, 131, 138, 148)  # grey is 128: either side of it, so that JPEG's noise flips no bit


class Fingerprint(RowStage):
    """Hashes the photos that a row has.

    Looks at ``person`` and ``garment``; adds ``person_hash``, ``garment_hash``, ``person_digest`` and
    ``garment_digest``, None where the photo is absent.
    """

    name: ClassVar[str] = "fingerprint"
    optional = ("person", "garment")
    adds = ("person_hash", "garment_hash", "person_digest", "garment_digest")

    def process(self, row: Row) -> Row:
        """Adds 96 hex digits of `perceptual_hash` and 16 of `pixel_digest` a photo."""
        out: Row = dict.fromkeys(self.adds)
        for photo in ("person", "garment"):
            if row[photo] is not None:
                out[f"{photo}_hash"] = perceptual_hash(row[photo])
                out[f"{photo}_digest"] = pixel_digest(row[photo])
        return out


def perceptual_hash(photo: UInt8) -> str:
    """The hash described above.

    Args:
        photo: RGB uint8 (H, W, 3).

    Returns:
        96 hex digits, the first bit highest.
    """
    small = cv2.cvtColor(resize(photo, _SIDE, _SIDE), cv2.COLOR_RGB2YCrCb)
    bits = np.concatenate([_structure(small[..., 0].astype(np.uint8)), _colour(small.astype(np.uint8))])
    return np.packbits(bits).tobytes().hex()


def pixel_digest(photo: UInt8) -> str:
    """First 16 hex digits of the sha256 over the shape and the pixels of an RGB uint8 (H, W, 3) photo."""
    digest = hashlib.sha256(repr(photo.shape).encode())
    digest.update(np.ascontiguousarray(photo).data)
    return digest.hexdigest()[:DIGEST_DIGITS]


def _structure(luma: UInt8) -> Bool:
    """256 bits of the luma (64, 64): is the term above the median of all."""
    cosines, terms = _dct()
    spectrum = cosines @ luma.astype(np.float64) @ cosines.T
    chosen = spectrum[terms]
    return np.asarray(chosen > np.median(chosen))


@functools.cache
def _dct() -> tuple[npt.NDArray[np.float64], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """DCT-II cosines (24, 64) in whole steps of 2**-13, and which terms are taken: low ones first, none of row 0."""
    places = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    cosines = np.rint(np.cos(np.outer(np.arange(_FREQUENCIES), places)) * 2**13)
    order = sorted((u + v, u, v) for u in range(1, _FREQUENCIES) for v in range(1, _FREQUENCIES))[:STRUCTURE_BITS]
    return cosines, (np.array([u for _, u, _ in order]), np.array([v for _, _, v in order]))


def _colour(ycrcb: UInt8) -> Bool:
    """128 bits of (64, 64, 3): which steps the mean of each cell lies above."""
    cells = resize(np.ascontiguousarray(ycrcb[_MIDDLE]), 4, 2).reshape(-1, 3)
    luma = [cells[:, 0] > step for step in _LUMA_STEPS]
    chroma = [cells[:, channel] > step for channel in (1, 2) for step in _CHROMA_STEPS]
    return np.concatenate(luma + chroma)
