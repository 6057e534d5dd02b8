"""Faces in a photo, by MediaPipe's two face detectors: near faces that fill the photo, far faces of whole figures."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tryon.stages._mediapipe import Solver

UInt8 = npt.NDArray[np.uint8]

WORK_PX = 384  # longest side; the detectors themselves look at 128 and 192 px
# Of 227 photos of one person each, 0.6 sees a second face on two chests, 0.7 on none, and misses none.
MIN_CONFIDENCE = 0.7
SAME_FACE = 0.3  # IoU from which on two boxes are one face
MIN_SHARE = 0.35  # of the largest face's height: smaller ones are passers-by, posters and prints


@dataclass(frozen=True)
class Face:
    """A face.

    Attributes:
        x: left edge of its box, as a share of the photo's width; may lie outside the photo.
        y: upper edge, as a share of the height.
        width: of the box, as a share of the photo's width.
        height: of the box, as a share of the photo's height.
        score: the detector's confidence, 0..1.
    """

    x: float
    y: float
    width: float
    height: float
    score: float


class FaceFinder:
    """Finds faces; to be held by a stage. Detectors are loaded on the first call and are not pickled."""

    def __init__(self, min_confidence: float = MIN_CONFIDENCE) -> None:
        self._min_confidence = min_confidence
        self._solvers = [Solver(functools.partial(_make, far), _found) for far in (True, False)]

    def __call__(self, image: UInt8) -> list[Face]:
        """Faces in an RGB uint8 (H, W, 3) photo, most confident first."""
        small = _shrunk(image)
        found = [_face(d) for solver in self._solvers for d in solver(small).detections or ()]
        return _distinct([face for face in found if face.score >= self._min_confidence])


def count_faces(image: UInt8) -> int:
    """How many people show their face in a photo.

    A face much smaller than the largest one does not count: it is a passer-by, a poster or a print.

    Args:
        image: RGB uint8 (H, W, 3).
    """
    return len(main_faces(find_faces(image)))


def find_faces(image: UInt8) -> list[Face]:
    """Faces in an RGB uint8 (H, W, 3) photo, most confident first, by a finder that each thread keeps."""
    finder: FaceFinder | None = getattr(_LOCAL, "finder", None)
    if finder is None:
        finder = _LOCAL.finder = FaceFinder()
    return finder(image)


def main_faces(faces: Sequence[Face]) -> list[Face]:
    """Faces of a size with the largest one."""
    largest = max((face.height for face in faces), default=0.0)
    return [face for face in faces if face.height >= MIN_SHARE * largest]


_LOCAL = threading.local()  # MediaPipe's solutions are not thread-safe


def _make(far: bool, solutions: Any) -> Any:
    # Its own threshold, min_detection_confidence, lets scores below it pass.
    return solutions.face_detection.FaceDetection(model_selection=int(far))


def _found(result: Any) -> bool:
    return bool(result.detections)


def _face(detection: Any) -> Face:
    box = detection.location_data.relative_bounding_box
    return Face(box.xmin, box.ymin, box.width, box.height, float(detection.score[0]))


def _distinct(faces: list[Face]) -> list[Face]:
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_overlap(face, other) < SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _overlap(a: Face, b: Face) -> float:
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / max(a.width * a.height + b.width * b.height - shared, 1e-9)


def _shrunk(image: UInt8) -> UInt8:
    scale = WORK_PX / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
