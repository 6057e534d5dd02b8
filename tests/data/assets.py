"""Small data sets that tests make and then spoil."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from tryon.data.job import Job, run_job
from tryon.data.shards import Manifest
from tryon.data.simulator import simulate
from tryon.data.sources.base import Source
from tryon.sample import ERROR_FIELDS, Row
from tryon.stages.agnostic import Agnostic
from tryon.stages.fingerprint import Fingerprint

SIZE = (128, 96)
SPOILED = "sim-3-00000002"
Spoil = Callable[[Row], object]


class RowsSource(Source):
    """Rows that a test holds, `per_shard` in a shard."""

    licence = "CC0-1.0"

    def __init__(self, rows: Sequence[Row], per_shard: int) -> None:
        names = dict.fromkeys(name for row in rows for name in row if name not in ERROR_FIELDS)
        self.fields: tuple[str, ...] = tuple(names)
        self._rows, self._per_shard = list(rows), per_shard

    def tasks(self) -> list[list[Row]]:
        return [self._rows[i : i + self._per_shard] for i in range(0, len(self._rows), self._per_shard)]

    def read(self, task: list[Row]) -> list[Row]:
        return task


@lru_cache(maxsize=1)
def _drawn() -> tuple[Row, ...]:
    rows = []
    for i in range(5):
        row = simulate(3, i, *SIZE)
        row |= Agnostic().process(row)
        chart = row["parse"] * row["person_mask"]
        row["dense"] = np.dstack([row["person_mask"] * np.uint8(2), chart, chart])
        row |= Fingerprint().process(row)
        rows.append(row | {"split": "train" if i else "test", "quality": '{"blur": 0.5}'})
    return tuple(rows)


def clean_rows() -> list[Row]:
    """Five simulated samples with every layer; each call gives arrays of its own."""
    return [{name: v.copy() if isinstance(v, np.ndarray) else v for name, v in row.items()} for row in _drawn()]


def write_rows(
    uri: str, rows: Sequence[Row], *, per_shard: int = 3, config: dict[str, object] | None = None
) -> Manifest:
    """Writes rows as a data set; rows with an `error_code` go to its quarantine."""
    source = RowsSource(rows, per_shard)
    return run_job(Job(source, [], source.fields, dict(config or {})), uri, num_actors=0)


def write_clean(uri: str, spoil: Spoil | None = None) -> Manifest:
    """A clean data set of two shards and a quarantined row; `spoil` changes the sample `SPOILED` first."""
    rows = clean_rows()
    if spoil is not None:
        spoil(next(row for row in rows if row["id"] == SPOILED))
    bad = {"id": "torn", "error_code": "image-truncated", "error": "torn.jpg is cut short", "error_stage": "decode"}
    return write_rows(uri, [*rows, bad])
