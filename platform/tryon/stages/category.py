"""Category stage: upper, lower or dress where nobody has said, from the garment's outline or the person's parse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.sample import Label, Row
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

ROWS = 100  # a garment's outline is looked at with its bounding box brought to this many rows
MIN_AREA_PX = 60
WORN_SHARE = 0.004  # of the frame: less of a garment in a parse does not count
EDGE, BELOW_EDGE = slice(0, 2), slice(5, 8)  # rows
# Measured on 24 photos of tops and 400 simulated garments, thresholds between what the kinds reach.
BAND = 0.8  # necklines 0.01 to 0.75, waistbands 0.87 to 1
LEG_ROWS = 0.18  # share of the rows, from the bottom up, that two legs must take
MAX_STRIDE = 1.3  # gap between legs, x a leg's width
LONG, FLARE_WEIGHT = 2.65, 1.6  # all 24 tops lie below, 80 % of simulated dresses above: short ones look like tops
SOFTNESS = {"band": 0.12, "legs": 0.08, "long": 0.5}  # how far from its threshold a measure is sure


@dataclass(frozen=True)
class Guess:
    """A category and how sure it is: 0 a toss-up, 1 certain."""

    category: str
    confidence: float


class Category(RowStage):
    """Fills in `category`.

    Where the row has a garment photo, its outline decides: a neckline or sleeves make a top, and a dress if it is
    long; two legs, or a waistband with nothing above it, make a lower garment. A row with a person only takes the
    garment that is worn: ``dress`` where the parse shows more of a dress than of a top, ``lower`` where it shows no
    top at all, else ``upper``.

    Reads nothing; looks at ``garment_mask`` and ``parse``; adds ``category``. A row about which nothing can be said,
    or less than `min_confidence`, ends with the code ``"category-unclear"``: a guess would spoil a data set in silence.

    Args:
        min_confidence: 0..1; see `Guess`.
    """

    name: ClassVar[str] = "category"
    optional = ("garment_mask", "parse")
    adds = ("category",)

    def __init__(self, min_confidence: float = 0.1) -> None:
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence = {min_confidence} is not allowed: 0 to 1")
        self._min_confidence = min_confidence

    def process(self, row: Row) -> Row:
        """Adds the category.

        Raises:
            SampleError: nothing tells the category, or not clearly.
        """
        garment_mask, parse = row.get("garment_mask"), row.get("parse")
        guess = garment_category(garment_mask) if garment_mask is not None else None
        if guess is None and parse is not None:
            guess = worn_category(parse)
        if guess is None:
            raise _unclear("the row has neither a garment's outline nor a parse that shows clothes")
        if guess.confidence < self._min_confidence:
            seen = f"it looks like {guess.category!r}, but its score is {guess.confidence:.2f}"
            raise _unclear(f"{seen} and {self._min_confidence:g} is asked for")
        return {"category": guess.category}


def _unclear(reason: str) -> SampleError:
    text = f"the garment's category is unclear: {reason}; state it in the column 'category'"
    return SampleError(text, code="category-unclear", field="category")


def worn_category(parse: UInt8) -> Guess | None:
    """Category of the garment that a person wears, for rows without a garment photo.

    Args:
        parse: uint8 (H, W), values of `Label`.

    Returns:
        None where the parse shows no clothes.
    """
    counts = np.bincount(parse.ravel(), minlength=len(Label)) / parse.size
    upper, dress = float(counts[Label.UPPER_CLOTHES]), float(counts[Label.DRESS])
    lower = float(counts[Label.SKIRT] + counts[Label.PANTS])
    if max(upper, dress, lower) < WORN_SHARE:
        return None
    if dress > upper:
        return Guess("dress", (dress - upper) / dress)
    if upper < WORN_SHARE:
        return Guess("lower", 1 - upper / max(lower, WORN_SHARE))
    return Guess("upper", (upper - dress) / upper)


def garment_category(mask: UInt8) -> Guess | None:
    """Category of a garment by its outline in an upright product photo.

    Args:
        mask: uint8 (H, W), {0, 1}.

    Returns:
        None for a mask with next to nothing in it.
    """
    shape = _normalised(mask)
    if shape is None:
        return None
    legs = _leg_share(shape)
    band = _band(shape)
    has_legs = _sure(legs, LEG_ROWS, SOFTNESS["legs"])
    has_band = _sure(band, BAND, SOFTNESS["band"])
    is_long = _sure(_length(shape), LONG, SOFTNESS["long"])
    if has_legs > 0:
        if has_band > -0.5:
            return Guess("lower", has_legs)
        return Guess("dress", min(has_legs, -has_band))  # a jumpsuit: worn like a dress
    if has_band > 0:
        return Guess("lower", has_band)
    if is_long > 0:
        return Guess("dress", min(is_long, -has_band))
    return Guess("upper", min(-is_long, -has_band))


def _sure(value: float, threshold: float, softness: float) -> float:
    """-1 far below a threshold, 0 on it, 1 far above."""
    return float(np.clip((value - threshold) / softness, -1, 1))


def _normalised(mask: UInt8) -> Bool | None:
    """The largest piece and what is nearly as large, cut to its bounding box, `ROWS` rows high, aspect kept."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    if count <= 1:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    if areas.max() < MIN_AREA_PX:
        return None
    keep = np.concatenate([[False], areas >= 0.3 * areas.max()])[labels]
    ys, xs = np.nonzero(keep)
    cut = keep[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.uint8) * np.uint8(255)
    width = max(4, round(cut.shape[1] * ROWS / cut.shape[0]))
    return np.asarray(cv2.resize(cut, (width, ROWS), interpolation=cv2.INTER_AREA) > 127)


def _runs(row: Bool) -> list[tuple[int, int]]:
    """Stretches of True as (start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _leg_share(shape: Bool) -> float:
    """Share of the rows, counted from the bottom, that show two legs: sleeves hang farther apart than they are wide."""
    full = float(np.quantile(shape.sum(axis=1), 0.9))
    count = 0
    for row in shape[::-1]:
        runs = [(a, b) for a, b in _runs(row) if b - a > 0.06 * full]
        if len(runs) < 2 and count <= 3:  # hems may touch
            count += 1
            continue
        if len(runs) != 2:
            break
        first, second = runs[0][1] - runs[0][0], runs[1][1] - runs[1][0]
        if min(first, second) < 0.5 * max(first, second) or runs[1][0] - runs[0][1] > MAX_STRIDE * max(first, second):
            break
        count += 1
    return count / len(shape) if count > 4 else 0.0


def _band(shape: Bool) -> float:
    """How much of the garment's upper edge is there, x its extent a little below: 1 for a waistband, less for necks."""
    extent = [runs[-1][1] - runs[0][0] for runs in map(_runs, shape[BELOW_EDGE]) if runs]
    return float(np.median(shape[EDGE].sum(axis=1))) / max(float(np.median(extent)) if extent else 0.0, 1.0)


def _length(shape: Bool) -> float:
    """Length by waist, more where the hem is wider than the waist, as a skirt's is.

    Sleeves do not count where a gap parts them from the body.
    """
    middle = shape.shape[1] // 2
    bottom = int(np.flatnonzero(shape[:, max(0, middle - 2) : middle + 3].any(axis=1))[-1]) + 1
    widths = np.array([_body_width(row) for row in shape[:bottom]])
    trunk = widths[round(0.3 * bottom) : round(0.75 * bottom)]
    if not (trunk > 0).any():
        return 0.0
    waist = float(np.quantile(trunk[trunk > 0], 0.15))
    hem = float(np.quantile(widths[round(0.75 * bottom) : round(0.97 * bottom)], 0.3))  # sleeves may touch the hem
    return bottom / waist + FLARE_WEIGHT * (float(np.clip(hem / waist, 0.8, 2.2)) - 1.1)


def _body_width(row: Bool) -> int:
    """Width of the middle one of an odd number of stretches; 0 where there is no middle one."""
    runs = _runs(row)
    return runs[len(runs) // 2][1] - runs[len(runs) // 2][0] if len(runs) % 2 else 0
