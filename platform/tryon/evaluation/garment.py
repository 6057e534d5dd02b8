"""Figures of the garment alone: whether a try-on shows the garment of the photo, and leaves face and hands as they are.

Without a truth two statistics tell it, each 0 for equal pictures: of colour, how far the garment's colours would have
to be moved in CIE Lab (the Wasserstein distance of each axis, together by Pythagoras); of texture, by how many
doublings the local contrast differs, as a mean over details of 1, 2, 4 and 8 px at one scale for both.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tryon.models.tensors import GARMENT_LABELS
from tryon.sample import Batch, Label
from tryon.stages._colour import to_lab
from tryon.stages._priors import hand_tip
from tryon.stages.skeleton import SIDES, body_of, draw_capsule

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

HEAD = (Label.HAIR, Label.HAT, Label.SUNGLASSES)
ARMS = (Label.LEFT_ARM, Label.RIGHT_ARM)
SCALE_PX = 256  # both garments are looked at so large: the root of their area
DETAILS_PX = (1.0, 2.0, 4.0, 8.0)
QUANTILES = np.linspace(0, 1, 101)
PRINT_FIELDS = ("warped_garment", "warped_mask", "true_garment", "true_mask")  # the last two by the simulator alone
TILES = 16  # of the height: a letter or two of a word across the chest
REACH_OF_TILE = 0.5  # its sides, that a detail may lie elsewhere than it should
LEAST_CONTRAST = 12.0  # grey levels, standard deviation: less is no print
MIN_PX = 64  # of a region: of fewer pixels nothing is said
FLOOR = 0.1  # L units of contrast: less is the camera's noise
FACE_REACH = 0.9  # half face heights around its centre
REACH = 0.25  # of a hand's length, before the wrist


def worn_region(batch: Batch, i: int) -> UInt8:
    """Where a person photo shows a garment of the row's category: uint8 (H, W), {0, 1}."""
    return np.isin(batch["parse"][i], GARMENT_LABELS[batch["category"][i]]).astype(np.uint8)


def shown_region(batch: Batch, i: int) -> UInt8:
    """Where a try-on shows the warped garment itself, else, of a network that pastes none, all that was generated."""
    shown = (batch["composition_mask"][i] > 127).astype(np.uint8)
    region: UInt8 = shown if int(shown.sum()) >= MIN_PX else batch["agnostic_mask"][i]
    return region


def colour_distance(a: UInt8, a_mask: UInt8, b: UInt8, b_mask: UInt8) -> float | None:
    """How far apart the colours of two regions are, CIE Lab units; None where one of them has next to no pixels.

    Args:
        a: RGB uint8 (H, W, 3).
        a_mask: uint8 (H, W), not 0 in the region.
        b: RGB of another size.
        b_mask: of it.
    """
    if min(int((mask > 0).sum()) for mask in (a_mask, b_mask)) < MIN_PX:
        return None
    spreads = [np.quantile(to_lab(image)[mask > 0], QUANTILES, axis=0) for image, mask in ((a, a_mask), (b, b_mask))]
    return float(np.linalg.norm(np.abs(spreads[0] - spreads[1]).mean(axis=0)))


def texture_distance(a: UInt8, a_mask: UInt8, b: UInt8, b_mask: UInt8) -> float | None:
    """By how many doublings the local contrast of two regions differs; None where one has next to no pixels.

    Args:
        a: RGB uint8 (H, W, 3).
        a_mask: uint8 (H, W), not 0 in the region.
        b: RGB of another size.
        b_mask: of it.
    """
    contrasts = [_contrasts(image, mask) for image, mask in ((a, a_mask), (b, b_mask))]
    if contrasts[0] is None or contrasts[1] is None:
        return None
    return float(np.abs(np.log2(contrasts[0] / contrasts[1])).mean())


def print_correlation(warped: UInt8, warped_mask: UInt8, truth: UInt8, truth_mask: UInt8) -> float | None:
    """Whether letters and motifs are as they should be, wherever they lie: 1 for equal ones; None without a print.

    The garment as it truly lies is cut into tiles, of which those with contrast are looked for in the warped garment
    around their place: the mean of their largest normalised correlations.

    Args:
        warped: RGB uint8 (H, W, 3).
        warped_mask: uint8 (H, W), 0..255.
        truth: the visible garment as it truly lies, RGB uint8 (H, W, 3).
        truth_mask: uint8 (H, W), {0, 1}.
    """
    side = max(8, truth.shape[0] // TILES)
    reach = round(REACH_OF_TILE * side)
    shown, true = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (warped * (warped_mask > 0)[..., None], truth))
    shown = cv2.copyMakeBorder(shown, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
    found = []
    for y in range(0, true.shape[0] - side + 1, side // 2):
        for x in range(0, true.shape[1] - side + 1, side // 2):
            tile = true[y : y + side, x : x + side]
            if not truth_mask[y : y + side, x : x + side].all() or tile.std() < LEAST_CONTRAST:
                continue
            around = shown[y : y + side + 2 * reach, x : x + side + 2 * reach]
            found.append(float(cv2.matchTemplate(around, tile, cv2.TM_CCOEFF_NORMED).max()))
    return float(np.clip(np.mean(found), -1, 1)) if found else None


def changed_share(result: UInt8, photo: UInt8, region: UInt8) -> float | None:
    """The share of a region's pixels in which a result is not the photo; None of an empty region."""
    inside = region > 0
    return float((result != photo).any(axis=-1)[inside].mean()) if inside.any() else None


def head_region(batch: Batch, i: int) -> UInt8:
    """Face down to the chin, hair and what is worn on the head: uint8 (H, W), {0, 1}.

    The parse's face goes on to the throat, which another neckline may cover.
    """
    parse = batch["parse"][i]
    body = body_of(np.asarray(batch["pose"][i], dtype=np.float32))
    ys, xs = np.mgrid[0 : parse.shape[0], 0 : parse.shape[1]].astype(np.float32)
    face = np.hypot(xs - body.face[0], ys - body.face[1]) < FACE_REACH * body.face_radius
    return np.asarray(np.isin(parse, HEAD) | ((parse == Label.FACE) & face), dtype=np.uint8)


def hands_region(batch: Batch, i: int) -> UInt8:
    """Skin of the arms from the wrists on: uint8 (H, W), {0, 1}."""
    parse = batch["parse"][i]
    body = body_of(np.asarray(batch["pose"][i], dtype=np.float32))
    zone = np.zeros(parse.shape, dtype=np.uint8)
    for side in SIDES:
        wrist, tip = body.arm(side)[2], hand_tip(body, side)
        draw_capsule(zone, wrist + REACH * (tip - wrist), tip, 0.2 * body.unit, 0.3 * body.unit)
    return ((zone > 0) & np.isin(parse, ARMS)).astype(np.uint8)


def unpaired_figures(batch: Batch, i: int, result: UInt8) -> dict[str, float | None]:
    """Figures of a result without a truth; see `tryon.evaluation.figures`."""
    person, garment, mask = batch["person"][i], batch["garment"][i], batch["garment_mask"][i]
    region = shown_region(batch, i)
    return {
        "colour": colour_distance(result, region, garment, mask),
        "texture": texture_distance(result, region, garment, mask),
        "outside": changed_share(result, person, 1 - batch["agnostic_mask"][i]),
        "head": changed_share(result, person, head_region(batch, i)),
        "hands": changed_share(result, person, hands_region(batch, i)),
    }


def _contrasts(image: UInt8, mask: UInt8) -> Float32 | None:
    """Root mean squares of the lightness' bands in a region, with what lies outside it filled by its mean."""
    area = int((mask > 0).sum())
    if area < MIN_PX:
        return None
    x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    scale = SCALE_PX / np.sqrt(area)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    box = slice(y, y + height), slice(x, x + width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    light = cv2.resize(to_lab(image[box])[..., 0], size, interpolation=method)
    inside = cv2.resize((mask[box] > 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    light = np.where(inside, light, light[inside].mean() if inside.any() else 0).astype(np.float32)
    inner = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    if not inner.any():
        return None
    found, before = [], light
    for sigma in DETAILS_PX:
        after = cv2.GaussianBlur(light, (0, 0), sigma)
        found.append(max(FLOOR, float(np.sqrt(np.square(before - after)[inner].mean()))))
        before = after
    return np.asarray(found, dtype=np.float32)
