"""Development sets: some samples of a data set, chosen by a hash of their id, and smaller.

A sample is chosen if the hash of its id is among the smallest. So the choice is uniform, does not depend on the order
of the shards, and a larger number contains a smaller one. Two passes over the ids find it without holding them: the
first counts hashes in bins, the second looks closer at the one bin in which the last chosen lies.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.config import Config, Size
from tryon.data.augment.fit import fit_row
from tryon.data.derived import DerivedSource, decode_row, without_files
from tryon.data.job import Job
from tryon.data.rows import iter_rows
from tryon.data.shards import ROWS_PER_SHARD, shard_uri
from tryon.errors import DataError
from tryon.sample import Row

Stratify = Literal["none", "proportional", "equal"]
Task = tuple[tuple[int, int, int], ...]

NUM_BINS = 4096
READERS = 16  # threads; reading ids is waiting for storage
SHARDS_AT_ONCE = 1024
ALL = ""  # the one stratum where none are asked for


class DownsampleConfig(Config):
    """How much of a data set is taken."""

    num: int | None = Field(None, ge=1, description="samples; None takes all")
    size: Size | None = Field(None, description="(height, width) px all layers are brought to; None keeps theirs")
    stratify: Stratify = Field(
        "none", description="by category: proportional keeps the parent's shares exactly, equal takes as many of each"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="another seed, another choice")


@dataclass(frozen=True)
class Choice:
    """Which samples are chosen.

    Attributes:
        last: for each stratum the greatest hash that is chosen.
        counts: chosen samples of each shard.
    """

    last: Mapping[str, bytes]
    counts: npt.NDArray[np.int32]


def hash_of(row_id: str, seed: int) -> bytes:
    """What decides whether an id is chosen, 32 bytes."""
    return hashlib.sha256(f"{seed}\0{row_id}".encode("utf-8", "surrogatepass")).digest()


def _bin(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "big") >> 4


def _cut(counts: npt.NDArray[np.int64], num: int) -> tuple[int, int]:
    """The bin in which the `num`-th hash lies, and how many of that bin are taken."""
    total = np.cumsum(counts)
    at = int(np.searchsorted(total, num))
    return at, num - int(total[at] - counts[at])


def choose(shards: Sequence[str], num: int, stratify: Stratify, seed: int) -> Choice:
    """Chooses samples in two passes over the ids.

    Args:
        shards: URIs of the shards, in order.
        num: of samples; if there are fewer, all are chosen.
        stratify: see `DownsampleConfig`.
        seed: of the hash.

    Raises:
        DataError: a shard cannot be read, or an id is there twice where the choice ends.
    """
    bins: dict[str, npt.NDArray[np.int64]] = {}
    for digests in _digests(shards, stratify, seed):
        for stratum, values in digests.items():
            counts = np.bincount([_bin(value) for value in values], minlength=NUM_BINS)
            bins[stratum] = bins.get(stratum, 0) + counts
    quotas = _quotas({stratum: int(counts.sum()) for stratum, counts in bins.items()}, num, stratify)
    cuts = {stratum: _cut(bins[stratum], quota) for stratum, quota in quotas.items() if quota}
    below = np.zeros(len(shards), np.int32)
    close: dict[str, list[tuple[bytes, int]]] = {stratum: [] for stratum in cuts}
    for shard, digests in enumerate(_digests(shards, stratify, seed)):
        for stratum, values in digests.items():
            cut = cuts.get(stratum, (-1, 0))[0]
            below[shard] += sum(_bin(value) < cut for value in values)
            close.setdefault(stratum, []).extend((value, shard) for value in values if _bin(value) == cut)
    return _settle(below, close, cuts)


def _settle(
    below: npt.NDArray[np.int32], close: dict[str, list[tuple[bytes, int]]], cuts: Mapping[str, tuple[int, int]]
) -> Choice:
    last: dict[str, bytes] = {}
    for stratum, (_, taken) in cuts.items():
        ordered = sorted(close[stratum])
        last[stratum] = ordered[taken - 1][0]
        if taken < len(ordered) and ordered[taken][0] == last[stratum]:
            text = (
                "an id is in the data set twice, so that no exact number can be chosen; `tryon data validate` names it"
            )
            raise DataError(text, code="id-twice", field="--data")
        for _, shard in ordered[:taken]:
            below[shard] += 1
    return Choice(last, below)


def _quotas(sizes: Mapping[str, int], num: int, stratify: Stratify) -> dict[str, int]:
    """How many are taken of each stratum, given away one by one to whom most is due: with a larger number none loses.

    Proportional is Sainte-Laguë's method (largest remainders would take from one when the number grows).
    """
    quotas = dict.fromkeys(sizes, 0)
    due = [(0.0, name) for name in sorted(sizes)]
    heapq.heapify(due)
    for _ in range(min(num, sum(sizes.values()))):
        _, name = heapq.heappop(due)
        quotas[name] += 1
        if quotas[name] < sizes[name]:
            share = 1 if stratify == "equal" else sizes[name]
            heapq.heappush(due, ((2 * quotas[name] + 1) / share, name))
    return quotas


def _digests(shards: Sequence[str], stratify: Stratify, seed: int) -> Iterator[dict[str, list[bytes]]]:
    """Hashes of each shard's ids by stratum, shard by shard in order."""

    def read(uri: str) -> dict[str, list[bytes]]:
        out: dict[str, list[bytes]] = {}
        for row in iter_rows(uri, ("id", "category") if stratify != "none" else ("id",)):
            out.setdefault(_stratum(row, stratify), []).append(hash_of(row["id"], seed))
        return out

    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(shards), SHARDS_AT_ONCE):
            yield from pool.map(read, shards[start : start + SHARDS_AT_ONCE])


def _stratum(row: Row, stratify: Stratify) -> str:
    return ALL if stratify == "none" else str(row.get("category"))


class DownsampleSource(DerivedSource):
    """The chosen samples of a data set, in its order, in full shards."""

    def __init__(self, uri: str, config: DownsampleConfig) -> None:
        """Reads the manifest, and chooses.

        Raises:
            DataError: no data set, another schema version, a damaged shard, or no row at all.
        """
        super().__init__(uri)
        self._config = config
        shards = [shard_uri(self._uri, shard) for shard in range(self._manifest.num_shards)]
        num = self._manifest.rows if config.num is None else config.num
        if self._manifest.rows == 0:
            raise DataError(f"data set {uri!r} has no rows to choose from", code="data-empty", field="IN")
        self._choice = None if num >= self._manifest.rows else choose(shards, num, config.stratify, config.seed)

    def tasks(self) -> Iterable[Any]:
        """Parts of shards that make a full shard: number, how many chosen rows to pass over, how many to take."""
        return super().tasks() if self._choice is None else self._packed(self._choice.counts)

    @staticmethod
    def _packed(counts: npt.NDArray[np.int32]) -> Iterator[Task]:
        task: list[tuple[int, int, int]] = []
        room = ROWS_PER_SHARD
        for shard in np.flatnonzero(counts).tolist():
            passed, left = 0, int(counts[shard])
            while left:
                take = min(left, room)
                task.append((shard, passed, take))
                passed, left, room = passed + take, left - take, room - take
                if room == 0:
                    yield tuple(task)
                    task, room = [], ROWS_PER_SHARD
        if task:
            yield tuple(task)

    def read(self, task: Any) -> list[Row]:
        """The chosen rows of a task."""
        if self._choice is None:
            return super().read(task)
        rows = (row for shard, passed, take in task for row in islice(self._chosen(shard), passed, passed + take))
        return self.derive_all(map(decode_row, rows))

    def _chosen(self, shard: int) -> Iterator[Row]:
        assert self._choice is not None
        for row in iter_rows(shard_uri(self._uri, shard)):
            last = self._choice.last.get(_stratum(row, self._config.stratify), b"")
            if hash_of(row["id"], self._config.seed) <= last:
                yield row

    def derive(self, row: Row) -> Sequence[Row]:
        """The row itself, at the size that is asked for."""
        if self._config.size is None:
            return [row]
        return [fit_row(without_files(row, keep=self.parent_fields), self._config.size)]


def downsample_job(uri: str, config: DownsampleConfig) -> Job:
    """A job that writes some samples of a data set, at another size if asked for; the choice is made here.

    Args:
        uri: of the data set.
        config: how many, how large.

    Raises:
        DataError: no data set, no rows, another schema version, a damaged shard, or an id is there twice.
    """
    source = DownsampleSource(uri, config)
    return Job(source, [], source.parent_fields, {"downsample": config.model_dump(mode="json")}, (source.parent,))
