"""Layers drawn over the photos they belong to."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tryon.sample import PALETTE

UInt8 = npt.NDArray[np.uint8]
LIMBS = ((1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (10, 11), (8, 12), (12, 13), (13, 14))
NUM_PARTS = 24


def draw_pose(image: UInt8, pose: npt.NDArray[np.float32] | None) -> UInt8:
    """The image with the keypoints of the body drawn on it; unseen ones (confidence 0) are left out."""
    canvas = image.copy()
    if pose is None:
        return canvas
    thick = max(1, image.shape[0] // 200)
    for a, b in LIMBS:
        if pose[a, 2] > 0 and pose[b, 2] > 0:
            start, end = (tuple(int(v) for v in pose[k, :2]) for k in (a, b))
            cv2.line(canvas, start, end, (0, 200, 80), thick, cv2.LINE_AA)
    for x, y, confidence in pose:
        if confidence > 0:
            cv2.circle(canvas, (int(x), int(y)), 2 * thick, (255, 60, 60), -1, cv2.LINE_AA)
    return canvas


def overlay_parse(image: UInt8, parse: UInt8) -> UInt8:
    """The image under the parse's colours; the background darkened."""
    mixed: UInt8 = (0.45 * image + 0.55 * PALETTE[parse]).astype(np.uint8)
    return mixed


def outline(image: UInt8, mask: UInt8 | None) -> UInt8:
    """The image with the mask's contour drawn on it."""
    canvas = image.copy()
    if mask is not None:
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, (255, 40, 120), max(1, image.shape[0] // 200))
    return canvas


def draw_dense(dense: UInt8) -> UInt8:
    """DensePose parts as colours on black, as the pictures of VITON-HD's `image-densepose` show them.

    Args:
        dense: uint8 (H, W, 3): part 0..24, U, V.

    Returns:
        RGB uint8 (H, W, 3).
    """
    part = np.minimum(dense[..., 0], NUM_PARTS)
    colours = cv2.applyColorMap((part * (255.0 / NUM_PARTS)).astype(np.uint8), cv2.COLORMAP_PARULA)
    colours[part == 0] = 0
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), dtype=np.uint8)
