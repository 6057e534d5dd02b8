"""Poses as OpenPose writes them: BODY_25 JSON, and the picture of the skeleton."""

from __future__ import annotations

import json

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

VERSION = 1.3
_OTHER_PARTS = (
    "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
    "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d",
)  # fmt: skip
# A limb has the colour of its second joint.
_LIMBS = (
    (1, 8), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14),
    (1, 0), (0, 15), (15, 17), (0, 16), (16, 18), (14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24),
)  # fmt: skip
_COLOURS = (
    (255, 0, 85), (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (255, 0, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (255, 0, 170),
    (170, 0, 255), (255, 0, 255), (85, 0, 255), (0, 0, 255), (0, 0, 255), (0, 0, 255), (0, 255, 255), (0, 255, 255),
    (0, 255, 255),
)  # fmt: skip
LIMB_SHARE, JOINT_SHARE = 0.6, 0.84  # brightness of limbs and joints in OpenPose's pictures
REFERENCE_HEIGHT, LIMB_RADIUS_PX, JOINT_RADIUS_PX = 1024, 7, 7
_SHIFT = 4  # fixed-point bits of OpenCV's drawing


def pose_json(pose: Float32 | None) -> bytes:
    """OpenPose's JSON for one person; for none, `people` is empty.

    Args:
        pose: float32 (25, 3): x px, y px, confidence. Numbers are written so that float32 reads them back to the digit.
    """
    people = []
    if pose is not None:
        flat = [_number(value) for value in pose.ravel()]
        people.append({"person_id": [-1], "pose_keypoints_2d": flat, **{part: [] for part in _OTHER_PARTS}})
    return json.dumps({"version": VERSION, "people": people}, separators=(",", ":")).encode()


def _number(value: np.float32) -> float | int:
    shortest = float(str(value))
    return int(shortest) if shortest.is_integer() else shortest


def draw_openpose(pose: Float32 | None, shape: tuple[int, int]) -> UInt8:
    """The skeleton on black, as OpenPose draws it with blending off.

    Args:
        pose: float32 (25, 3), px; joints with confidence 0 are not drawn. None draws nothing.
        shape: (height, width) px.

    Returns:
        RGB uint8 (height, width, 3).
    """
    canvas = np.zeros((*shape, 3), dtype=np.uint8)
    if pose is None:
        return canvas
    scale = shape[0] / REFERENCE_HEIGHT
    for a, b in _LIMBS:
        if pose[a, 2] > 0 and pose[b, 2] > 0:
            _draw_limb(canvas, pose[a, :2], pose[b, :2], max(1.0, LIMB_RADIUS_PX * scale), _shade(b, LIMB_SHARE))
    for joint, (x, y, confidence) in enumerate(pose):
        if confidence > 0:
            radius = round(max(1.0, JOINT_RADIUS_PX * scale) * 2**_SHIFT)
            cv2.circle(canvas, _fixed(x, y), radius, _shade(joint, JOINT_SHARE), -1, cv2.LINE_8, _SHIFT)
    return canvas


def _draw_limb(canvas: UInt8, a: Float32, b: Float32, radius: float, colour: tuple[int, int, int]) -> None:
    middle, half = (a + b) / 2, float(np.linalg.norm(b - a)) / 2
    angle = float(np.degrees(np.arctan2(b[1] - a[1], b[0] - a[0])))
    axes = (round(half), max(1, round(radius)))
    polygon = cv2.ellipse2Poly((round(float(middle[0])), round(float(middle[1]))), axes, round(angle), 0, 360, 5)
    cv2.fillConvexPoly(canvas, np.asarray(polygon), colour)


def _fixed(x: float, y: float) -> tuple[int, int]:
    return round(float(x) * 2**_SHIFT), round(float(y) * 2**_SHIFT)


def _shade(joint: int, share: float) -> tuple[int, int, int]:
    red, green, blue = (round(v * share) for v in _COLOURS[joint])
    return red, green, blue
