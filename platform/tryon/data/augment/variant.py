"""One variant of a sample: which side each field is on, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon.data.augment.config import AugmentConfig
from tryon.data.augment.geometry import (
    FrameMap,
    draw_affine,
    draw_crop,
    draw_until_visible,
    hold_edges,
    identity,
    map_flow,
    mirror,
    then,
    touched_edges,
)
from tryon.data.augment.mirror import swap_joints, swap_labels, swap_landmarks, swap_parts
from tryon.data.augment.photometric import add_grain, draw_grain, draw_light, draw_quality, through_jpeg
from tryon.data.derived import row_rng
from tryon.data.simulator.render import warp_by_flow
from tryon.errors import SampleError
from tryon.sample import FIELDS, GREY, Kind, Row

UInt8 = npt.NDArray[np.uint8]


class Side(Enum):
    """What a field lies on, and so what becomes of it."""

    PERSON = "moves with the person photo"
    GARMENT = "moves with the garment photo"
    BOTH = "leads from the person photo to the garment photo"
    KEPT = "is true of every variant"
    LOST = "is no longer true of a variant, and null there"


SIDES: Mapping[str, Side] = {
    **dict.fromkeys(
        (
            "person", "pose", "pose_world", "person_mask", "parse", "lip_parse", "dense", "densepose_image", "agnostic",
            "agnostic_mask", "warped_garment", "warped_mask", "tryon", "composition_mask", "true_garment", "true_mask",
            "true_amodal_mask", "unoccluded_person", "generated",
        ),
        Side.PERSON,
    ),
    **dict.fromkeys(("garment", "garment_mask"), Side.GARMENT),
    "true_flow": Side.BOTH,
    **dict.fromkeys(
        (
            "id", "category", "split", "person_id", "garment_id", "person_uri", "garment_uri", "metadata", "photo_kind",
            "generated_by", "sampling_seed", "sampling_steps", "output_format",
            "output_quality", "error_code", "error", "error_stage",
        ),
        Side.KEPT,
    ),
    # Files, pictures at another size, and what was measured on the photo as it came.
    **dict.fromkeys(
        (
            "photo_file", "person_file", "garment_file", "person_photo", "garment_photo", "person_notices",
            "garment_notices", "person_placement", "quality", "person_hash", "garment_hash", "person_digest",
            "garment_digest", "result", "result_mask", "result_file",
        ),
        Side.LOST,
    ),
}  # fmt: skip

# Pictures of the person as one camera saw them: light, grain and compression are the same on all.
PERSON_PHOTOS = ("person", "unoccluded_person", "tryon", "generated")
# Pictures of the garment in the light of its own photo.
GARMENT_PHOTOS = ("garment", "warped_garment", "true_garment")
# Equal to the person outside the agnostic mask, where they were before.
COMPOSED = ("tryon", "generated")
# Black outside what they show.
BLACK_OUTSIDE = ("true_garment", "warped_garment")
# Its colours name left and right parts: neither a mean of two of them nor a mirror of it is true.
COLOUR_CODED = ("densepose_image",)

_MAPPED: Mapping[Kind, Callable[[FrameMap, str, Any], Any]] = {
    Kind.IMAGE: lambda frame, name, v: _picture(frame, name, v),
    Kind.MASK: lambda frame, name, v: frame.nearest(v),
    Kind.ALPHA: lambda frame, name, v: frame.soft(v),
    Kind.LABELS: lambda frame, name, v: _if_mirrored(frame, lambda x: swap_labels(name, x), frame.nearest(v)),
    Kind.IUV: lambda frame, name, v: _if_mirrored(frame, swap_parts, frame.nearest(v)),
    Kind.KEYPOINTS: lambda frame, name, v: _if_mirrored(frame, swap_joints, frame.keypoints(v)),
    Kind.LANDMARKS: lambda frame, name, v: frame.landmarks(_if_mirrored(frame, swap_landmarks, v)),
}


def augment_row(row: Row, config: AugmentConfig, variant: int) -> Row:
    """One variant of a sample: every layer as it would be had the photo been taken so.

    Args:
        row: decoded; any fields of `FIELDS`, layers of one side at one size.
        config: what may happen.
        variant: number of the variant; with the seed and the id it decides everything.

    Returns:
        A new row with the same fields and the id ``<id>#a<variant>``.

    Raises:
        SampleError: layers of one side differ in size (``"layers-differ"``).
    """
    rng = row_rng(config.seed, row["id"], "augment", variant)
    person, garment = draw_maps(row, config, rng)
    out = map_row(row, person, garment)
    out["id"] = f"{row['id']}#a{variant}"
    _relight(out, config, rng)
    agree(row, out)
    return out


def map_row(row: Row, person: FrameMap, garment: FrameMap) -> Row:
    """The sample with each side's layers mapped; what a map makes untrue is None."""
    out: Row = {}
    for name, value in row.items():
        side = SIDES[name]
        if value is None or side is Side.LOST:
            out[name] = None
        elif side is Side.KEPT:
            out[name] = value
        elif side is Side.BOTH:
            out[name] = map_flow(value, person, garment)
        else:
            out[name] = _MAPPED[FIELDS[name].kind](person if side is Side.PERSON else garment, name, value)
    return out


def _picture(frame: FrameMap, name: str, value: UInt8) -> UInt8 | None:
    if name in COLOUR_CODED:
        return None if frame.mirrors else frame.nearest(value)
    return frame.soft(value) if name in BLACK_OUTSIDE else frame.image(value)


def _if_mirrored(frame: FrameMap, change: Callable[[Any], Any], value: Any) -> Any:
    return change(value) if frame.mirrors else value


def draw_maps(row: Row, config: AugmentConfig, rng: np.random.Generator) -> tuple[FrameMap, FrameMap]:
    """Draws the map of the person's frame and that of the garment photo's."""
    person_size, garment_size = side_size(row, Side.PERSON), side_size(row, Side.GARMENT)
    flips = rng.random() < config.flip.probability
    flips_garment = flips and config.flip.garment
    first = mirror(person_size) if flips else identity(person_size)
    first_garment = mirror(garment_size) if flips_garment else identity(garment_size)
    body = _body(row)
    touched = touched_edges(None if body is None else first.nearest(body))

    def draw() -> FrameMap:
        moved = identity(person_size)
        if rng.random() < config.crop.probability:
            moved = draw_crop(config.crop, person_size, rng)
        if rng.random() < config.affine.probability:
            moved = then(moved, draw_affine(config.affine, person_size, rng))
        return then(first, hold_edges(moved, touched))

    def draw_garment() -> FrameMap:
        if rng.random() >= config.garment_affine.probability:
            return first_garment
        return then(first_garment, draw_affine(config.garment_affine, garment_size, rng))

    person = draw_until_visible(draw, _worn(row, body), config.min_visible, first)
    return person, draw_until_visible(draw_garment, row.get("garment_mask"), 1.0, first_garment)


def side_size(row: Row, side: Side) -> tuple[int, int]:
    """(height, width) px of a side's layers; (1, 1) where the row has none.

    Raises:
        SampleError: they differ.
    """
    shapes = {
        name: value.shape[:2]
        for name, value in row.items()
        if value is not None and SIDES[name] in (side, Side.BOTH if side is Side.PERSON else side)
        if FIELDS[name].kind not in (Kind.KEYPOINTS, Kind.LANDMARKS)
    }
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape[1]}x{shape[0]}" for name, shape in shapes.items())
        raise SampleError(f"layers of one photo differ in size: {told} px", code="layers-differ")
    return next(iter(shapes.values()), (1, 1))


def _body(row: Row) -> UInt8 | None:
    """1 on the person, from whatever tells it."""
    for name in ("person_mask", "parse", "lip_parse"):
        if row.get(name) is not None:
            return np.asarray(row[name] > 0, dtype=np.uint8)
    return None


def _worn(row: Row, body: UInt8 | None) -> UInt8 | None:
    """1 where the picture is about the garment, from whatever tells it."""
    for name in ("true_amodal_mask", "agnostic_mask"):
        if row.get(name) is not None:
            mask: UInt8 = row[name]
            return mask
    return body


def _relight(out: Row, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Light, grain and compression, in place."""
    if rng.random() < config.light.probability:
        on_person, on_garment = draw_light(config.light, rng)
        _change(out, PERSON_PHOTOS, on_person)
        _change(out, GARMENT_PHOTOS, on_garment)
    for names, side in ((PERSON_PHOTOS, Side.PERSON), (("garment",), Side.GARMENT)):
        if rng.random() < config.noise.probability:
            grain = draw_grain(config.noise, side_size(out, side), rng)
            _change(out, names, partial(add_grain, grain_hw1=grain))
        if rng.random() < config.jpeg.probability:
            quality = draw_quality(config.jpeg, rng)
            _change(out, names, partial(through_jpeg, quality=quality))


def _change(out: Row, names: tuple[str, ...], change: Callable[[UInt8], UInt8]) -> None:
    for name in names:
        if out.get(name) is not None:
            out[name] = change(out[name])


def agree(row: Row, out: Row) -> None:
    """Makes the layers that are made of others what they are by definition, to the pixel, in place."""
    mask, person = out.get("agnostic_mask"), out.get("person")
    if out.get("agnostic") is not None:
        # Resampled by itself its grey would run into the person's colours; without both of them it cannot be made.
        out["agnostic"] = None if mask is None or person is None else compose(np.uint8(GREY), person, mask)
    for name in COMPOSED:
        if out.get(name) is not None and mask is not None and person is not None and _equal_outside(row, name):
            out[name] = compose(out[name], person, mask)
    if all(out.get(name) is not None for name in ("true_garment", "garment", "true_flow", "true_mask")):
        seen = np.isfinite(out["true_flow"]).all(axis=-1)
        out["true_garment"] = warp_by_flow(out["garment"], out["true_flow"], out["true_mask"] * seen)


def compose(inside: UInt8 | np.uint8, outside: UInt8, mask: UInt8) -> UInt8:
    """`inside` where the mask is 1, `outside` elsewhere, RGB uint8 (H, W, 3)."""
    return np.asarray(np.where(mask[..., None] > 0, inside, outside), dtype=np.uint8)


def _equal_outside(row: Row, name: str) -> bool:
    outside = row["agnostic_mask"] == 0
    return bool(np.array_equal(row[name][outside], row["person"][outside]))
