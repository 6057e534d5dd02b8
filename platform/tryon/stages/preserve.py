"""Preserve: the person's own pixels back, wherever neither garment is.

The agnostic mask is broad, so that no network can read the old garment's cut off it. What it covers beside the garment,
arms, throat and background, is still there in the photo: it need not be drawn. After the preservation of non-target
parts of ACGPN (Yang et al. 2020, arXiv 2003.05863), with the parse of the photo and the composition mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.sample import Label, Row
from tryon.stages._region import Region, paint
from tryon.stages._shading import shading
from tryon.stages.agnostic import LOWER, UPPER
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

# What each category takes off.
REPLACED: Mapping[str, tuple[Label, ...]] = {
    "upper": UPPER,
    "lower": (*LOWER, Label.DRESS),
    "dress": (*UPPER, *LOWER),
}
MARGIN = 0.005  # of the image's height, around the old garment: its shadow, and what the parse is off
REDUCED = 4  # the old garment is grown at a fourth of the size, which also softens its edge
COVERS = 0.5  # share of the warped garment from which on nothing of the photo shows through


class Preserve(RowStage):
    """Replaces what was drawn by the photo, where the old garment was not and the new one is not.

    Reads ``person``, ``parse``, ``category``, ``agnostic_mask``, ``tryon`` and ``composition_mask``; replaces
    ``tryon``.
    A try-on that shows no warped garment, such as a diffusion network's, is left as it is: nothing tells where its
    garment lies.
    """

    name: ClassVar[str] = "preserve"
    reads = ("person", "parse", "category", "agnostic_mask", "tryon", "composition_mask")
    adds = ("tryon",)

    def process(self, row: Row) -> Row:
        """Gives the photo's pixels back inside the agnostic mask; outside it they are there already."""
        tryon, mask, shown = row["tryon"], row["agnostic_mask"], row["composition_mask"]
        region = Region.around(mask)
        if region.is_empty or not shown.any():
            return {"tryon": tryon}
        alpha = region.of(shown).astype(np.float32) * np.float32(1 / 255)
        made = region.of(tryon).astype(np.float32)
        worn = self._worn(row["parse"], row["category"])
        light = shading(region.of(row["person"]), region.of(worn), (mask.shape[0], mask.shape[1]))
        if light is not None:
            made *= cv2.merge([1 + alpha * (light - 1)] * 3)
        new = alpha / COVERS
        drawn = np.minimum(np.maximum(self._grown(worn, region), new), 1)
        person = region.of(row["person"]).astype(np.float32)
        made -= person
        made *= cv2.merge([drawn] * 3)
        made += person
        out = tryon.copy()
        paint(out, region, mask, made)
        return {"tryon": out}

    @staticmethod
    def _worn(parse: UInt8, category: str) -> UInt8:
        """Where the old garment lies: uint8 (H, W), 0 and 255."""
        table = np.zeros(256, dtype=np.uint8)
        table[list(REPLACED[category])] = 255
        return np.asarray(cv2.LUT(parse, table))

    @staticmethod
    def _grown(worn: UInt8, region: Region) -> Float32:
        """The old garment with a margin around it, in the region's box: float32 0..1."""
        height, width = worn.shape
        size = (max(1, width // REDUCED), max(1, height // REDUCED))
        small = cv2.resize(worn, size, interpolation=cv2.INTER_AREA)
        reach = max(1, round(MARGIN * height / REDUCED))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        grown = cv2.dilate(small, kernel).astype(np.float32) / 255
        return region.enlarged(grown, (height, width))
