"""Body geometry from BODY_25 keypoints: every joint with a sensible default, limbs and capsules as masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.sample import Joint

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Point = npt.NDArray[np.float64]  # (2,): x px, y px

SIDES = ("left", "right")
_SUBPIXEL_BITS = 4  # OpenCV's fixed-point drawing, so that small images do not get stair-stepped limbs
_FAR_PX = 16_000.0  # fixed-point coordinates beyond this overflow OpenCV's 16-bit-safe clipping


def at_work_size(pose: Float32, height: int, width: int, work_px: int) -> tuple[tuple[int, int], Float32]:
    """The size at which geometry is worked out, and the keypoints there.

    Args:
        pose: float32 (25, 3), px of the photo; left as it is.
        height: of the photo, px.
        width: of the photo, px.
        work_px: the longest side to work at.

    Returns:
        (height, width) px, each at least 2, and float32 (25, 3) in these px.
    """
    scale = work_px / max(height, width)
    shape = max(2, round(height * scale)), max(2, round(width * scale))
    scaled = pose.copy()
    scaled[:, 0] *= shape[1] / width
    scaled[:, 1] *= shape[0] / height
    return shape, scaled


@dataclass(frozen=True)
class Body:
    """A body whose joints are all defined, px.

    Attributes:
        joints: (25, 2) x, y; measured where known, else placed by proportion.
        known: (25,) bool, True where the keypoint was seen in the frame.
        confidence: (25,) float, 0..1.
        unit: shoulder width that the figure would have seen from the front, px; the scale of all radii.
        face: centre of the face (between eyes and mouth).
        face_radius: half the face's height, px.
        up: unit vector from the mid-hip to the neck.
    """

    joints: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float64]
    unit: float
    face: Point
    face_radius: float
    up: Point

    def at(self, joint: Joint) -> Point:
        """Place of a joint, (2,) px."""
        return np.asarray(self.joints[joint], dtype=np.float64)

    def arm(self, side: str) -> tuple[Point, Point, Point]:
        """Shoulder, elbow and wrist of the person's own ``"left"`` or ``"right"`` arm."""
        first = Joint.LEFT_SHOULDER if side == "left" else Joint.RIGHT_SHOULDER
        return self.at(first), self.at(Joint(first + 1)), self.at(Joint(first + 2))

    def leg(self, side: str) -> tuple[Point, Point, Point]:
        """Hip, knee and ankle of the person's own ``"left"`` or ``"right"`` leg."""
        first = Joint.LEFT_HIP if side == "left" else Joint.RIGHT_HIP
        return self.at(first), self.at(Joint(first + 1)), self.at(Joint(first + 2))


def body_of(pose: npt.NDArray[np.float32], min_confidence: float = 0.05) -> Body:
    """Completes a pose.

    A joint counts as placed when its confidence reaches `min_confidence`, or when it lies outside the frame
    with an extrapolated place (not exactly 0, 0). Others are put by proportion from what is there.

    Args:
        pose: float32 (25, 3): x px, y px, confidence.
        min_confidence: below it a joint at the origin is missing.

    Raises:
        SampleError: neither shoulders nor hips nor face are known (code ``"pose-empty"``).
    """
    known = pose[:, 2] >= min_confidence
    placed = known | (np.abs(pose[:, :2]).sum(axis=1) > 0)
    points: dict[Joint, Point] = {j: pose[j, :2].astype(np.float64) for j in Joint if placed[j]}
    unit, up = _frame(points)
    _complete_trunk(points, unit, up)
    _complete_limbs(points, unit, up)
    face, radius = _face(points, unit, up)
    joints = np.stack([points.get(j, points[Joint.NECK]) for j in Joint])
    return Body(joints, known, pose[:, 2].astype(np.float64), unit, face, radius, up)


def _mean(points: dict[Joint, Point], *names: Joint) -> Point | None:
    found = [points[n] for n in names if n in points]
    return np.mean(found, axis=0) if found else None


def _distance(points: dict[Joint, Point], a: Joint, b: Joint) -> float:
    return float(np.linalg.norm(points[a] - points[b])) if a in points and b in points else 0.0


def _frame(points: dict[Joint, Point]) -> tuple[float, Point]:
    """Scale (px) and upward direction. A side view shortens shoulders and ears, never the trunk: take the largest."""
    neck = _mean(points, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.NECK)
    hip = _mean(points, Joint.LEFT_HIP, Joint.RIGHT_HIP, Joint.MID_HIP)
    trunk = float(np.linalg.norm(neck - hip)) if neck is not None and hip is not None else 0.0
    eyes = _distance(points, Joint.LEFT_EYE, Joint.RIGHT_EYE)
    shoulders = _distance(points, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER)
    unit = max(shoulders, 0.55 * trunk, 0.0 if trunk else 4.5 * eyes)
    if unit < 1.0:
        raise SampleError("the pose holds no shoulders, hips or eyes to measure the body by", code="pose-empty")
    vertical = np.array([0.0, -1.0])
    if neck is None or hip is None or trunk < 0.3 * unit:
        return unit, vertical
    return unit, (neck - hip) / trunk


def _complete_trunk(points: dict[Joint, Point], unit: float, up: Point) -> None:
    right = np.array([-up[1], up[0]])  # towards the viewer's right: the person's left when seen from the front
    neck = _mean(points, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER) if _both(points, Joint.LEFT_SHOULDER) else None
    hip = _mean(points, Joint.LEFT_HIP, Joint.RIGHT_HIP) if _both(points, Joint.LEFT_HIP) else None
    hip = hip if hip is not None else _mean(points, Joint.MID_HIP)
    eyes = _mean(points, Joint.LEFT_EYE, Joint.RIGHT_EYE, Joint.NOSE)
    if neck is None:
        neck = _mean(points, Joint.NECK)
    if neck is None and hip is not None:
        neck = hip + up * 1.45 * unit
    if neck is None:
        assert eyes is not None, "the scale came from shoulders, trunk or eyes"
        neck = eyes - up * 0.75 * unit
    points.setdefault(Joint.NECK, neck)
    hip = hip if hip is not None else neck - up * 1.45 * unit
    points.setdefault(Joint.MID_HIP, hip)
    points.setdefault(Joint.LEFT_SHOULDER, neck + right * 0.5 * unit)
    points.setdefault(Joint.RIGHT_SHOULDER, neck - right * 0.5 * unit)
    points.setdefault(Joint.LEFT_HIP, hip + right * 0.3 * unit)
    points.setdefault(Joint.RIGHT_HIP, hip - right * 0.3 * unit)


def _both(points: dict[Joint, Point], left: Joint) -> bool:
    other = {Joint.LEFT_SHOULDER: Joint.RIGHT_SHOULDER, Joint.LEFT_HIP: Joint.RIGHT_HIP}[left]
    return left in points and other in points


def _complete_limbs(points: dict[Joint, Point], unit: float, up: Point) -> None:
    right = np.array([-up[1], up[0]])
    for first, sign in ((Joint.LEFT_SHOULDER, 1.0), (Joint.RIGHT_SHOULDER, -1.0)):
        elbow, wrist = Joint(first + 1), Joint(first + 2)
        points.setdefault(elbow, points[first] - up * 0.78 * unit + right * sign * 0.12 * unit)
        direction = points[elbow] - points[first]
        points.setdefault(wrist, points[elbow] + 0.9 * direction)
    for first in (Joint.LEFT_HIP, Joint.RIGHT_HIP):
        knee, ankle = Joint(first + 1), Joint(first + 2)
        points.setdefault(knee, points[first] - up * 1.15 * unit)
        points.setdefault(ankle, points[knee] - up * 1.1 * unit)


def _face(points: dict[Joint, Point], unit: float, up: Point) -> tuple[Point, float]:
    """Centre of the face between nose and eyes, half its height from eyes, ears and nose."""
    eyes = _mean(points, Joint.LEFT_EYE, Joint.RIGHT_EYE)
    nose = points.get(Joint.NOSE)
    neck = points[Joint.NECK]
    radius = max(
        1.55 * _distance(points, Joint.LEFT_EYE, Joint.RIGHT_EYE),
        0.82 * _distance(points, Joint.LEFT_EAR, Joint.RIGHT_EAR),
        0.2 * unit,
    )
    radius = min(radius, 0.42 * unit)
    if nose is None and eyes is None:
        return neck + up * 0.62 * unit, radius
    if nose is None or eyes is None:
        return (nose if nose is not None else eyes - up * 0.4 * radius), radius  # type: ignore[operator]
    return 0.75 * nose + 0.25 * eyes, radius


def capsule(shape: tuple[int, int], a: Point, b: Point, radius_a: float, radius_b: float) -> UInt8:
    """Mask of a limb: the hull of two discs.

    Args:
        shape: (height, width) of the mask.
        a: centre of the first disc, px.
        b: centre of the second disc, px.
        radius_a: px.
        radius_b: px.

    Returns:
        uint8 (height, width), 1 inside.
    """
    mask = np.zeros(shape, dtype=np.uint8)
    draw_capsule(mask, a, b, radius_a, radius_b)
    return mask


def draw_capsule(mask: UInt8, a: Point, b: Point, radius_a: float, radius_b: float) -> None:
    """Draws a `capsule` into a mask in place."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    fill_hull(mask, np.concatenate([a + ring * radius_a, b + ring * radius_b]))


def fill_hull(mask: UInt8, points: npt.NDArray[np.float64]) -> None:
    """Fills the convex hull of points (N, 2) px into a mask in place."""
    hull = cv2.convexHull(np.clip(points, -_FAR_PX, _FAR_PX).astype(np.float32))
    fixed = np.rint(hull * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, (1,), cv2.LINE_8, _SUBPIXEL_BITS)


def along(shape: tuple[int, int], a: Point, b: Point) -> tuple[Float32, Float32]:
    """Coordinates of every pixel relative to the segment a-b.

    Returns:
        Position along it, float32 (height, width), 0 at a and 1 at b, not clipped; and the distance from the
        segment (its ends included), px.
    """
    ys = np.arange(shape[0], dtype=np.float32)[:, None]
    xs = np.arange(shape[1], dtype=np.float32)[None, :]
    d = (b - a).astype(np.float32)
    dx, dy = xs - np.float32(a[0]), ys - np.float32(a[1])
    t = (dx * d[0] + dy * d[1]) / np.float32(max(float(d @ d), 1e-6))
    near = np.clip(t, 0, 1)
    off_x, off_y = dx - near * d[0], dy - near * d[1]
    return t, np.sqrt(off_x * off_x + off_y * off_y)
