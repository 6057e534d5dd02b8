"""Which garments a body wears: how far the top's material reaches, and whether what is below it has two legs.

Trunk coordinates run from 0 at the neck to 1 at the mid-hip and on; lengths are in shoulder widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from tryon.sample import Joint, Label
from tryon.stages._colour import NUM_AB, NUM_L
from tryon.stages._priors import BodyMaps
from tryon.stages.skeleton import Body

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

STEP, WINDOW = 0.06, 4  # trunk coordinate a bin; bins a window, so that patterns average out
MAX_BARE = 4  # bins without cloth that end the garment
CORE = (0.2, 0.7)  # of the trunk: here the top is what one sees
FIRST = 0.75  # a top's material is followed from here
SAME = 0.72  # Bhattacharyya coefficient from which on two windows show the same material
MIN_CORE = 0.35  # of the chest that must show cloth
HALF_WIDTH = 0.3  # of the column that is looked at
SEAM_RANGE = (0.72, 1.3)
SEAM_STANDS_OUT = 4.0  # a hem's contrast, x the column's median

STRIP_STEP = 1 / 40
LEGS_FROM = 0.36  # below the hips: crotches lie above
MIN_DEPTH, MIN_DEPTH_BARE = 0.64, 0.4  # of what is seen below the hips; bare legs below tell more
# From 124 photos of which a person said what they show: a gap parts all but 24 pairs of trousers from the 20 skirts,
# the line between the legs most of these 24.
MAX_GAP = 0.15
FAINT_SEAM, CLEAR_SEAM = 4.6, 9.0  # Lab units
WHITE = 90.0  # L
WIDE = 1.38
BARE_AREA = 0.08
MAX_NOTCH = 0.045


@dataclass(frozen=True)
class Reach:
    """How far the top's material goes down.

    Attributes:
        end: trunk coordinate at which another material begins; `bottom` where none does.
        bottom: trunk coordinate of the lowest cloth seen.
        seam: trunk coordinate of a hem that shows as a line in one material; None where there is none.
    """

    end: float
    bottom: float
    seam: float | None

    @property
    def one(self) -> bool:
        """Whether one material is all there is, to well below the hips."""
        return self.end >= self.bottom - 0.12 and self.bottom > 1.4

    @property
    def long(self) -> bool:
        """Whether the top clearly hangs below the hips."""
        return self.end > 1.12 and self.bottom > 1.2 and not self.one


def reach_of(bins: Int32, light: Float32, cloth: Bool, maps: BodyMaps) -> Reach:
    """Follows the top's material down the middle of the body.

    Args:
        bins: colour bins of `_colour.bins_of`, (H, W).
        light: L of Lab, (H, W).
        cloth: where cloth may be: on the person, off the arms, not of the skin's colour.
        maps: body coordinates.
    """
    column = cloth & (np.abs(maps.lateral) < HALF_WIDTH)
    index = np.floor(maps.trunk[column] / STEP).astype(np.int64)
    valid = (index >= 0) & (index < 60)
    index, colour = index[valid], _coarse(bins[column][valid])
    num = (NUM_L // 2) * (NUM_AB // 2) ** 2
    counts = np.bincount(index * num + colour, minlength=60 * num).reshape(60, num).astype(np.float32)
    rows = np.nonzero(counts.sum(axis=1) >= 6)[0]
    if len(rows) == 0:
        return Reach(1.0, 1.0, None)
    gaps = np.nonzero((np.diff(rows) > MAX_BARE) & (rows[:-1] * STEP > 1))[0]
    if len(gaps):  # bare legs; shoes come after them
        rows = rows[: gaps[0] + 1]
    bottom = float((rows[-1] + 1) * STEP)
    chest = (np.abs(maps.lateral) < HALF_WIDTH) & (maps.trunk > CORE[0]) & (maps.trunk < CORE[1])
    core_counts = counts[round(CORE[0] / STEP) : round(CORE[1] / STEP)].sum(axis=0)
    if core_counts.sum() < MIN_CORE * chest.sum():
        return Reach(1.0, bottom, None)
    core = _smooth(core_counts)
    first = round(FIRST / STEP)
    end = bottom
    for start in range(first, rows[-1] + 1 - WINDOW // 2):
        window = counts[start : start + WINDOW].sum(axis=0)
        if window.sum() >= 12 and float(np.sqrt(_smooth(window) * core).sum()) < SAME:
            end = (start + WINDOW / 2) * STEP
            break
    return Reach(end, bottom, _seam(light, column, maps))


def _coarse(bins: Int32) -> npt.NDArray[np.int64]:
    a, b = bins // NUM_AB % NUM_AB, bins % NUM_AB
    return np.asarray(
        (bins // (NUM_AB * NUM_AB) // 2 * (NUM_AB // 2) + a // 2) * (NUM_AB // 2) + b // 2, dtype=np.int64
    )


def _smooth(counts: Float32) -> Float32:
    cube = counts.reshape(NUM_L // 2, NUM_AB // 2, NUM_AB // 2)
    near = gaussian_filter(cube, (0.9, 0.6, 0.6), mode="nearest", truncate=3.0).ravel()
    return np.asarray(near / max(float(near.sum()), 1e-6), dtype=np.float32)


def _seam(light: Float32, column: Bool, maps: BodyMaps) -> float | None:
    """Where a hem crosses the column: its change of light has one sign all along, that of folds has not."""
    change = cv2.Sobel(cv2.GaussianBlur(light, (0, 0), 0.8), cv2.CV_32F, 0, 1)
    step = 0.02
    index = np.floor((maps.trunk[column] - SEAM_RANGE[0]) / step).astype(np.int64)
    num = round((SEAM_RANGE[1] - SEAM_RANGE[0]) / step)
    valid = (index >= 0) & (index < num)
    counts = np.bincount(index[valid], minlength=num)
    sums = np.bincount(index[valid], weights=change[column][valid], minlength=num)
    contrast = np.abs(sums) / np.maximum(counts, 1)
    at = int(contrast.argmax())
    if contrast[at] < max(SEAM_STANDS_OUT * float(np.median(contrast)), 3.0):
        return None
    return SEAM_RANGE[0] + (at + 0.5) * step


def is_skirt(lower: Bool, labels: UInt8, image: UInt8, body: Body, *, goes_on: bool = False) -> bool:
    """Whether the garment below the waist is one undivided piece.

    Trousers let background, or a line where they meet, be seen between the legs, and the hems of shorts leave a
    notch there. Where too little is seen below the hips to tell, trousers are assumed: they are more common.

    Args:
        lower: the garment, bool (H, W).
        labels: the other labels, `Label` (H, W); 0 where `lower` is.
        image: RGB uint8 (H, W, 3).
        body: the body.
        goes_on: the top is of the same material and no seam parts them: with bare legs below that is a dress.
    """
    if not lower.any():
        return False
    garment, lower = lower, _largest(lower)
    counts = lower.sum(axis=1)
    rows = np.nonzero(counts)[0]
    hip = (body.at(Joint.LEFT_HIP) + body.at(Joint.RIGHT_HIP)) / 2
    knee = (body.at(Joint.LEFT_KNEE) + body.at(Joint.RIGHT_KNEE)) / 2
    bottom = int(np.nonzero(counts >= 0.5 * np.quantile(counts[rows], 0.9))[0][-1])
    depth = (bottom - hip[1]) / body.unit
    legs = np.isin(labels, (Label.LEFT_LEG, Label.RIGHT_LEG))
    bare = bool(legs.sum() > BARE_AREA * body.unit**2)
    if depth < (MIN_DEPTH_BARE if bare else MIN_DEPTH) or np.linalg.norm(knee - hip) < 1:
        return False
    down = np.arange(LEGS_FROM, depth - 0.03, STRIP_STEP)
    across = np.arange(-0.55, 0.551, STRIP_STEP)
    x, y = _strip(hip, (knee - hip) / np.linalg.norm(knee - hip), body.unit, down, across)
    between = _sampled(((labels == Label.BACKGROUND) & ~garment) | legs, x, y) > 0.5
    if len(down) < 4 or float(between[:, np.abs(across) < 0.2].any(axis=1).mean()) > MAX_GAP:
        return False
    light = _sampled(cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 0], x, y) * (100 / 255)
    inside = _sampled(lower, x, y) > 0.5
    inner, outer = _lines(light, inside)
    if _width(lower[max(0, round(hip[1] + LEGS_FROM * body.unit)) : bottom + 1]) > WIDE * body.unit:
        return True
    if bare and goes_on:
        return True
    if bare and _notch(lower) < MAX_NOTCH * body.unit and inner < 1.7 * outer:
        return True
    if inside.any() and float(np.median(light[inside])) > WHITE:  # no line would show
        return False
    return bool(inner < min(FAINT_SEAM, 1.5 * outer) or inner < min(CLEAR_SEAM, 0.6 * outer))


def _largest(lower: Bool) -> Bool:
    """The largest piece: shoes are no part of the garment above them."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lower.astype(np.uint8), connectivity=4)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _width(lower: Bool) -> float:
    """Median distance, px, from the first to the last pixel of the rows that have any."""
    rows = lower[lower.any(axis=1)]
    if len(rows) == 0:
        return 0.0
    return float(np.median(rows.shape[1] - rows[:, ::-1].argmax(axis=1) - rows.argmax(axis=1)))


def _notch(lower: Bool) -> float:
    """How far, px, the garment's lower edge rises in the middle above its edge left and right of it."""
    columns = np.nonzero(lower.any(axis=0))[0]
    edge = lower.shape[0] - 1 - lower[::-1, columns].argmax(axis=0)
    first, last = np.quantile(np.nonzero(lower)[1], (0.02, 0.98))
    place = np.abs(columns - (first + last) / 2) / max((last - first) / 2, 1.0)
    middle, beside = edge[place < 0.25], edge[(place > 0.4) & (place < 0.8)]
    return float(np.median(beside) - middle.min()) if len(middle) and len(beside) else 0.0


def _strip(
    hip: npt.NDArray[np.float64],
    axis: npt.NDArray[np.float64],
    unit: float,
    down: npt.NDArray[np.float64],
    across: npt.NDArray[np.float64],
) -> tuple[Float32, Float32]:
    """Pixel coordinates of a strip that follows the legs, straightened."""
    along = hip + axis * down[:, None] * unit
    side = np.array([-axis[1], axis[0]]) * across[:, None] * unit
    points = along[:, None] + side[None]
    return points[..., 0].astype(np.float32), points[..., 1].astype(np.float32)


def _sampled(plane: npt.NDArray[np.generic], x: Float32, y: Float32) -> Float32:
    values = cv2.remap(plane.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values, dtype=np.float32)


def _lines(light: Float32, lower: Bool) -> tuple[float, float]:
    """Mean strength of the best line down the middle of a strip, and of the best one beside it."""
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), 1.0), dtype=np.float32)
    edge = np.abs(cv2.Sobel(light, cv2.CV_32F, 1, 0)) / 8
    dark = np.maximum(cv2.GaussianBlur(light, (0, 0), 5) - light, 0)
    strength = (edge + dark) * cv2.erode(lower.astype(np.uint8), np.ones((3, 7), np.uint8))
    strength = strength[min(5, len(strength) - 4) :]
    middle, half = strength.shape[1] // 2, 8
    sides = strength[:, : 2 * half + 1], strength[:, -2 * half - 1 :]
    return _best_path(strength[:, middle - half : middle + half + 1]), max(map(_best_path, sides))


def _best_path(strength: Float32) -> float:
    """Mean of a matrix along the best way from its first row to its last, a column aside at most each row."""
    best = strength[0].copy()
    for row in strength[1:]:
        padded = np.pad(best, 1, constant_values=-1)
        best = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:]) + row
    return float(best.max()) / len(strength)
