"""Figures over all rows of a data set: counts that add up in any order to the same, in memory that does not grow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tryon.sample import NUM_LABELS, Joint, Row

SEEN = 0.5  # confidence from which a keypoint counts as seen
PPM = 1_000_000
DIGITS = 3
SHARES = ("person_mask", "garment_mask", "agnostic_mask")
READS = (*SHARES, "pose", "parse", "quality")


class Tally:
    """Distributions of a data set.

    Numbers are kept to three significant digits, each with how often it came: a few thousand entries at the most,
    from which any histogram can be drawn.

    Attributes:
        numbers: by name, how often each value came.
        labels: pixels of each class, summed over rows as millionths of the frame.
        joints: rows in which each joint is seen.
        parsed: rows with a parse.
        posed: rows with a pose.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, Counter[float]] = {}
        self.labels = [0] * NUM_LABELS
        self.joints = [0] * len(Joint)
        self.parsed = self.posed = 0

    def add_row(self, row: Row) -> None:
        """Takes in a decoded row; of `READS` it may lack any."""
        for name in SHARES:
            if row.get(name) is not None:
                self._note(name, float((row[name] > 0).mean()))
        if row.get("pose") is not None:
            confidence = row["pose"][:, 2]
            self.posed += 1
            for joint in np.nonzero(confidence >= SEEN)[0]:
                self.joints[int(joint)] += 1
            for value in confidence[confidence > 0]:
                self._note("confidence", float(value))
        if row.get("parse") is not None:
            self.parsed += 1
            pixels = np.bincount(row["parse"].ravel(), minlength=NUM_LABELS)[:NUM_LABELS]
            self.labels = [a + int(n) * PPM // row["parse"].size for a, n in zip(self.labels, pixels, strict=True)]
        for name, score in _scores(row.get("quality")):
            self._note(f"quality {name}", score)

    def _note(self, name: str, value: float) -> None:
        self.numbers.setdefault(name, Counter())[float(f"{value:.{DIGITS}g}")] += 1

    def add(self, other: Tally) -> None:
        """Takes in the figures of other rows."""
        for name, counts in other.numbers.items():
            self.numbers.setdefault(name, Counter()).update(counts)
        self.labels = [a + b for a, b in zip(self.labels, other.labels, strict=True)]
        self.joints = [a + b for a, b in zip(self.joints, other.joints, strict=True)]
        self.parsed += other.parsed
        self.posed += other.posed

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it."""
        numbers = {name: sorted(counts.items()) for name, counts in self.numbers.items()}
        rest = {"labels": self.labels, "joints": self.joints, "parsed": self.parsed, "posed": self.posed}
        return {"numbers": numbers, **rest}

    @classmethod
    def load(cls, told: Mapping[str, Any]) -> Tally:
        """From `dump`."""
        tally = cls()
        tally.numbers = {name: Counter(dict(pairs)) for name, pairs in told["numbers"].items()}
        tally.labels, tally.joints = list(told["labels"]), list(told["joints"])
        tally.parsed, tally.posed = told["parsed"], told["posed"]
        return tally


def _scores(quality: str | None) -> Iterable[tuple[str, float]]:
    """Numbers of the quality field; what is no JSON object of numbers is passed by, validation tells of it."""
    try:
        told = json.loads(quality or "{}")
    except ValueError:
        return []
    if not isinstance(told, dict):
        return []
    return [(name, float(v)) for name, v in told.items() if isinstance(v, int | float) and np.isfinite(v)]
