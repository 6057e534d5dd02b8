"""Samples for the report: pictures of their layers, and what was set aside with its reason."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.codec import decode_value, encode_jpeg
from tryon.data.look.overlays import draw_dense, draw_pose, outline, overlay_parse
from tryon.data.rows import iter_rows
from tryon.data.shards import quarantine_uri, shard_uri
from tryon.engines.dataset import ShardReport
from tryon.errors import TryonError
from tryon.images import decode_photo, resize
from tryon.sample import Row

UInt8 = npt.NDArray[np.uint8]
VIEWS: Mapping[str, str] = {
    "pose": "pose", "parse": "parse", "agnostic": "agnostic", "dense": "dense", "garment": "garment mask",
    "generated": "with faults", "photo_file": "unsorted photo",
}  # fmt: skip
DRAWN = ("person", "pose", "parse", "agnostic", "dense", "garment", "garment_mask", "generated", "photo_file")
TOLD = ("id", "category", "split")
JPEG_QUALITY = 82
EXAMPLES = 4  # rejected samples shown of each reason


@dataclass(frozen=True)
class Shown:
    """A sample on the page: its words, and JPEGs by view as data URIs."""

    told: Mapping[str, str]
    views: Mapping[str, str]


@dataclass
class Reason:
    """Why rows were set aside.

    Attributes:
        code: of the error.
        count: rows.
        stages: who found it, and how often.
        examples: the first few, with a picture where the photo can still be read.
    """

    code: str
    count: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)


class PictureWorker:
    """Draws chosen rows of a shard."""

    def __init__(self, height: int) -> None:
        self._height = height

    def process(self, shard: int, task: tuple[str, int, list[int]]) -> ShardReport:
        """Payload: by chosen row what is told, and the pictures."""
        uri, number, chosen = task
        rows = enumerate(iter_rows(shard_uri(uri, number), (*TOLD, *DRAWN)))
        shown = [_show(row, self._height) for i, row in rows if i in set(chosen)]
        return ShardReport(shard, len(shown), len(shown), 0, payload=json.dumps(shown))


def _show(encoded: Row, height: int) -> list[dict[str, str]]:
    row = {name: decode_value(name, value) for name, value in encoded.items()}
    views = {name: as_jpeg(view, height) for name in VIEWS if (view := _view(name, row)) is not None}
    return [{name: str(row[name]) for name in TOLD if row.get(name)}, views]


def _view(name: str, row: Row) -> UInt8 | None:
    """One picture; None where the row lacks what it shows."""
    person = row.get("person")
    if name == "pose":
        return None if person is None else draw_pose(person, row.get("pose"))
    if row.get(name) is None:
        return None
    if name == "garment":
        return outline(row[name], row.get("garment_mask"))
    if name == "parse":
        return None if person is None else overlay_parse(person, row[name])
    if name == "photo_file":
        return _unsorted(row[name])
    image: UInt8 = draw_dense(row[name]) if name == "dense" else row[name]
    return image


def _unsorted(photo: bytes) -> UInt8 | None:
    try:
        return decode_photo(photo, "photo").pixels
    except TryonError:  # it has not been decoded yet, so it may be anything
        return None


def as_jpeg(image: UInt8, height: int) -> str:
    """A picture as a data URI, at most `height` px tall."""
    scale = min(1.0, height / image.shape[0])
    small = resize(image, max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(small, JPEG_QUALITY)).decode()


def spread(counts: Sequence[int], num: int) -> dict[int, list[int]]:
    """Rows spread evenly over a data set: by shard, places in it.

    Args:
        counts: rows of each shard.
        num: rows to choose, at the most.
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    chosen: dict[int, list[int]] = {}
    for row in sorted({round(float(v)) for v in np.linspace(0, total - 1, min(num, total))}) if total else ():
        shard = int(np.searchsorted(ends, row, side="right"))
        chosen.setdefault(shard, []).append(row - int(ends[shard]) + counts[shard])
    return chosen


def rejected_in(uri: str, shard: int) -> list[dict[str, str]]:
    """What was set aside of a shard: the first of each reason as examples, with how many rows have it."""
    path = quarantine_uri(uri, shard)
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in iter_rows(path) if storage.exists(path) else ():
        told = {name: str(value) for name, value in row.items() if value is not None}
        key = told.get("error_code", "-"), told.get("error_stage", "-")
        found.setdefault(key, []).append(told)
    return [
        {"code": code, "stage": stage, "count": str(len(rows)), "examples": json.dumps(rows[:EXAMPLES])}
        for (code, stage), rows in sorted(found.items())
    ]


class Rejections:
    """Reasons over all shards; the examples are those of the lowest shards, whatever order reports come in."""

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}
        self._places: dict[str, list[tuple[int, int, str]]] = {}

    def add(self, shard: int, found: Sequence[Mapping[str, str]]) -> None:
        """Takes in what `rejected_in` said of a shard."""
        for told in found:
            code, count = told["code"], int(told["count"])
            reason = self._reasons.setdefault(code, Reason(code))
            reason.count += count
            reason.stages[told["stage"]] += count
            new = [(shard, i, json.dumps(row)) for i, row in enumerate(json.loads(told["examples"]))]
            self._places[code] = sorted(self._places.get(code, []) + new)[:EXAMPLES]

    def reasons(self, height: int) -> list[Reason]:
        """Most frequent first, with pictures of the examples where the photo can still be read."""
        for code, reason in self._reasons.items():
            reason.examples = [_example(json.loads(text), height) for _, _, text in self._places[code]]
        return sorted(self._reasons.values(), key=lambda reason: (-reason.count, reason.code))


def _example(row: dict[str, str], height: int) -> dict[str, str]:
    for name in ("person_uri", "garment_uri"):
        picture = _photo(row[name], height) if name in row else None
        if picture is not None:
            return row | {"picture": picture}
    return row


def _photo(uri: str, height: int) -> str | None:
    """The photo as it is now at its source; none where it is gone or cannot be read, as may be why it was rejected."""
    if "://" in uri and not uri.startswith(("s3://", "file://")):
        return None
    try:
        return as_jpeg(decode_photo(storage.read_bytes(uri), uri).pixels, height)
    except TryonError:
        return None
