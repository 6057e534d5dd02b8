"""Light and folds of the garment that is taken off, for the one that is put on.

A garment photo is lit flat. Where the person wears something plain, its brightness against its own colour is the light
on the body and the folds of the cloth; that ratio is laid on the new garment. What is printed on the old garment is no
light: pixels off its colour count as unknown, and of a garment that is mostly such nothing is taken.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

HEIGHT = 768  # px of the whole image at which it is worked on
RIM = 3  # px off the parse's edge
OFF_COLOUR = 12.0  # Lab units of a and b from the garment's own colour: more is print
OFF_LIGHT = 28.0  # of L: more is print
MIN_PLAIN = 0.7  # share of the garment: less is a pattern
L_UNIT = 100 / 255  # of L in 8 bits
FLOOR = 8.0  # of L, added: the ratios of dark cloth are the camera's noise
FOLD, REACH = 1.2, 12.0  # px, sigmas: noise is smaller than folds; how far light is continued where it is unknown
COARSE = 4  # times, for the latter
SPREAD = 0.2  # standard deviation of the logarithm at most: glossy cloth is not to be laid on matt
LIMITS = (0.6, 1.45)


def shading(image: UInt8, worn: UInt8, size: tuple[int, int]) -> Float32 | None:
    """Brightness of a worn garment against its own colour, 1 where it is not known.

    Args:
        image: RGB uint8 (H, W, 3), the part of a photo around the garment.
        worn: uint8 (H, W), not 0 where the garment is.
        size: (height, width) px of the whole photo.

    Returns:
        float32 (H, W), within `LIMITS`; None where the garment is small or no plain one.
    """
    height, width = worn.shape
    scale = min(1.0, HEIGHT / size[0])
    small = (max(8, round(width * scale)), max(8, round(height * scale)))
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    lab: UInt8 = np.asarray(cv2.cvtColor(reduced, cv2.COLOR_RGB2LAB), dtype=np.uint8)
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM + 1, 2 * RIM + 1))
    reduced_worn = cv2.resize(worn, small, interpolation=cv2.INTER_NEAREST)
    inside: UInt8 = np.asarray(cv2.erode(reduced_worn, rim), dtype=np.uint8)
    area = cv2.countNonZero(inside)
    if area < small[0] * small[1] // 50:
        return None
    own = np.array([_median(lab, plane, inside) for plane in range(3)])
    off = np.array([OFF_LIGHT / L_UNIT, OFF_COLOUR, OFF_COLOUR])
    near = cv2.inRange(lab, np.floor(own - off) + 1, np.ceil(own + off) - 1)
    plain = cv2.bitwise_and(inside, near)
    if cv2.countNonZero(plain) < MIN_PLAIN * area:
        return None
    logs = np.log((np.arange(256) * L_UNIT + FLOOR) / (own[0] * L_UNIT + FLOOR)).astype(np.float32)
    ratio = np.asarray(cv2.LUT(np.ascontiguousarray(lab[..., 0]), logs), dtype=np.float32)
    spread = float(cv2.meanStdDev(ratio, mask=plain)[1][0, 0])
    ratio *= np.float32(min(1.0, SPREAD / max(spread, 1e-6)))
    weights: Float32 = np.minimum(plain, 1).astype(np.float32)
    near_by, far = _mean(ratio, weights, FOLD), _mean(ratio, weights, REACH, COARSE)
    known = np.minimum(near_by[1] * 2, 1)
    light = known * near_by[0] + (1 - known) * far[0] * np.minimum(far[1] * 2, 1)
    return np.clip(_resized(np.exp(light), (width, height), cv2.INTER_LINEAR), *LIMITS)


def _median(lab: UInt8, plane: int, mask: UInt8) -> int:
    """Of a plane's values where the mask is not 0."""
    counts = cv2.calcHist([lab], [plane], mask, [256], [0, 256])[:, 0].cumsum()
    return int(np.searchsorted(counts, counts[-1] / 2))


def _mean(values: Float32, weights: Float32, sigma: float, coarse: int = 1) -> tuple[Float32, Float32]:
    """Weighted means around each pixel, and how much weight there is; worked out at a fraction of the size."""
    size = values.shape[1], values.shape[0]
    sums, total = (_blurred(plane, sigma, coarse) for plane in (values * weights, weights))
    mean = sums / np.maximum(total, np.float32(1e-4))
    if coarse == 1:
        return mean, total
    return _resized(mean, size, cv2.INTER_LINEAR), _resized(total, size, cv2.INTER_LINEAR)


def _blurred(plane: Float32, sigma: float, coarse: int) -> Float32:
    """A plane at a fraction of its size, blurred; sigma is in px of the whole."""
    if coarse > 1:
        size = max(1, plane.shape[1] // coarse), max(1, plane.shape[0] // coarse)
        plane = _resized(plane, size, cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma / coarse), dtype=np.float32)


def _resized(plane: Float32, size: tuple[int, int], how: int) -> Float32:
    """A plane at (width, height) px."""
    return np.asarray(cv2.resize(plane, size, interpolation=how), dtype=np.float32)
