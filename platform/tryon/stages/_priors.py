"""Where on a body each material may lie: log-priors from keypoints for human parsing without weights.

Distances are in shoulder widths (the body's `unit`) unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tryon.sample import Joint
from tryon.stages.skeleton import SIDES, Body, Point, along, draw_capsule, fill_hull

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

ARM_RADII = (0.17, 0.13, 0.10)  # at shoulder, elbow, wrist
LEG_RADII = (0.26, 0.17, 0.12)  # at hip, knee, ankle
HAND_LENGTH, HAND_RADIUS = 0.36, 0.15
NEVER = -9.0


@dataclass(frozen=True)
class BodyMaps:
    """Coordinates and distances of every pixel relative to the body; all float32 (H, W).

    Attributes:
        trunk: 0 at the neck, 1 at the mid-hip, along the trunk's axis.
        lateral: distance from the trunk's axis, signed, towards the viewer's right.
        face_x: from the face's centre across, in half face heights.
        face_y: likewise downwards: -1 about the hairline, 1 the chin.
        head: distance from the face ellipse, 1 on its outline.
        neck: distance from the neck and the open chest.
        torso: distance from the torso.
        arms: by side, position along the arm: 0 shoulder, 1 elbow, 2 wrist, then the hand.
        arm_distance: by side, distance from the arm's outline, hand included.
        arm_trust: by side, confidence in the arm's place: the elbow's up to it, then falling to the wrist's, 0..1.
        legs: by side, distance from the leg's outline.
        skirt: distance from the region between and around the legs, waist to ankles.
    """

    trunk: Float32
    lateral: Float32
    face_x: Float32
    face_y: Float32
    head: Float32
    neck: Float32
    torso: Float32
    arms: dict[str, Float32]
    arm_distance: dict[str, Float32]
    arm_trust: dict[str, Float32]
    legs: dict[str, Float32]
    skirt: Float32

    @property
    def off_arms(self) -> Float32:
        """Distance from the nearer arm's outline."""
        return np.minimum(self.arm_distance["left"], self.arm_distance["right"])

    def halved(self) -> BodyMaps:
        """Every second pixel of every second row; the values, being relative to the body, stay."""
        halves: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            is_dict = isinstance(value, dict)
            halves[field.name] = {k: v[::2, ::2] for k, v in value.items()} if is_dict else value[::2, ::2]
        return BodyMaps(**halves)


def body_maps(body: Body, shape: tuple[int, int]) -> BodyMaps:
    """Computes the maps of a body in a frame of (height, width) px."""
    neck, hip, unit = body.joints[1], body.joints[8], body.unit
    trunk, _ = along(shape, neck, hip)
    right = np.array([-body.up[1], body.up[0]])
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    lateral = ((xs - neck[0]) * right[0] + (ys - neck[1]) * right[1]) / unit
    face_x, face_y = _face_coordinates(body, xs, ys)
    arms, arm_distance = {}, {}
    for side in SIDES:
        arms[side], arm_distance[side] = _arm(body, side, shape)
    return BodyMaps(
        trunk=trunk,
        lateral=lateral.astype(np.float32),
        face_x=face_x,
        face_y=face_y,
        head=np.hypot(face_x / _face_span(body, right)[1], face_y / 1.05).astype(np.float32),
        neck=_neck(body, shape),
        torso=_torso(body, shape),
        arms=arms,
        arm_distance=arm_distance,
        arm_trust={side: _trust(body, side, arms[side]) for side in SIDES},
        legs={side: _leg(body, side, shape) for side in SIDES},
        skirt=_skirt(body, shape),
    )


def hand_tip(body: Body, side: str) -> Point:
    """Where the fingers end if the hand continues the forearm."""
    _, elbow, wrist = body.arm(side)
    fore = wrist - elbow
    return np.asarray(wrist + fore / max(float(np.linalg.norm(fore)), 1e-6) * HAND_LENGTH * body.unit)


def outside_distance(mask: UInt8, unit: float) -> Float32:
    """Distance to the mask, 0 inside; 9 everywhere when the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, 9.0, dtype=np.float32)
    return np.asarray(cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3) / unit, dtype=np.float32)


def _face_coordinates(body: Body, xs: Float32, ys: Float32) -> tuple[Float32, Float32]:
    """Face-centred coordinates in half face heights; x is centred between the ears, which follow a turned head."""
    up = body.face - body.joints[1]
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    eye_right, eye_left = body.joints[15], body.joints[16]
    if body.known[15] and body.known[16] and np.linalg.norm(eye_left - eye_right) > 0.5 * body.face_radius:
        across = (eye_left - eye_right) / np.linalg.norm(eye_left - eye_right)
        across = across if across[0] >= 0 else -across
        up = np.array([across[1], -across[0]])
    right = np.array([-up[1], up[0]])
    scale = 1 / body.face_radius
    dx, dy = (xs - body.face[0]) * scale, (ys - body.face[1]) * scale
    middle, _ = _face_span(body, right)
    across_map = dx * right[0] + dy * right[1] - middle
    return across_map.astype(np.float32), (-(dx * up[0] + dy * up[1])).astype(np.float32)


def _face_span(body: Body, right: Point) -> tuple[float, float]:
    """Middle and half width of the visible face along `right`, from its centre, in half face heights.

    Ears bound it; on the side that a turned head hides, the face goes on a little beyond the eye.
    """
    if not (body.known[17] and body.known[18]):
        return 0.0, 0.75
    offsets = (body.joints[15:19] - body.face) @ right / body.face_radius
    low = min(offsets.min(), offsets[:2].min() - 0.3)
    high = max(offsets.max(), offsets[:2].max() + 0.3)
    return float(np.clip((low + high) / 2, -0.5, 0.5)), float(np.clip((high - low) / 2 * 1.04, 0.6, 0.88))


def _arm(body: Body, side: str, shape: tuple[int, int]) -> tuple[Float32, Float32]:
    shoulder, elbow, wrist = body.arm(side)
    unit = body.unit
    upper_t, upper_d = along(shape, shoulder, elbow)
    fore_t, fore_d = along(shape, elbow, wrist)
    on_fore = fore_d < upper_d
    position = np.where(on_fore, 1 + np.maximum(fore_t, 0), np.minimum(upper_t, 1))
    mask = np.zeros(shape, dtype=np.uint8)
    radii = [r * unit for r in ARM_RADII]
    draw_capsule(mask, shoulder, elbow, radii[0], radii[1])
    draw_capsule(mask, elbow, wrist, radii[1], radii[2])
    draw_capsule(mask, wrist, hand_tip(body, side), radii[2], HAND_RADIUS * unit)
    return position.astype(np.float32), outside_distance(mask, unit)


def _trust(body: Body, side: str, position: Float32) -> Float32:
    elbow = Joint.LEFT_ELBOW if side == "left" else Joint.RIGHT_ELBOW
    near, far = body.confidence[elbow], body.confidence[elbow + 1]
    return np.asarray(near + (min(near, far) - near) * np.clip(position - 1, 0, 1), dtype=np.float32)


def _leg(body: Body, side: str, shape: tuple[int, int]) -> Float32:
    hip, knee, ankle = body.leg(side)
    mask = np.zeros(shape, dtype=np.uint8)
    radii = [r * body.unit for r in LEG_RADII]
    draw_capsule(mask, hip, knee, radii[0], radii[1])
    draw_capsule(mask, knee, ankle, radii[1], radii[2])
    return outside_distance(mask, body.unit)


def _skirt(body: Body, shape: tuple[int, int]) -> Float32:
    mask = np.zeros(shape, dtype=np.uint8)
    unit = body.unit
    waist = body.joints[8] + body.up * 0.35 * unit
    for side in SIDES:
        hip, knee, ankle = body.leg(side)
        draw_capsule(mask, waist, hip, 0.35 * unit, 0.28 * unit)
        draw_capsule(mask, hip, knee, 0.28 * unit, 0.2 * unit)
        draw_capsule(mask, knee, ankle, 0.2 * unit, 0.14 * unit)
    hips = [body.leg(side)[0] for side in SIDES]
    knees = [body.leg(side)[1] for side in SIDES]
    fill_hull(mask, np.stack([*hips, *knees]))
    return outside_distance(mask, unit)


def _neck(body: Body, shape: tuple[int, int]) -> Float32:
    """The neck, and below it the wedge that a wide or deep neckline opens."""
    mask = np.zeros(shape, dtype=np.uint8)
    neck, unit = body.joints[1], body.unit
    chin = body.face + (neck - body.face) * 0.45
    draw_capsule(mask, chin, neck, 0.6 * body.face_radius, 0.2 * unit)
    draw_capsule(mask, neck, neck - body.up * 0.12 * unit, 0.22 * unit, 0.1 * unit)
    return outside_distance(mask, unit)


def _torso(body: Body, shape: tuple[int, int]) -> Float32:
    mask = np.zeros(shape, dtype=np.uint8)
    unit, up = body.unit, body.up
    left, right = body.joints[5], body.joints[2]
    hip_left, hip_right = body.joints[12], body.joints[9]
    neck = body.joints[1] + up * 0.1 * unit
    points = [neck, left, right, hip_left - up * 0.1 * unit, hip_right - up * 0.1 * unit]
    outward = np.sign((left - right) @ np.array([-up[1], up[0]]) or 1.0) * np.array([-up[1], up[0]]) * 0.1 * unit
    points += [hip_left + outward, hip_right - outward, left + outward * 0.3, right - outward * 0.3]
    fill_hull(mask, np.stack(points))
    return outside_distance(mask, unit)
