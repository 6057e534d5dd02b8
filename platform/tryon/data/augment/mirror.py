"""What changes name in a mirror: left and right classes, keypoints, landmarks and body parts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tryon.sample import Joint, Label

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

LABEL_PAIRS = (
    (Label.LEFT_SHOE, Label.RIGHT_SHOE),
    (Label.LEFT_LEG, Label.RIGHT_LEG),
    (Label.LEFT_ARM, Label.RIGHT_ARM),
)
LIP_PAIRS = ((14, 15), (16, 17), (18, 19))  # arms, legs, shoes
# MediaPipe's 33: the nose, then eyes from the inside out, ears, mouth, and from the shoulders on left, right, left ...
LANDMARK_PAIRS = ((1, 4), (2, 5), (3, 6), *((left, left + 1) for left in range(7, 33, 2)))
# DensePose: 1, 2 back and front of the trunk; from hands (3, 4) to the head's halves (23, 24) side by side.
DENSE_PAIRS = tuple((part, part + 1) for part in range(3, 25, 2))
CHART_MAX = 255  # of U and V


def _exchange(pairs: Sequence[tuple[int, int]], size: int) -> npt.NDArray[np.int64]:
    """Index of what takes each one's place."""
    table = np.arange(size)
    for a, b in pairs:
        table[a], table[b] = b, a
    return table


def _joint_pairs() -> list[tuple[int, int]]:
    return [
        (joint, Joint[joint.name.replace("LEFT_", "RIGHT_", 1)]) for joint in Joint if joint.name.startswith("LEFT_")
    ]


JOINTS = _exchange(_joint_pairs(), len(Joint))
LANDMARKS = _exchange(LANDMARK_PAIRS, 33)
_LABELS = _exchange(LABEL_PAIRS, 256).astype(np.uint8)
_LIP = _exchange(LIP_PAIRS, 256).astype(np.uint8)
_DENSE = _exchange(DENSE_PAIRS, 256).astype(np.uint8)


def swap_labels(name: str, labels: UInt8) -> UInt8:
    """Left classes for right ones in the field `name`: ``parse`` (ATR) or ``lip_parse`` (LIP)."""
    table = {"parse": _LABELS, "lip_parse": _LIP}[name]
    return np.asarray(cv2.LUT(labels, table), dtype=np.uint8)


def swap_joints(pose: Float32) -> Float32:
    """Left joints for right ones in BODY_25 keypoints (25, 3)."""
    return pose[JOINTS]


def swap_landmarks(world: Float32) -> Float32:
    """Left landmarks for right ones in MediaPipe's world landmarks (33, 4), x negated."""
    swapped: Float32 = world[LANDMARKS] * np.array([-1, 1, 1, 1], dtype=np.float32)
    return swapped


def swap_parts(iuv: UInt8) -> UInt8:
    """Left parts for right ones in an IUV map (H, W, 3).

    U runs along a part and stays; V runs across it from the person's right to the left, so V becomes 255 - V. That is
    how the `dense` stage draws. DensePose's own charts are not mirror images of each other, and the table that says
    how they correspond (UV_symmetry_transforms) is not ours to ship: of imported maps only the parts are exact.
    """
    parts = cv2.LUT(iuv[..., 0], _DENSE)
    across = np.where(parts > 0, CHART_MAX - iuv[..., 2], 0).astype(np.uint8)
    return np.dstack([parts, iuv[..., 1], across])
