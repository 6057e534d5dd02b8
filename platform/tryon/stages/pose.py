"""Pose stage: MediaPipe landmarks as BODY_25 keypoints and in metres, and the person's mask."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.sample import NUM_JOINTS, Joint, Row
from tryon.stages._mediapipe import Solver
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

# MediaPipe's landmark for each BODY_25 joint that it has; neck and mid-hip are means, small toes do not exist.
LANDMARK_OF: dict[Joint, int] = {
    Joint.NOSE: 0, Joint.LEFT_EYE: 2, Joint.RIGHT_EYE: 5, Joint.LEFT_EAR: 7, Joint.RIGHT_EAR: 8,
    Joint.LEFT_SHOULDER: 11, Joint.RIGHT_SHOULDER: 12, Joint.LEFT_ELBOW: 13, Joint.RIGHT_ELBOW: 14,
    Joint.LEFT_WRIST: 15, Joint.RIGHT_WRIST: 16, Joint.LEFT_HIP: 23, Joint.RIGHT_HIP: 24,
    Joint.LEFT_KNEE: 25, Joint.RIGHT_KNEE: 26, Joint.LEFT_ANKLE: 27, Joint.RIGHT_ANKLE: 28,
    Joint.LEFT_HEEL: 29, Joint.RIGHT_HEEL: 30, Joint.LEFT_BIG_TOE: 31, Joint.RIGHT_BIG_TOE: 32,
}  # fmt: skip

WORK_PX = 512  # longest side; 256 to 1024 find the same people, masks differ by 0.002 IoU
MIN_WORK_PX = 256
FLAT_RANGE = 12.0  # grey levels between the 1st and 99th percentile below which a photo shows nothing
MIN_PERSON_SHARE = 0.004  # of the frame: smaller masks are false detections
# MediaPipe's crop around a person reaches beyond a frame that cuts the legs off, and is black there. With a border that
# goes on as the photo does, joints lie 0.050 of the torso from OpenPose's on average, without it 0.057.
PAD_SHARE = 0.1
WIDE_PAD_SHARE = 0.25
# Of the trunk: OpenPose's hips lie higher than MediaPipe's hip joints, its shoulders and neck a little lower.
HIP_RAISE, SHOULDER_DROP = 0.06, 0.02


class Pose(RowStage):
    """Finds the person's joints, in the photo and in space, and mask.

    Args:
        min_confidence: MediaPipe's detection threshold, 0..1.

    Reads ``person``; adds ``pose`` (a joint outside the frame keeps its extrapolated place with confidence 0),
    ``pose_world`` and ``person_mask``. Rows in which nobody is found end with the code ``"no-person"``, unless they
    bring both ``pose`` and ``person_mask``: a drawn figure need not look real, and has no ``pose_world`` then.
    """

    name: ClassVar[str] = "pose"
    version: ClassVar[int] = 2
    reads = ("person",)
    optional = ("pose", "person_mask")
    adds = ("pose", "pose_world", "person_mask")

    def __init__(self, min_confidence: float = 0.5) -> None:
        self._solver = Solver(functools.partial(_make, min_confidence), _found)

    def process(self, row: Row) -> Row:
        """Adds the keypoints, landmarks and mask of the most prominent person.

        Raises:
            SampleError: no person was found.
        """
        brought = row.get("pose") is not None and row.get("person_mask") is not None
        found = self._find(row["person"], patient=not brought)
        if found is not None:
            return found
        if brought:
            return {"pose": row["pose"], "pose_world": None, "person_mask": row["person_mask"]}
        raise SampleError("no person was found in the person photo", code="no-person", field="person")

    def _find(self, person: UInt8, *, patient: bool) -> Row | None:
        """What the stage adds, or None; patience also tries the photo padded and brightened."""
        if is_flat(person):
            return None
        work = fit(person, WORK_PX)
        for image, pad_x, pad_y in _attempts(work):
            result = self._solver(image)
            if _found(result) and result.segmentation_mask is not None:
                soft = np.asarray(result.segmentation_mask, dtype=np.float32)
                mask = soft[pad_y : pad_y + work.shape[0], pad_x : pad_x + work.shape[1]]
                if (mask > 0.5).mean() >= MIN_PERSON_SHARE:
                    landmarks = _landmarks(result, image, pad_x, pad_y)
                    landmarks[:, :2] *= person.shape[1] / work.shape[1], person.shape[0] / work.shape[0]
                    return {
                        "pose": body_25(landmarks, person.shape[0], person.shape[1]),
                        "pose_world": _world(result),
                        "person_mask": _refine(mask, work, person.shape[0], person.shape[1]),
                    }
            if not patient:
                break
        return None


def is_flat(image: UInt8) -> bool:
    """Whether an RGB uint8 (H, W, 3) image shows nothing at all."""
    grey = cv2.cvtColor(fit(image, MIN_WORK_PX // 2), cv2.COLOR_RGB2GRAY)
    low, high = np.percentile(grey, (1, 99))
    return bool(high - low < FLAT_RANGE)


def _landmarks(result: Any, image: UInt8, pad_x: int, pad_y: int) -> Float32:
    """Float32 (33, 3): x px, y px in the image without its padding, visibility."""
    marks = np.array([(p.x, p.y, p.visibility) for p in result.pose_landmarks.landmark], dtype=np.float32)
    marks[:, 0] = marks[:, 0] * image.shape[1] - pad_x
    marks[:, 1] = marks[:, 1] * image.shape[0] - pad_y
    return marks


def _world(result: Any) -> Float32:
    """Float32 (33, 4): x, y, z metres from the middle of the hips (x to the viewer's right, y down), visibility."""
    return np.array([(p.x, p.y, p.z, p.visibility) for p in result.pose_world_landmarks.landmark], dtype=np.float32)


def body_25(landmarks: Float32, height: int, width: int) -> Float32:
    """BODY_25 keypoints from MediaPipe's landmarks.

    Args:
        landmarks: float32 (33, 3): x px, y px, visibility 0..1.
        height: of the frame, px.
        width: of the frame, px.

    Returns:
        float32 (25, 3): x px, y px, confidence 0..1; 0 outside the frame and for the small toes. Shoulders and hips
        are moved to where OpenPose has them.
    """
    pose = np.zeros((NUM_JOINTS, 3), dtype=np.float32)
    for joint, index in LANDMARK_OF.items():
        pose[joint] = landmarks[index]
    shoulders, hips = [Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER], [Joint.LEFT_HIP, Joint.RIGHT_HIP]
    trunk = pose[shoulders, :2].mean(axis=0) - pose[hips, :2].mean(axis=0)
    pose[hips, :2] += HIP_RAISE * trunk
    pose[shoulders, :2] -= SHOULDER_DROP * trunk
    for middle, left, right in (
        (Joint.NECK, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER),
        (Joint.MID_HIP, Joint.LEFT_HIP, Joint.RIGHT_HIP),
    ):
        pose[middle, :2] = (pose[left, :2] + pose[right, :2]) / 2
        pose[middle, 2] = min(pose[left, 2], pose[right, 2])
    x, y = pose[:, 0], pose[:, 1]
    pose[(x < 0) | (y < 0) | (x > width - 1) | (y > height - 1), 2] = 0.0
    return pose


def fit(image: UInt8, longest_px: int) -> UInt8:
    """Scales the longest side to at most `longest_px`, and up to `MIN_WORK_PX` when smaller than that."""
    side = max(image.shape[:2])
    target = min(longest_px, max(side, MIN_WORK_PX))
    if target == side:
        return image
    size = (max(1, round(image.shape[1] * target / side)), max(1, round(image.shape[0] * target / side)))
    mode = cv2.INTER_AREA if target < side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=mode), dtype=np.uint8)


def _attempts(work: UInt8) -> Iterator[tuple[UInt8, int, int]]:
    """Images to try in turn, each with the padding (x, y px) to take off again."""
    narrow, wide = (max(8, round(share * max(work.shape[:2]))) for share in (PAD_SHARE, WIDE_PAD_SHARE))
    yield _padded(work, narrow), narrow, narrow
    yield work, 0, 0
    yield _padded(work, wide), wide, wide
    lab = cv2.cvtColor(work, cv2.COLOR_RGB2LAB)
    light = lab[..., 0].astype(np.float32)
    stretched = (light - light.min()) * (255 / max(float(np.ptp(light)), 1.0))
    lab[..., 0] = cv2.createCLAHE(4.0, (8, 8)).apply(stretched.astype(np.uint8))
    bright = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)
    yield bright, 0, 0
    yield _padded(bright, wide), wide, wide


def _padded(image: UInt8, pad: int) -> UInt8:
    return np.asarray(cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _refine(mask: Float32, image: UInt8, height: int, width: int) -> UInt8:
    """Pulls a soft mask to the image's edges, drops specks and brings it to (height, width) as uint8 {0, 1}."""
    guide = image.astype(np.float32) / 255
    soft = cv2.ximgproc.guidedFilter(guide, mask, radius=5, eps=2e-4)
    soft = cv2.resize(0.5 * soft + 0.5 * mask, (width, height), interpolation=cv2.INTER_LINEAR)
    hard = (soft > 0.5).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hard, connectivity=8)
    if count <= 2:
        return hard
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = np.concatenate([[False], areas >= 0.02 * areas.max()])
    return np.asarray(keep[labels], dtype=np.uint8)


def _make(min_confidence: float, solutions: Any) -> Any:
    return solutions.pose.Pose(
        static_image_mode=True,
        model_complexity=1,
        enable_segmentation=True,
        min_detection_confidence=min_confidence,
    )


def _found(result: Any) -> bool:
    return result.pose_landmarks is not None
