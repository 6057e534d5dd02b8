"""A sample at another size: every layer as it would be had its photos been letterboxed to that size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tryon.data.augment.geometry import FrameMap, Size
from tryon.data.augment.variant import BLACK_OUTSIDE, COLOUR_CODED, SIDES, Side, agree, map_row, side_size
from tryon.images import Placement, letterbox, resize
from tryon.sample import FIELDS, Kind, Row


def fit_row(row: Row, size: Size) -> Row:
    """Brings the layers of both photos to one size, aspect kept, borders as `letterbox` makes them.

    Args:
        row: decoded.
        size: (height, width) px.

    Returns:
        A new row. Pictures are averaged, masks and labels are not; keypoints and flow move along. What tells of the
        photo as it came (file, quality, hashes) stays; `person_placement` is None.

    Raises:
        SampleError: layers of one photo differ in size.
    """
    places = {side: _placement(side_size(row, side), size) for side in (Side.PERSON, Side.GARMENT)}
    frames = [_frame(side_size(row, side), place, size) for side, place in places.items()]
    on_photos = {name: value for name, value in row.items() if SIDES[name] in (*places, Side.BOTH)}
    out = {**row, **map_row({k: v for k, v in on_photos.items() if not _is_averaged(k)}, *frames)}
    for name in filter(_is_averaged, on_photos):
        out[name] = None if row[name] is None else _laid(name, row[name], places[SIDES[name]], size)
    agree(row, out)
    return {**out, "person_placement": None} if "person_placement" in out else out


def _is_averaged(name: str) -> bool:
    return FIELDS[name].kind in (Kind.IMAGE, Kind.ALPHA) and name not in COLOUR_CODED


def _placement(own: Size, size: Size) -> Placement:
    scale = min(size[0] / own[0], size[1] / own[1])
    height, width = max(1, round(own[0] * scale)), max(1, round(own[1] * scale))
    return Placement((size[1] - width) // 2, (size[0] - height) // 2, width, height)


def _frame(own: Size, place: Placement, size: Size) -> FrameMap:
    """The map of pixel centres that goes with resizing and laying: a pixel's edges, not its centre, are scaled."""
    scale = np.array([place.width / own[1], place.height / own[0]])
    matrix = np.diag([*scale, 1.0])
    matrix[:2, 2] = scale / 2 - 0.5 + (place.x, place.y)
    return FrameMap(matrix, size)


def _laid(name: str, value: npt.NDArray[np.uint8], place: Placement, size: Size) -> npt.NDArray[Any]:
    if name not in BLACK_OUTSIDE and FIELDS[name].kind is Kind.IMAGE:
        return letterbox(value, *size)[0]
    canvas = np.zeros((*size, *value.shape[2:]), np.uint8)
    canvas[place.y : place.y + place.height, place.x : place.x + place.width] = resize(value, place.height, place.width)
    return canvas
