"""A sample letterboxed into another size: every layer scaled alike, photos bordered in their edges' colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tryon.data.shards import resize_row
from tryon.images import letterbox
from tryon.sample import FIELDS, Kind, Row

_PHOTOS = ("person", "garment")


def fit_row(row: Row, size: tuple[int, int]) -> Row:
    """Letterboxes the layers of the person into (height, width) px, and those of the garment.

    Args:
        row: decoded. `person` and `garment` stand for the size of their layers.
        size: (height, width) px.
    """
    out = dict(row)
    for photo in _PHOTOS:
        if row.get(photo) is not None:
            out |= _fit_group(row, photo, size)
    return out


def _fit_group(row: Row, photo: str, size: tuple[int, int]) -> Row:
    fitted, place = letterbox(row[photo], *size)
    names = [n for n in row if n != photo and row[n] is not None and _belongs(n, photo)]
    scaled = resize_row({photo: row[photo]} | {name: row[name] for name in names}, (place.height, place.width))
    group = {name: _padded(name, scaled[name], (place.y, place.x), size) for name in names}
    return {photo: fitted, **group}


def _belongs(name: str, photo: str) -> bool:
    has_frame = name in FIELDS and FIELDS[name].kind not in (Kind.TEXT, Kind.NUMBER, Kind.FILE, Kind.VECTOR)
    return has_frame and (name.startswith("garment") == (photo == "garment")) and name != "pose_world"


def _padded(name: str, value: npt.NDArray[Any], at: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[Any]:
    kind = FIELDS[name].kind
    if kind is Kind.KEYPOINTS:
        missing = (value == 0).all(axis=1, keepdims=True)  # a joint at 0, 0 is one that nobody found
        return np.where(missing, value, value + np.array([at[1], at[0], 0], dtype=value.dtype))
    fill = np.nan if kind is Kind.FLOW else 0
    canvas = np.full((*size, *value.shape[2:]), fill, dtype=value.dtype)
    canvas[at[0] : at[0] + value.shape[0], at[1] : at[1] + value.shape[1]] = value
    return canvas
