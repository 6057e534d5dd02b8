"""What layers of a sample say about the body: which labels a category's garment has, where the face ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.sample import Label
from tryon.stages.skeleton import body_of

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

CHIN = 0.98  # half face heights below the face's centre
GARMENT_LABELS: Mapping[str, tuple[Label, ...]] = {
    "upper": (Label.UPPER_CLOTHES, Label.DRESS),
    "lower": (Label.SKIRT, Label.PANTS),
    "dress": (Label.DRESS, Label.UPPER_CLOTHES, Label.SKIRT),
}


def has_label(parse: UInt8, labels: Sequence[int]) -> Bool:
    """True where the parse, uint8 (H, W), has one of the labels."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(labels)] = 1
    return np.asarray(cv2.LUT(parse, table)).view(np.bool_)


def face_height(pose: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """How far down the face each pixel lies: -1 about the hairline, 0 between eyes and mouth, 1 the chin.

    Args:
        pose: float32 (25, 3), px.
        shape: (height, width) px.

    Returns:
        float32 (H, W); None where the pose holds too little to say where the face is.
    """
    try:
        body = body_of(pose)
    except SampleError:
        return None
    up = body.face - body.joints[1]
    up = up / max(float(np.linalg.norm(up)), 1e-6)
    down_y, down_x = -up[1] / body.face_radius, -up[0] / body.face_radius
    rows = (np.arange(shape[0], dtype=np.float32) - np.float32(body.face[1])) * np.float32(down_y)
    columns = (np.arange(shape[1], dtype=np.float32) - np.float32(body.face[0])) * np.float32(down_x)
    return np.asarray(rows[:, None] + columns[None, :], dtype=np.float32)


def grown(mask: Bool, radius_px: float) -> Bool:
    """The mask and everything within `radius_px` of it."""
    if not mask.any():
        return mask
    # Of its outline's distance map: dilation by a disc of 30 px takes ten times as long.
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) <= radius_px)
