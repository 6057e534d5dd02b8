"""Paste: the try-on back onto the person photo, at the photo's own size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tryon.images import Placement
from tryon.sample import Row
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]


class Paste(RowStage):
    """Puts generated pixels where the agnostic mask is 1; every other pixel is the photo's own, bit for bit."""

    name = "paste"
    reads = ("person_photo", "person_placement", "agnostic_mask", "tryon")
    adds = ("result", "result_mask")

    def process(self, row: Row) -> Row:
        photo: UInt8 = row["person_photo"]
        place = Placement.of_vector(row["person_placement"])
        generated = place.crop(row["tryon"], photo.shape)
        mask = place.crop(row["agnostic_mask"], photo.shape, nearest=True)
        return {"result": cv2.copyTo(generated, mask, photo.copy()), "result_mask": mask}
