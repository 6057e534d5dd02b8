"""By how much two values of a field differ, in the unit that suits its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.codec import decode_value
from tryon.config import Config
from tryon.sample import FIELDS, Kind

UNITS: Mapping[Kind, str] = {
    Kind.IMAGE: "mean difference, levels of 255",
    Kind.ALPHA: "mean difference, levels of 255",
    Kind.IUV: "IoU of parts, mean",
    Kind.MASK: "IoU",
    Kind.LABELS: "IoU of labels, mean",
    Kind.KEYPOINTS: "mean distance, px",
    Kind.LANDMARKS: "mean distance, m",
    Kind.FLOW: "mean distance, px",
    Kind.VECTOR: "mean difference",
    Kind.NUMBER: "mean difference",
}


class LayerChange(Config):
    """By how much a field changed, over the rows measured where it did."""

    unit: str = Field(description="of `mean` and `worst`")
    rows: int = Field(ge=0, description="rows whose value differs and could be measured")
    incomparable: int = Field(ge=0, description="rows where only one side has it, or the sizes differ")
    mean: float | None = Field(description="over those rows")
    worst: float | None = Field(description="of those rows: the smallest IoU, the largest difference")


def compare(name: str, old: Any, new: Any) -> float | str | None:
    """Measures one field of one row.

    Args:
        name: of the field.
        old: encoded value.
        new: encoded value.

    Returns:
        The measure in the field's unit; None where the values are equal or their kind has no unit; ``"none"`` where
        they cannot be compared.
    """
    if old == new or name not in FIELDS or FIELDS[name].kind not in UNITS:
        return None
    if old is None or new is None:
        return "none"
    a, b = (np.asarray(decode_value(name, value)) for value in (old, new))
    if a.shape != b.shape:
        return "none"
    return round(_measure(FIELDS[name].kind, a, b), 6)


def _measure(kind: Kind, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    if kind is Kind.IUV:
        return mean_iou(a[..., 0], b[..., 0])
    if kind in (Kind.MASK, Kind.LABELS):
        return mean_iou(a, b)
    difference = a.astype(np.float64) - b
    if kind is Kind.KEYPOINTS:
        seen = (a[:, 2] > 0) & (b[:, 2] > 0)
        return _mean(np.hypot(difference[seen, 0], difference[seen, 1]))
    if kind is Kind.LANDMARKS:
        return _mean(np.sqrt((difference[:, :3] ** 2).sum(axis=-1)))
    if kind is Kind.FLOW:
        distance = np.hypot(difference[..., 0], difference[..., 1])
        return _mean(distance[np.isfinite(distance)])
    return _mean(np.abs(difference))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if values.size else 0.0


def mean_iou(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    """Intersection over union, averaged over the labels but 0 that either map has; 1 where neither has any."""
    both = np.bincount(a[a == b], minlength=256)
    either = np.bincount(a.ravel(), minlength=256) + np.bincount(b.ravel(), minlength=256) - both
    present = np.nonzero(either[1:])[0] + 1
    return float((both[present] / either[present]).mean()) if len(present) else 1.0


def summed(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, LayerChange]:
    """What `compare` said of many rows, by field; fields without a unit are left out."""
    found = {}
    for name in fields:
        if name not in FIELDS or FIELDS[name].kind not in UNITS:
            continue
        values = [row[name] for row in rows if row[name] is not None]
        numbers = [value for value in values if value != "none"]
        unit = UNITS[FIELDS[name].kind]
        worst = min if "IoU" in unit else max
        found[name] = LayerChange(
            unit=unit,
            rows=len(numbers),
            incomparable=len(values) - len(numbers),
            mean=float(np.mean(numbers)) if numbers else None,
            worst=worst(numbers) if numbers else None,
        )
    return found
