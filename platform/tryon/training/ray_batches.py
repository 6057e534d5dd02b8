"""Epochs of a Ray Data shard as batches: shuffled without copying blocks around, the next epoch begun ahead.

Ray Data starts its pipeline anew for each epoch, which takes seconds. Here an epoch's first rows are asked for as soon
as the last of the epoch before are in the shuffle buffer, so that they come while those are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tryon.data.ingest import BYTES_A_PIXEL, join_rows
from tryon.sample import Batch, Row
from tryon.training.prefetch import Ahead

SHUFFLE_ROWS = 512
SHUFFLE_BYTES = 600_000_000  # of the buffer; as much again waits for it
Block = Mapping[str, Any]


class RayEpochs:
    """Training batches of a worker's shard, epoch by epoch.

    The same epoch of the same shard gives the same batches in every run, where the shard keeps its order.

    Args:
        shard: of `ray.train.get_dataset_shard`.
        batch_size: rows of a batch; a smaller last one is dropped.
        size: (height, width) px of the rows.
        seed: of the shuffling.
    """

    def __init__(self, shard: Any, batch_size: int, size: tuple[int, int], seed: int) -> None:
        self._shard = shard
        self._batch_size = batch_size
        self._seed = seed
        fitting = SHUFFLE_BYTES // (BYTES_A_PIXEL * size[0] * size[1])
        self._buffered = max(batch_size, min(SHUFFLE_ROWS, fitting))
        self._rows: Iterator[Row | None] | None = None
        self._next = -1

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Batches of an epoch; to be used up before the next one is asked for."""
        if self._rows is None or epoch != self._next:
            self._rows = iter(Ahead(self._endless(), self._buffered))
        self._next = epoch + 1
        rows: list[Row] = []
        for row in self._shuffled(self._rows, np.random.default_rng(self._seed * 100_003 + epoch)):
            rows.append(row)
            if len(rows) == self._batch_size:
                yield join_rows(rows)
                rows = []

    def _shuffled(self, rows: Iterator[Row | None], rng: np.random.Generator) -> Iterator[Row]:
        """An epoch's rows: each is drawn from those that the buffer holds."""
        buffer: list[Row] = []
        while (row := next(rows)) is not None:
            buffer.append(row)
            if len(buffer) > self._buffered:
                yield _drawn(buffer, rng)
        while buffer:
            yield _drawn(buffer, rng)

    def _endless(self) -> Iterator[Row | None]:
        """Rows of epoch after epoch, each epoch's followed by None."""
        while True:
            for block in self._shard.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1):
                yield from _rows(block)
            yield None


def _rows(block: Block) -> Iterator[Row]:
    """Copies, so that a row does not hold its whole block in the object store."""
    for i in range(len(block["id"])):
        yield {name: np.array(c[i]) if isinstance(c[i], np.ndarray) else c[i] for name, c in block.items()}


def _drawn(buffer: list[Row], rng: np.random.Generator) -> Row:
    place = int(rng.integers(len(buffer)))
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()
