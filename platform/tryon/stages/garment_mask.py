"""Garment mask stage: the garment apart from its background, by flood fill from the border or by GrabCut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.images import resize
from tryon.sample import Row
from tryon.stages._colour import to_lab
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

WORK_PX = 640  # longest side for a plain background
GRABCUT_PX = 256  # longest side for a busy one; GrabCut's time grows with the area
RING_SHARE = 0.02  # of the shorter side: the border strip the background is modelled on
PLAIN_SHARE = 0.62  # of the ring that must follow the background model
MIN_DELTA = 0.7  # Lab units: smaller differences are JPEG noise even on a flat background
MAX_DELTA = 9.0  # Lab units: a background that varies more than this around its model is busy
RINGING_SHARE = 0.016  # of the longest side: a 16 px chroma block of a 1024 px JPEG
RINGING_CONTRAST = 0.15  # of the edge's own contrast
SHADOW_DROP = 30.0  # Lab lightness that a soft shadow takes away at most
SHADOW_TINT = 2.0  # Lab chroma by which it may leave the background's, beside noise
SHADOW_SLOPE = 770.0  # of lightness over a photo's longest side: a steeper step is an edge
SHADOW_REACH = 0.06  # of the longest side: how far into the mask one round looks for it
SHADOW_ROUNDS = 3  # it is deeper between arm and body
SHADOW_ALONG = 0.05  # of the mask's outline that it lies along: less is a stripe of the garment that ends there
CLEAR_SHARE = 0.6  # of the garment's edge beside it that must be clear
CLEAR_DELTA = 10.0  # Lab units between garment and background at a clear edge
CLEAR_TIMES = 1.5  # the shadow's own difference from the background, which the garment's must be there
EDGE_SHARE = 0.01  # of the longest side: how far from the edge itself a blurred edge begins
MIN_SHARE = 0.004  # of the frame: less than this is no garment
MAX_SHARE = 0.995


class GarmentMask(RowStage):
    """Separates the garment from its background, see-through gaps included.

    Reads ``garment``; adds ``garment_mask``. Photos without a garment end with the code ``"no-garment"``.
    """

    name: ClassVar[str] = "garment_mask"
    reads = ("garment",)
    adds = ("garment_mask",)

    def process(self, row: Row) -> Row:
        """Adds the mask, uint8 {0, 1} (H, W).

        Raises:
            SampleError: nothing stands out from the background.
        """
        garment: UInt8 = row["garment"]
        height, width = garment.shape[:2]
        work = _shrink(garment, WORK_PX)
        lab = to_lab(work)
        backdrop = fit_backdrop(lab)
        found = plain_mask(lab, backdrop) if backdrop.plain else None
        if found is not None:
            found = without_shadow(found, work, lab, backdrop)
        if found is None:
            found = busy_mask(garment)
        if found is None:
            raise SampleError("no garment stands out from the garment photo's background", code="no-garment")
        soft = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 0.7)
        full = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        return {"garment_mask": (full > 0.5).astype(np.uint8)}


@dataclass(frozen=True)
class Backdrop:
    """A smooth model of the background, fitted on the photo's border.

    Attributes:
        colour: float32 (H, W, 3), Lab the background would have at every pixel.
        spread: robust standard deviation of the border around the model, Lab units.
        plain: True where the model explains enough of the border to be trusted.
    """

    colour: Float32
    spread: float
    plain: bool


def fit_backdrop(lab: Float32) -> Backdrop:
    """Fits Lab colour as a plane over x and y to the border, leaving out what crosses it.

    Args:
        lab: float32 (H, W, 3), L 0..100.
    """
    height, width = lab.shape[:2]
    ys, xs = np.nonzero(_ring(height, width))
    terms = np.stack([np.ones(len(xs)), xs / width - 0.5, ys / height - 0.5], axis=1).astype(np.float32)
    samples = lab[ys, xs]
    inlier = _length(samples - np.median(samples, axis=0)) < 2.5 * MAX_DELTA
    coef = np.zeros((3, 3), dtype=np.float32)
    residual = np.full(len(xs), np.inf, dtype=np.float32)
    for limit in (MAX_DELTA, 0.75 * MAX_DELTA, 0.6 * MAX_DELTA):
        if inlier.sum() < 0.3 * len(xs):
            return Backdrop(np.zeros_like(lab), float("inf"), False)
        kept = terms[inlier]
        coef = np.linalg.solve(kept.T @ kept + 1e-3 * np.eye(3), kept.T @ samples[inlier]).astype(np.float32)
        residual = _length(samples - terms @ coef)
        inlier = residual < limit
    spread = float(np.median(residual[inlier])) * 0.85 if inlier.any() else float("inf")
    across = (np.arange(width, dtype=np.float32) / width - 0.5)[:, None] * coef[1]
    down = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None] * coef[2] + coef[0]
    colour = np.tile(down, (1, width)) + across.ravel()  # rows of width * 3: broadcasting over a last axis of 3 is slow
    return Backdrop(colour.reshape(lab.shape), spread, bool(inlier.mean() >= PLAIN_SHARE))


def plain_mask(lab: Float32, backdrop: Backdrop) -> Bool | None:
    """Mask on a plain background: what a flood from the border cannot reach.

    Args:
        lab: float32 (H, W, 3).
        backdrop: the fitted background.

    Returns:
        bool (H, W), or None where nothing convincing stands out.
    """
    delta = _length(lab - backdrop.colour)
    limit, edge_at = max(MIN_DELTA, 4.5 * backdrop.spread), RINGING_CONTRAST
    if backdrop.spread > 0.5:  # a noisy background: average the noise away instead of raising the limit as much
        delta = _length(cv2.GaussianBlur(lab, (0, 0), 1.5) - backdrop.colour)
        limit, edge_at = max(MIN_DELTA, 2.2 * backdrop.spread), 0.45
    barrier = delta > limit
    outside = _flood(barrier)
    mask = _solid(_shave(~outside, delta, limit, edge_at))
    mask &= ~_gaps(mask & ~barrier, lab, delta, backdrop.spread)
    share = float(mask.mean())
    if not MIN_SHARE < share < MAX_SHARE:
        return None
    return mask


def without_shadow(mask: Bool, image: UInt8, lab: Float32, backdrop: Backdrop) -> Bool:
    """Mask without the soft shadow that a garment throws on the background around it.

    A shadow is the background's colour, only darker, and grows darker gently: a flood from outside goes through it and
    ends at the garment's edge. Where it ends at nothing that differs from the background more than it does itself, it
    has gone into a pale garment; where it comes from one spot, into a stripe. Neither counts.

    Args:
        mask: garment and shadow, bool (H, W).
        image: RGB uint8 (H, W, 3).
        lab: float32 (H, W, 3), of the image.
        backdrop: the fitted background.
    """
    away = cv2.GaussianBlur(lab, (0, 0), 1.0) - backdrop.colour
    light, noise = away[..., 0], 2.0 * backdrop.spread
    across, down = (cv2.Scharr(light, cv2.CV_32F, x, 1 - x, scale=1 / 32) for x in (1, 0))
    is_shade = cv2.magnitude(across, down) < SHADOW_SLOPE / max(mask.shape) + noise
    is_shade &= (light < noise) & (light > -SHADOW_DROP)
    is_shade &= cv2.magnitude(away[..., 1], away[..., 2]) < SHADOW_TINT + noise
    delta = _length(away)
    found = np.zeros_like(mask)
    for _ in range(SHADOW_ROUNDS):
        left = mask & ~found
        shade = left & _touching_border(~left | (is_shade & (_distance(left) < SHADOW_REACH * max(mask.shape))))
        if not shade.any():
            break
        more = _real_shadow(left, _up_to_the_edge(left, shade, image), found, delta)
        if not more.any():
            break
        found |= more
    return mask & ~found


def _up_to_the_edge(mask: Bool, shade: Bool, image: UInt8) -> Bool:
    """A shade that ends a little before the garment's edge, where the edge's blur begins, grown as far as the edge."""
    near = max(3, round(EDGE_SHARE * max(mask.shape)))
    marks = np.zeros(mask.shape, dtype=np.int32)
    marks[mask & (_distance(~shade) > near)] = 1
    marks[~mask | shade] = 2
    cv2.watershed(image, marks)
    return np.asarray(mask & (shade | (marks == 2)))


def _real_shadow(mask: Bool, shade: Bool, before: Bool, delta: Float32) -> Bool:
    """The pieces of a shade that end at a clear edge and lie along enough of the outline, or beside what was found."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    count, labels = cv2.connectedComponents(shade.astype(np.uint8), connectivity=8)
    outline = mask & (cv2.erode(mask.astype(np.uint8), cross) == 0)
    along = np.bincount(labels[outline], minlength=count) / max(1, int(outline.sum()))
    along[labels[shade & (cv2.dilate(before.astype(np.uint8), cross) > 0)]] = 1.0
    garment = mask & ~shade
    garment_delta, shade_delta = _mean_near(garment, delta), _mean_near(shade, delta)
    is_clear = (garment_delta > CLEAR_DELTA) & (garment_delta > CLEAR_TIMES * shade_delta)
    front = shade & (cv2.dilate(garment.astype(np.uint8), cross) > 0)
    fronts, clear = (np.bincount(labels[where], minlength=count) for where in (front, front & is_clear))
    real = (along >= SHADOW_ALONG) & (clear >= CLEAR_SHARE * np.maximum(1, fronts))
    real[0] = False
    return np.asarray(real[labels])


def _mean_near(where: Bool, values: Float32) -> Float32:
    """Mean of values over those pixels of a small window that are `where`."""
    share = cv2.blur(where.astype(np.float32), (9, 9))
    total = cv2.blur(np.where(where, values, 0).astype(np.float32), (9, 9))
    return np.asarray(total / np.maximum(share, 1e-3))


def _distance(where: Bool) -> Float32:
    """Of each pixel that is `where` to the nearest that is not, px."""
    return np.asarray(cv2.distanceTransform(where.astype(np.uint8), cv2.DIST_L2, 5))


def _shave(mask: Bool, delta: Float32, limit: float, edge_at: float) -> Bool:
    """Takes JPEG ringing off the outline: it reaches a chroma block beyond the edge and scales with its contrast.

    Eats inwards by one block at most; white stripes that end in the outline are bridged by their neighbours.

    Args:
        mask: what the flood could not reach, bool (H, W).
        delta: difference from the background, Lab units.
        limit: difference that counts as noise.
        edge_at: share of the local contrast at which the outline lies.
    """
    reach = max(2, round(RINGING_SHARE * max(mask.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    contrast = cv2.dilate(np.where(mask, delta, 0), kernel)
    strong = mask & (delta > np.maximum(limit, edge_at * contrast))
    core = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE) > 0
    kept = ~_touching_border(~(strong | core))
    stripe = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    bridged = cv2.morphologyEx(kept.astype(np.uint8), cv2.MORPH_CLOSE, stripe) > 0
    steady = cv2.blur(delta, (3, 3)) > np.maximum(2 * limit, 0.028 * contrast)
    return np.asarray(mask & (kept | (bridged & steady)))


def _flood(barrier: Bool) -> Bool:
    """Region that the border reaches without crossing the barrier, whose gaps of a pixel or two are closed."""
    size = max(1, round(0.003 * max(barrier.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
    reached = _touching_border(cv2.dilate(barrier.astype(np.uint8), kernel) == 0)
    step = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for _ in range(size + 2):
        reached = (cv2.dilate(reached.astype(np.uint8), step) > 0) & ~barrier
    return reached


def _touching_border(free: Bool) -> Bool:
    """The part of `free` that is connected to the frame's border."""
    framed = np.pad(free, 1, constant_values=True).astype(np.uint8)
    _, labels = cv2.connectedComponents(framed, connectivity=4)
    return np.asarray((labels == labels[0, 0])[1:-1, 1:-1])


def _solid(mask: Bool) -> Bool:
    """Keeps the large pieces."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count <= 1:
        return np.zeros_like(mask)
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = np.concatenate([[False], areas >= 0.03 * areas.max()])
    return np.asarray(keep[labels])


def _gaps(enclosed: Bool, lab: Float32, delta: Float32, spread: float) -> Bool:
    """Enclosed regions that are background seen through the garment.

    They have the background's colour and its smoothness, and are small beside the garment: a white shirt that
    shows only as an outline on white is one large enclosed region.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(enclosed.astype(np.uint8), connectivity=4)
    gap = np.zeros(count, dtype=bool)
    total = enclosed.size
    light = np.ascontiguousarray(lab[..., 0])
    flatness = cv2.magnitude(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))
    for i in range(1, count):
        area = int(stats[i, cv2.CC_STAT_AREA])
        if not 0.0003 * total < area < 0.08 * total:
            continue
        x, y, w, h = stats[i, :4]
        here = labels[y : y + h, x : x + w] == i
        core = cv2.erode(here.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if core.sum() < 0.3 * area:
            continue
        same = np.median(delta[y : y + h, x : x + w][core]) < max(0.25, 1.5 * spread)
        rough = float(np.quantile(flatness[y : y + h, x : x + w][core], 0.75))
        gap[i] = bool(same and rough < 0.4 + 6.0 * spread)
    return np.asarray(gap[labels])


def busy_mask(garment: UInt8, longest_px: int = GRABCUT_PX, rounds: int = 5) -> Bool | None:
    """Mask on a busy background by GrabCut, started from the centre against the border.

    Args:
        garment: RGB uint8 (H, W, 3).
        longest_px: size to work at; the time grows with its square.
        rounds: of GrabCut.

    Returns:
        bool at the size that `garment` shrinks to, or None where nothing stands out.
    """
    small = _shrink(garment, longest_px)
    height, width = small.shape[:2]
    low, high = np.percentile(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (1, 99))
    if high - low < 10 or min(height, width) < 16:
        return None
    marks = np.full((height, width), cv2.GC_PR_BGD, dtype=np.uint8)
    marks[round(0.08 * height) : round(0.92 * height), round(0.1 * width) : round(0.9 * width)] = cv2.GC_PR_FGD
    marks[_ring(height, width)] = cv2.GC_BGD
    centre = np.zeros_like(marks)
    cv2.ellipse(centre, (width // 2, height // 2), (width // 8, height // 6), 0, 0, 360, (1,), -1)
    marks[centre > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    behind, front = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, width, height)  # unused with GC_INIT_WITH_MASK
    cv2.grabCut(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), marks, whole, behind, front, rounds, cv2.GC_INIT_WITH_MASK)
    mask = ((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    solid = ~_touching_border(~_solid(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel) > 0))
    return solid if MIN_SHARE < float(solid.mean()) < MAX_SHARE else None


def _length(vectors: npt.NDArray[Any]) -> Float32:
    """Euclidean length over the last axis of three; twelve times as fast as numpy.linalg.norm."""
    a, b, c = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.asarray(np.sqrt(a * a + b * b + c * c), dtype=np.float32)


def _ring(height: int, width: int) -> Bool:
    ring = np.ones((height, width), dtype=bool)
    size = max(1, round(RING_SHARE * min(height, width)))
    ring[size:-size, size:-size] = False
    return ring


def _shrink(image: UInt8, longest_px: int) -> UInt8:
    scale = min(1.0, longest_px / max(image.shape[:2]))
    return resize(image, max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
