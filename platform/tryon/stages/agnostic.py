"""Agnostic stage: paints out the garment to be replaced and whatever would betray its shape.

Follows the agnostic images of VITON-HD v3.2 (Choi et al., CVPR 2021): limbs and trunk are covered as broad
strokes along the keypoints, so that no sleeve length or cut can be read off the mask; face, hair, hands and the
other garments are left.
"""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.images import resize
from tryon.sample import CATEGORIES, GREY, Label, Row
from tryon.stages._priors import BodyMaps, body_maps, hand_tip
from tryon.stages.base import RowStage
from tryon.stages.skeleton import SIDES, Body, at_work_size, body_of, draw_capsule, fill_hull

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

WORK_PX = 384
# Shoulder widths, as are all radii and margins here.
ARM_RADII = (0.28, 0.24, 0.17)  # at shoulder, elbow, wrist
LEG_RADII = (0.36, 0.27, 0.2)  # at hip, knee, ankle
GARMENT_MARGIN = 0.07  # around the old garment, so that its outline cannot be seen
LIMB_MARGIN = 0.05
HEM_MARGIN = 0.05  # how far a longer new top may reach over the lower garment
STRAND_MARGIN = 0.07  # skin this near to hair: lit strands look like skin
WRIST = 1.95  # arm coordinate: 0 shoulder, 1 elbow, 2 wrist
CHIN = 0.98  # in half face heights below the face's centre

UPPER = (Label.UPPER_CLOTHES, Label.DRESS, Label.SCARF)
LOWER = (Label.SKIRT, Label.PANTS, Label.BELT)
ARMS = (Label.LEFT_ARM, Label.RIGHT_ARM)
LEGS = (Label.LEFT_LEG, Label.RIGHT_LEG)
SHOES = (Label.LEFT_SHOE, Label.RIGHT_SHOE)
HEAD = (Label.HAIR, Label.HAT, Label.SUNGLASSES)


class Agnostic(RowStage):
    """Makes the garment-agnostic person.

    Reads ``person``, ``parse``, ``pose``, ``person_mask`` and ``category``; adds ``agnostic`` (grey 128 where
    something must be generated) and ``agnostic_mask``.
    """

    name: ClassVar[str] = "agnostic"
    version: ClassVar[int] = 2
    reads = ("person", "parse", "pose", "person_mask", "category")
    adds = ("agnostic", "agnostic_mask")

    def process(self, row: Row) -> Row:
        """Adds the agnostic image and mask.

        Raises:
            SampleError: the category is unknown (``"category-unknown"``) or the pose is empty.
        """
        category = row["category"]
        if category not in CATEGORIES:
            sentence = f"category {category!r} is not one of {', '.join(CATEGORIES)}"
            raise SampleError(sentence, code="category-unknown", field="category")
        person: UInt8 = row["person"]
        mask = agnostic_mask(row["parse"], row["pose"], row["person_mask"], category)
        agnostic = cv2.copyTo(np.full_like(person, GREY), mask, person.copy())
        return {"agnostic": agnostic, "agnostic_mask": mask}


def agnostic_mask(parse: UInt8, pose: npt.NDArray[np.float32], person_mask: UInt8, category: str) -> UInt8:
    """Mask of what must be generated.

    Args:
        parse: uint8 (H, W), values of `Label`.
        pose: float32 (25, 3), px.
        person_mask: uint8 (H, W), {0, 1}.
        category: one of `CATEGORIES`.

    Returns:
        uint8 (H, W), {0, 1}.
    """
    height, width = parse.shape
    shape, small_pose = at_work_size(pose, height, width, WORK_PX)
    body = body_of(small_pose)
    maps = body_maps(body, shape)
    small = resize(parse, *shape, nearest=True)
    person = resize(person_mask, *shape, nearest=True) > 0
    covered = np.zeros(shape, dtype=bool)
    face = (maps.face_y < CHIN) & (maps.head < 1.3)
    hair = _is(small, HEAD)
    strands = _grown(hair, STRAND_MARGIN * body.unit) & _is(small, (Label.FACE,))
    keep = hair | strands | (_is(small, (Label.FACE,)) & face)
    must = _must(small, category)
    hands = _hands(small, body, maps) & ~must
    if category in ("upper", "dress"):
        covered |= _upper(small, person, body, maps)
        if category == "upper":
            near = _grown(_is(small, UPPER), HEM_MARGIN * body.unit)
            near |= _grown(_is(small, ARMS) & ~hands, 0.03 * body.unit)
            keep |= (_is(small, LOWER + LEGS + SHOES) | (small == Label.BAG)) & ~near
    if category in ("lower", "dress"):
        covered |= _lower(small, body, maps, to_knees=category == "dress")
        keep |= _is(small, SHOES)
        if category == "lower":
            keep |= _is(small, ARMS) | (_is(small, UPPER) & (maps.trunk < _waist(small, maps)))
    covered = (covered & ~keep & ~hands) | must
    soft = cv2.GaussianBlur(covered.astype(np.uint8) * np.uint8(255), (0, 0), 0.8)
    full = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR) > 127
    face_full = resize(face.astype(np.uint8), height, width, nearest=True) > 0
    full &= ~(_is(parse, HEAD) | ((parse == Label.FACE) & face_full))
    return full.astype(np.uint8)


def _is(parse: UInt8, labels: tuple[Label, ...]) -> Bool:
    table = np.zeros(256, dtype=np.uint8)
    table[list(labels)] = 1
    return np.asarray(cv2.LUT(parse, table)).view(np.bool_)


def _grown(mask: Bool, radius_px: float) -> Bool:
    """The mask and everything within `radius_px` of it."""
    if not mask.any():
        return mask
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) <= radius_px)


def _must(parse: UInt8, category: str) -> Bool:
    """Pixels of the garment itself: covered whatever geometry says."""
    labels = {"upper": UPPER, "lower": LOWER, "dress": UPPER + LOWER[:1]}[category]
    return _is(parse, labels)


def _upper(parse: UInt8, person: Bool, body: Body, maps: BodyMaps) -> Bool:
    unit = body.unit
    strokes = np.zeros(parse.shape, dtype=np.uint8)
    radii = [r * unit for r in ARM_RADII]
    for side in SIDES:
        shoulder, elbow, wrist = body.arm(side)
        draw_capsule(strokes, shoulder, elbow, radii[0], radii[1])
        draw_capsule(strokes, elbow, wrist, radii[1], radii[2])
    _draw_trunk(strokes, body)
    garment = _grown(_is(parse, UPPER), GARMENT_MARGIN * unit)
    before_wrist = np.where(parse == Label.LEFT_ARM, maps.arms["left"], maps.arms["right"]) < WRIST
    arms = _grown(_is(parse, ARMS) & before_wrist, LIMB_MARGIN * unit)
    throat = (maps.neck < 0.06) & (maps.face_y > CHIN)
    throat |= _grown(_is(parse, (Label.FACE,)) & (maps.face_y > CHIN), 0.04 * unit) & (maps.face_y > 0.8)
    rest = person & (maps.trunk > 0.05) & (maps.trunk < 0.9) & ~_is(parse, LOWER + LEGS)
    return (strokes > 0) | garment | arms | throat | rest


def _draw_trunk(mask: UInt8, body: Body) -> None:
    """Shoulders to hips, a little broader than the body."""
    unit, right = body.unit, np.array([-body.up[1], body.up[0]])
    discs = []
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for joint, sign, radius in ((5, 1, 0.16), (2, -1, 0.16), (12, 1, 0.2), (9, -1, 0.2)):
        outward = right * sign * (1.0 if body.joints[5] @ right >= body.joints[2] @ right else -1.0)
        discs.append(body.joints[joint] + 0.04 * unit * outward + ring * radius * unit)
    fill_hull(mask, np.concatenate(discs))


def _hands(parse: UInt8, body: Body, maps: BodyMaps) -> Bool:
    """Skin beyond the wrists, and its surroundings there."""
    hands = np.zeros(parse.shape, dtype=bool)
    for side, label in zip(SIDES, ARMS, strict=True):
        wrist, tip = body.arm(side)[2], hand_tip(body, side)
        zone = np.zeros(parse.shape, dtype=np.uint8)
        draw_capsule(zone, wrist + 0.2 * (tip - wrist), tip, 0.2 * body.unit, 0.34 * body.unit)
        beyond = (zone > 0) & (maps.arms[side] > WRIST + 0.08)
        hands |= _grown(_is(parse, (label,)) & beyond, 0.04 * body.unit) & beyond & ~_is(parse, UPPER)
    return hands


def _waist(parse: UInt8, maps: BodyMaps) -> float:
    """Trunk coordinate at which the upper garment gives way to the lower one; a dress has its waist there."""
    lower = maps.trunk[_is(parse, LOWER) & (np.abs(maps.lateral) < 0.25)]
    if lower.size <= max(20, int((parse == Label.DRESS).sum())):
        return 0.85
    return float(np.quantile(lower, 0.03)) - 0.08


def _lower(parse: UInt8, body: Body, maps: BodyMaps, *, to_knees: bool) -> Bool:
    unit = body.unit
    strokes = np.zeros(parse.shape, dtype=np.uint8)
    radii = [r * unit for r in LEG_RADII]
    for side in SIDES:
        hip, knee, ankle = body.leg(side)
        draw_capsule(strokes, hip + body.up * 0.12 * unit, knee, radii[0], radii[1])
        if not to_knees:
            draw_capsule(strokes, knee, ankle, radii[1], radii[2])
    hull = np.stack([point for side in SIDES for point in body.leg(side)[:2]])
    fill_hull(strokes, hull)
    garment = _grown(_is(parse, (*LOWER, Label.DRESS)), GARMENT_MARGIN * unit)  # of a dress, what is below the waist
    if to_knees:
        garment = _grown(_is(parse, (Label.SKIRT, Label.DRESS)), GARMENT_MARGIN * unit)
        return (strokes > 0) | garment
    legs = _grown(_is(parse, LEGS), LIMB_MARGIN * unit)
    return ((strokes > 0) | garment | legs) & (maps.trunk > _waist(parse, maps))
