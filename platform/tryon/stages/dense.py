"""Dense stage: a DensePose-style IUV map, drawn from pose and parse where none was imported.

Numbers are DensePose's (Güler et al., CVPR 2018): 1 torso back, 2 torso front, 3 right hand, 4 left hand, 5 left foot,
6 right foot, 7 and 9 right thigh back and front, 8 and 10 left thigh, 11 and 13 right calf back and front, 12 and 14
left calf, 15 and 17 left upper arm inner and outer, 16 and 18 right upper arm, 19 and 21 left forearm inner and outer,
20 and 22 right forearm, 23 right and 24 left half of the head. As there, it is the body that is drawn, not its clothes
or hair. U and V are no texture coordinates of a body model: U runs along each part, away from the trunk (down the
torso and the head), V across it, from the person's right to the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tryon.images import resize
from tryon.sample import Joint, Label, Row
from tryon.stages._priors import hand_tip
from tryon.stages.base import RowStage
from tryon.stages.parse import enlarge
from tryon.stages.skeleton import SIDES, Body, Point, at_work_size, body_of, draw_capsule, fill_hull

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

WORK_PX = 384
# Radii and lengths in shoulder widths, read off DensePose results of photos.
UPPER_ARM, FOREARM, HAND = (0.15, 0.1), (0.13, 0.085), (0.1, 0.15)
THIGH, CALF, FOOT = (0.36, 0.23), (0.18, 0.1), (0.1, 0.09)
NECK_TOP, ARMPIT, WAIST_WIDTH, WAIST_UP, CROTCH = 0.2, 0.05, 0.2, 0.02, 0.29
SHOULDER_OUT = 0.05  # arms start this much beyond the joint
HEAD_WIDTH, HEAD_TOP, HEAD_BOTTOM = (
    0.9,
    1.45,
    1.05,
)  # in half face heights: half width, above and below the face's centre
OUTER_SHARE = {"upper": 0.3, "fore": 0.6}  # of an arm's width, when it hangs and the palm faces the thigh
SURE_WRIST = 0.3  # confidence from which on a forearm over the trunk is taken to be in front of it


class Part(IntEnum):
    """DensePose's parts; those with two sides start at the back or the inner one."""

    TORSO = 1
    RIGHT_HAND = 3
    LEFT_HAND = 4
    LEFT_FOOT = 5
    RIGHT_FOOT = 6
    RIGHT_THIGH = 7
    LEFT_THIGH = 8
    RIGHT_CALF = 11
    LEFT_CALF = 12
    LEFT_UPPER_ARM = 15
    RIGHT_UPPER_ARM = 16
    LEFT_FOREARM = 19
    RIGHT_FOREARM = 20
    RIGHT_HEAD = 23
    LEFT_HEAD = 24


@dataclass(frozen=True)
class _Axis:
    """A part's own coordinates: U from `start` to `stop`, V across a width, from the person's right to the left."""

    start: Point
    stop: Point
    width: float
    turned: bool  # the person's left lies to the left when looking from start to stop


class Dense(RowStage):
    """Draws the IUV map of the body.

    Reads ``pose``, ``parse`` and ``person_mask``; adds ``dense``, uint8 (H, W, 3): part, U, V.
    """

    name: ClassVar[str] = "dense"
    reads = ("pose", "parse", "person_mask")
    adds = ("dense",)

    def process(self, row: Row) -> Row:
        """Adds the map; all three are 0 off the body.

        Raises:
            SampleError: the pose is empty.
        """
        return {"dense": draw_dense(row["pose"], row["parse"], row["person_mask"])}


def draw_dense(pose: npt.NDArray[np.float32], parse: UInt8, person_mask: UInt8) -> UInt8:
    """Draws an IUV map.

    Args:
        pose: float32 (25, 3), px.
        parse: uint8 (H, W), values of `Label`: tells which limbs lie in front.
        person_mask: uint8 (H, W), {0, 1}.

    Returns:
        uint8 (H, W, 3): part 0..24, U 0..255, V 0..255.

    Raises:
        SampleError: the pose is empty.
    """
    height, width = parse.shape
    shape, small_pose = at_work_size(pose, height, width, WORK_PX)
    body = body_of(small_pose)
    parts, axes = _draw(body, resize(parse, *shape, nearest=True))
    full = enlarge(parts, height, width)
    full[person_mask == 0] = 0
    dense = np.zeros((height, width, 3), dtype=np.uint8)
    dense[..., 0] = full
    across, down = width / shape[1], height / shape[0]
    for number, axis in axes.items():
        rows = np.nonzero((parts == number).any(axis=1))[0]
        if len(rows) == 0:
            continue
        top, bottom = max(0, int((rows[0] - 3) * down)), int((rows[-1] + 4) * down)
        ys, xs = np.nonzero(full[top:bottom] == number)
        dense[ys + top, xs, 1:] = _coordinates(xs / across, (ys + top) / down, axis)
    return dense


def _coordinates(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], axis: _Axis) -> UInt8:
    along = axis.stop - axis.start
    length = max(float(np.linalg.norm(along)), 1e-6)
    unit = along / length
    dx, dy = x - axis.start[0], y - axis.start[1]
    u = (dx * unit[0] + dy * unit[1]) / length
    v = (dx * -unit[1] + dy * unit[0]) / max(axis.width, 1e-6)
    v = 0.5 + (v if axis.turned else -v)
    return np.asarray(np.rint(np.clip(np.stack([u, v], axis=1), 0, 1) * 255), dtype=np.uint8)


def _draw(body: Body, parse: UInt8) -> tuple[UInt8, dict[int, _Axis]]:
    """Parts (H, W), farther ones first, and the coordinates of each."""
    parts = np.zeros(parse.shape, dtype=np.uint8)
    axes: dict[int, _Axis] = {}
    front = _faces_viewer(body)
    for side in SIDES:
        _draw_leg(parts, axes, body, side, front=front)
    _draw_torso(parts, axes, body, front=front)
    _draw_head(parts, axes, body, front=front)
    for side in SIDES:
        _draw_arm(parts, axes, body, side, parse, front=front)
    return parts, axes


def _faces_viewer(body: Body) -> bool:
    """Seen from behind, the left shoulder is on the left and no face is seen."""
    face_seen = body.known[[Joint.NOSE, Joint.LEFT_EYE, Joint.RIGHT_EYE]].any()
    right = np.array([-body.up[1], body.up[0]])
    return bool(face_seen or (body.at(Joint.LEFT_SHOULDER) - body.at(Joint.RIGHT_SHOULDER)) @ right > 0)


def _limb(
    parts: UInt8, a: Point, b: Point, radii: tuple[float, float], unit: float, *, where: Bool | None = None
) -> UInt8:
    mask = np.zeros(parts.shape, dtype=np.uint8)
    draw_capsule(mask, a, b, radii[0] * unit, radii[1] * unit)
    if where is not None:
        mask &= where.view(np.uint8)
    return mask


def _draw_leg(parts: UInt8, axes: dict[int, _Axis], body: Body, side: str, *, front: bool) -> None:
    hip, knee, ankle = body.leg(side)
    unit, left = body.unit, side == "left"
    first = Joint.LEFT_BIG_TOE if left else Joint.RIGHT_BIG_TOE
    toe = body.at(first) if body.known[first] else ankle - 0.3 * unit * body.up
    foot = int(Part.LEFT_FOOT if left else Part.RIGHT_FOOT)
    calf = int(Part.LEFT_CALF if left else Part.RIGHT_CALF) + 2 * front
    thigh = int(Part.LEFT_THIGH if left else Part.RIGHT_THIGH) + 2 * front
    for number, a, b, radii in ((foot, ankle, toe, FOOT), (calf, knee, ankle, CALF), (thigh, hip, knee, THIGH)):
        parts[_limb(parts, a, b, radii, unit) > 0] = number
        axes[number] = _Axis(a, b, sum(radii) * unit, turned=not front)


def _draw_torso(parts: UInt8, axes: dict[int, _Axis], body: Body, *, front: bool) -> None:
    mask = np.zeros(parts.shape, dtype=np.uint8)
    unit, up = body.unit, body.up
    neck, hip = body.at(Joint.NECK), body.at(Joint.MID_HIP)
    top = neck + NECK_TOP * unit * up
    tips, waist, flanks = [], [], []
    for shoulder, joint in ((Joint.LEFT_SHOULDER, Joint.LEFT_HIP), (Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP)):
        outward = body.at(joint) - hip
        outward = outward / max(float(np.linalg.norm(outward)), 1e-6) * unit
        tips.append(body.at(shoulder) + 0.08 * unit * up)
        flanks.append(body.at(shoulder) - 0.35 * unit * up - ARMPIT * outward)
        waist.append(body.at(joint) + WAIST_WIDTH * outward + WAIST_UP * unit * up)
    crotch = hip - CROTCH * unit * up
    fill_hull(mask, np.stack([top, *tips, *flanks]))
    fill_hull(mask, np.stack([*flanks, *waist]))
    fill_hull(mask, np.stack([*waist, crotch]))
    number = int(Part.TORSO) + front
    parts[mask > 0] = number
    axes[number] = _Axis(neck, crotch, 1.1 * unit, turned=not front)


def _draw_head(parts: UInt8, axes: dict[int, _Axis], body: Body, *, front: bool) -> None:
    neck = body.at(Joint.NECK)
    up = body.face - neck
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    radius = body.face_radius
    top, bottom = body.face + HEAD_TOP * radius * up, body.face - HEAD_BOTTOM * radius * up
    mask = np.zeros(parts.shape, dtype=np.uint8)
    skull = body.face + (HEAD_TOP - HEAD_WIDTH) * radius * up
    draw_capsule(mask, skull, body.face - 0.2 * radius * up, HEAD_WIDTH * radius, 0.8 * HEAD_WIDTH * radius)
    draw_capsule(mask, body.face, bottom, 0.8 * HEAD_WIDTH * radius, 0.5 * HEAD_WIDTH * radius)
    axis = _Axis(top, bottom, 2 * HEAD_WIDTH * radius, turned=not front)
    ys, xs = np.nonzero(mask)
    nose = body.at(Joint.NOSE) if body.known[Joint.NOSE] else body.face
    middle = float((nose - body.face) @ np.array([-up[1], up[0]]))
    across = (xs - body.face[0]) * -up[1] + (ys - body.face[1]) * up[0] - middle
    on_left = across > 0 if front else across < 0
    parts[ys, xs] = np.where(on_left, int(Part.LEFT_HEAD), int(Part.RIGHT_HEAD)).astype(np.uint8)
    axes[int(Part.LEFT_HEAD)] = axes[int(Part.RIGHT_HEAD)] = axis


def _draw_arm(parts: UInt8, axes: dict[int, _Axis], body: Body, side: str, parse: UInt8, *, front: bool) -> None:
    shoulder, elbow, wrist = body.arm(side)
    unit, left = body.unit, side == "left"
    outward = shoulder - body.at(Joint.NECK)
    shoulder = shoulder + SHOULDER_OUT * unit * outward / max(float(np.linalg.norm(outward)), 1e-6)
    label = Label.LEFT_ARM if left else Label.RIGHT_ARM
    last = Joint.LEFT_WRIST if left else Joint.RIGHT_WRIST
    # A wrist that is not seen is behind the back, unless the parse shows the arm.
    free = None if body.confidence[last] >= SURE_WRIST else (parse == label) | (parts == 0)
    tip = wrist + 0.75 * (hand_tip(body, side) - wrist)
    hand = int(Part.LEFT_HAND if left else Part.RIGHT_HAND)
    parts[_limb(parts, wrist, tip, HAND, unit, where=free) > 0] = hand
    axes[hand] = _Axis(wrist, tip, sum(HAND) * unit, turned=not front)
    fore = int(Part.LEFT_FOREARM if left else Part.RIGHT_FOREARM)
    upper = int(Part.LEFT_UPPER_ARM if left else Part.RIGHT_UPPER_ARM)
    for number, a, b, radii, share, where in (
        (fore, elbow, wrist, FOREARM, OUTER_SHARE["fore"], free),
        (upper, shoulder, elbow, UPPER_ARM, OUTER_SHARE["upper"], None),
    ):
        ys, xs = np.nonzero(_limb(parts, a, b, radii, unit, where=where))
        axis = _Axis(a, b, sum(radii) * unit, turned=not front)
        across = _coordinates(xs.astype(np.float64), ys.astype(np.float64), axis)[:, 1] / 255
        outer = across > 1 - share if left else across < share
        parts[ys, xs] = np.where(outer, number + 2, number).astype(np.uint8)
        axes[number] = axes[number + 2] = axis
