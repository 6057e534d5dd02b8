"""What the quality stage measures. Whole-number arithmetic where it can be, so that machines agree on the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tryon.images import resize
from tryon.sample import Joint
from tryon.stages._faces import Face, main_faces

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

WORK_PX = 512  # longest side at which sharpness and exposure are measured; smaller photos are not enlarged
SKIN_PX = 256
DARK, BRIGHT = 8, 247  # a pixel with all channels at or beyond is clipped; JPEG moves 0 and 255 by a few levels
HEAD = (Joint.NOSE, Joint.LEFT_EYE, Joint.RIGHT_EYE, Joint.LEFT_EAR, Joint.RIGHT_EAR)
TORSO = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP)
JOINTS = {
    "upper": (*TORSO, Joint.LEFT_ELBOW, Joint.RIGHT_ELBOW),
    "lower": (Joint.LEFT_HIP, Joint.RIGHT_HIP, Joint.LEFT_KNEE, Joint.RIGHT_KNEE),
    "dress": TORSO,
}
PASSER_SCORE = 0.7  # of a second face: windows in a drawn street score to 0.65, 97 of 100 second persons more
FACE_SCORE = 0.8  # prints and folds in which the detector sees a face score less; faces 0.88 and more
FACE_AT = 0.35  # of the garment mask's height from the top: where a wearer's face is, and prints are not


def shrink(photo: UInt8, longest_px: int) -> UInt8:
    """A photo with its longest side brought down to `longest_px`; smaller ones as they are."""
    scale = min(1.0, longest_px / max(photo.shape[:2]))
    return resize(photo, max(1, round(photo.shape[0] * scale)), max(1, round(photo.shape[1] * scale)))


def region_of(mask: UInt8 | None, work: UInt8) -> npt.NDArray[np.bool_]:
    """The mask at the size of `work` (H, W, 3) as bool; everything where it is absent or empty."""
    whole = np.ones(work.shape[:2], dtype=bool)
    if mask is None:
        return whole
    small = resize(mask, *work.shape[:2], nearest=True) > 0
    return small if small.any() else whole


def sharpness(work: UInt8, region: npt.NDArray[np.bool_]) -> float:
    """Variance of the Laplacian over the mean squared gradient: what is fine among all that changes.

    The variance alone tells a plain blouse from a striped one rather than a sharp photo from a blurred one: over 800
    persons it spans 65 to 24,000, and those blurred with sigma 1.5 reach 159.

    Args:
        work: RGB uint8 (H, W, 3).
        region: bool (H, W); its outline is included.
    """
    grey = cv2.cvtColor(work, cv2.COLOR_RGB2GRAY)
    inside = cv2.dilate(region.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    fine = cv2.Laplacian(grey, cv2.CV_16S)[inside].astype(np.int64)
    slopes = [cv2.Sobel(grey, cv2.CV_16S, *order)[inside].astype(np.int64) for order in ((1, 0), (0, 1))]
    count = fine.size
    variance = int((fine * fine).sum()) / count - (int(fine.sum()) / count) ** 2
    return variance / (sum(int((slope * slope).sum()) for slope in slopes) / (64 * count) + 1.0)


def exposure(work: UInt8, region: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Shares of clipped pixels, and the luma that 95 % of the region stay below.

    Args:
        work: RGB uint8 (H, W, 3).
        region: bool (H, W).

    Returns:
        ``dark`` and ``bright`` 0..1, ``light`` and ``mean`` 0..255.
    """
    pixels = work[region]
    luma = np.bincount(cv2.cvtColor(work, cv2.COLOR_RGB2GRAY)[region], minlength=256)
    light = int(np.searchsorted(np.cumsum(luma), 0.95 * len(pixels)))
    return {
        "dark": int((pixels.max(axis=1) <= DARK).sum()) / len(pixels),
        "bright": int((pixels.min(axis=1) >= BRIGHT).sum()) / len(pixels),
        "light": light,
        "mean": int((luma * np.arange(256)).sum()) / len(pixels),
    }


def missing_joints(pose: Float32, category: str | None, min_confidence: float) -> int:
    """How many of the joints that the category needs are less certain than `min_confidence`."""
    joints = JOINTS.get(category or "", JOINTS["upper"])
    return int((pose[list(joints), 2] < min_confidence).sum())


def outside(pose: Float32, height: int, width: int) -> float:
    """How far a shoulder or hip lies outside the frame, as a share of the frame's side; 0 where all are inside."""
    places = pose[list(TORSO), :2] / np.array([width, height], dtype=np.float32)
    return float(np.maximum(np.maximum(-places, places - 1), 0).max())


def count_people(faces: Sequence[Face], pose: Float32 | None, height: int, width: int) -> int:
    """Faces that are not on this person's own body, and the person.

    Detectors see a face in prints, folded hands and belts, so what lies below one's own shoulders is not counted:
    of 800 photos of one person each, ten show a second face, all of them there or twice the same head.

    Args:
        faces: of the photo.
        pose: BODY_25 keypoints (25, 3) in px, or None.
        height: of the photo, px.
        width: of the photo, px.
    """
    faces = [face for face in faces if face.score >= PASSER_SCORE]
    if pose is None:
        return len(main_faces(faces))
    places = pose[:, :2] / np.array([width, height], dtype=np.float32)
    torso, head = places[list(TORSO)], places[list(HEAD)].mean(axis=0)
    margin = 0.25 * float(np.ptp(torso[:, 0]))
    left, right = torso[:, 0].min() - margin, torso[:, 0].max() + margin
    top = torso[:2, 1].min()

    def is_elsewhere(face: Face) -> bool:
        x, y = face.x + face.width / 2, face.y + face.height / 2
        own = abs(x - head[0]) < face.width and abs(y - head[1]) < face.height
        return not own and not (left < x < right and y > top)

    others = [face for face in faces if is_elsewhere(face)]
    own = [face for face in faces if not is_elsewhere(face)]
    counted = main_faces([*others, *own[:1]])
    return 1 + sum(face in counted for face in others)


def second_piece(mask: UInt8) -> float:
    """Area of the second largest piece of a mask as a share of the largest; 0 with one piece or none."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = sorted((int(stats[i, cv2.CC_STAT_AREA]) for i in range(1, count)), reverse=True)
    return areas[1] / areas[0] if len(areas) > 1 else 0.0


def borders_touched(mask: UInt8) -> int:
    """How many of the frame's four borders a mask (H, W) touches."""
    return sum(bool(edge.any()) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def wearer_faces(faces: Sequence[Face], mask: UInt8 | None) -> int:
    """Faces of somebody who wears the garment: certain, and at the top of what stands out from the background."""
    top, size = 0.0, 1.0
    if mask is not None and mask.any():
        rows = np.nonzero(mask.any(axis=1))[0]
        top, size = rows[0] / len(mask), (rows[-1] + 1 - rows[0]) / len(mask)
    at = [(face.y + face.height / 2 - top) / size for face in faces if face.score >= FACE_SCORE]
    return sum(place < FACE_AT for place in at)


def worn_skin(garment: UInt8, mask: UInt8) -> float:
    """Share of the garment mask that has skin's colour, where the mask is cut by two borders or more; else 0.

    Skin alone would not do: one product photo in ten is of a beige garment. But those lie free on their
    background, while a wearer without a head is cut at the neck and at the legs.

    Args:
        garment: RGB uint8 (H, W, 3).
        mask: uint8 {0, 1} (H, W).
    """
    if borders_touched(mask) < 2:
        return 0.0
    work = shrink(garment, SKIN_PX)
    inside = region_of(mask, work)
    luma, red, blue = cv2.split(cv2.cvtColor(work, cv2.COLOR_RGB2YCrCb))
    skin = (luma > 50) & (red > 136) & (red < 175) & (blue > 90) & (blue < 125) & inside
    opened: Any = cv2.morphologyEx(skin.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return int(opened.sum()) / int(inside.sum())
