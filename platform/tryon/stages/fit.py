"""Fit: photos of any size onto the working size, or at their own where none is set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tryon.images import Placement, letterbox
from tryon.sample import Row
from tryon.stages.base import RowStage


class _Fit(RowStage):
    """Common part: letterboxing to `size`."""

    def __init__(self, size: Sequence[int] | None = None) -> None:
        """Sets the working size (height, width) in px; None keeps each photo's own size."""
        self._size = None if size is None else (int(size[0]), int(size[1]))

    def _fit(self, photo: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], Placement]:
        height, width = self._size or photo.shape[:2]
        return letterbox(photo, height, width)


class FitPerson(_Fit):
    """Scales the person photo to fit, aspect kept, and remembers where it went."""

    name = "fit_person"
    reads = ("person_photo",)
    adds = ("person", "person_placement")

    def process(self, row: Row) -> Row:
        person, place = self._fit(row["person_photo"])
        return {"person": person, "person_placement": place.vector()}


class FitGarment(_Fit):
    """Scales the garment photo to fit, aspect kept."""

    name = "fit_garment"
    reads = ("garment_photo",)
    adds = ("garment",)

    def process(self, row: Row) -> Row:
        return {"garment": self._fit(row["garment_photo"])[0]}
