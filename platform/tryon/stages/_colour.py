"""Colour statistics of one photo: Lab histograms as densities, and edge-aware smoothing of cost volumes."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

NUM_L, NUM_AB = 20, 24
STEP_L, STEP_AB, LIMIT_AB = 5.0, 4.0, 48.0  # Lab units a bin; a and b are clipped to +-LIMIT_AB
NUM_BINS = NUM_L * NUM_AB * NUM_AB


def to_lab(image: UInt8) -> Float32:
    """RGB uint8 (H, W, 3) as float32 CIE Lab: L 0..100, a and b about -100..100."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def bins_of(lab: Float32) -> npt.NDArray[np.int32]:
    """Histogram bin of every pixel, int32 (H, W)."""
    level = np.clip(lab[..., 0] / STEP_L, 0, NUM_L - 1).astype(np.int32)
    chroma = np.clip((lab[..., 1:] + LIMIT_AB) / STEP_AB, 0, NUM_AB - 1).astype(np.int32)
    return np.asarray((level * NUM_AB + chroma[..., 0]) * NUM_AB + chroma[..., 1])


def density(bins: npt.NDArray[np.int32], weight: Float32, spread_l: float = 1.0, spread_ab: float = 0.8) -> Float32:
    """Smoothed density over the bins, as a multiple of the uniform density.

    Args:
        bins: from `bins_of`, any shape.
        weight: how much each pixel counts, same shape; all zeros give the uniform density.
        spread_l: smoothing over lightness, bins.
        spread_ab: smoothing over a and b, bins.

    Returns:
        float32 (NUM_BINS,), mean 1.
    """
    counts = np.bincount(bins.ravel(), weights=weight.ravel(), minlength=NUM_BINS)
    total = counts.sum()
    if total < 1e-3:
        return np.ones(NUM_BINS, dtype=np.float32)
    cube = (counts / total).reshape(NUM_L, NUM_AB, NUM_AB).astype(np.float32)
    near = gaussian_filter(cube, (spread_l, spread_ab, spread_ab), mode="nearest", truncate=3.0)
    return np.asarray(near.ravel() * NUM_BINS, dtype=np.float32)


def smooth_costs(costs_khw: Float32, guide: Float32, radius: int, eps: float) -> Float32:
    """Guided-filters each plane of a cost volume, so that labels follow the photo's edges.

    Args:
        costs_khw: float32 (K, H, W).
        guide: float32 (H, W, 3), 0..1.
        radius: of the filter's window, px.
        eps: edge threshold, squared guide units.
    """
    filter_ = cv2.ximgproc.createGuidedFilter(guide, radius, eps)
    return np.stack([filter_.filter(plane) for plane in costs_khw])


def local_deviation(plane: Float32, radius: int) -> Float32:
    """Standard deviation of (H, W) in a square window of `radius` px around each pixel."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean = cv2.blur(plane, size)
    return np.asarray(np.sqrt(np.maximum(cv2.blur(plane * plane, size) - mean * mean, 0)), dtype=np.float32)
