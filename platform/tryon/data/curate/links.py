"""The two steps that find links: index each row by its keys, and link the rows that share one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.curate.bits import BANDS, CODE_BYTES, SMALL, band_values, codes_of, near_links, near_pairs
from tryon.data.curate.shuffle import read_partition, run_uri, write_run
from tryon.data.curate.steps import NODE_BITS, read_columns, told_by, work_folder, write_table
from tryon.engines.dataset import ShardReport

if TYPE_CHECKING:
    import pyarrow as pa

LINKS = "_links"
HASHES = ("person_hash", "garment_hash")
SPLITS = ("train", "val", "test")
_COLUMNS = ("id", "split", "person_id", "garment_id", "person_digest", "garment_digest", *HASHES)


class Kind(IntEnum):
    """Why two rows are linked."""

    PERSON_ID = 1
    GARMENT_ID = 2
    PERSON_SAME = 3
    GARMENT_SAME = 4
    PERSON_NEAR = 5
    GARMENT_NEAR = 6


class Flag(IntEnum):
    """What a link tells of each of its rows, beside the two bits of its own split (0 none, else 1 + its place)."""

    SPLIT = 3
    PERSON = 4
    GARMENT = 8


class DuplicateConfig(Config):
    """What counts as the same photo."""

    max_structure: int | None = Field(
        32, ge=0, le=128, description="differing bits of 256 of a near duplicate's structure; null: exact ones only"
    )
    max_colour: int = Field(12, ge=0, le=128, description="differing bits of 128 of a near duplicate's colour")


def links_uri(uri: str, part: int) -> str:
    """URI of a partition's links."""
    return storage.join(uri, LINKS, f"part-{part:05d}.parquet")


class IndexWorker:
    """Reads the ids, digests and hashes of a group of shards, and writes them by key."""

    def __init__(self, uri: str, key: str, num_parts: int, config: DuplicateConfig) -> None:
        self._uri = uri
        self._folder = work_folder(storage.join(uri, LINKS))
        self._key = key
        self._num_parts = num_parts
        self._bands = BANDS if config.max_structure is not None else 0

    def process(self, shard: int, task: range) -> ShardReport:
        """Writes the group's run, unless it is there."""
        told = told_by(run_uri(self._folder, shard), self._key)
        if told is None:
            tables = [self._records(number) for number in task]
            rows = sum(rows for rows, _ in tables)
            told = {"key": self._key, "rows": rows}
            table = _concat([table for _, table in tables])
            partition = (table.column("key").to_numpy() % np.uint64(self._num_parts)).astype(np.int64)
            write_run(self._folder, shard, table, partition, self._num_parts, told)
        return ShardReport(shard, told["rows"], told["rows"], 0)

    def _records(self, shard: int) -> tuple[int, pa.Table]:
        columns = read_columns(self._uri, shard, _COLUMNS)
        flags = [_flags(*row) for row in zip(columns["split"], *(columns[name] for name in HASHES), strict=True)]
        nodes = [(shard << NODE_BITS) + row for row in range(len(flags))]
        rows = list(zip(nodes, columns["id"], flags, strict=True))
        tables = []
        for kind, name in (
            (Kind.PERSON_ID, "person_id"), (Kind.GARMENT_ID, "garment_id"),
            (Kind.PERSON_SAME, "person_digest"), (Kind.GARMENT_SAME, "garment_digest"),
        ):  # fmt: skip
            there = [i for i, value in enumerate(columns[name]) if value]
            keys = np.array([_key_of(kind, columns[name][i]) for i in there], dtype=np.uint64)
            tables.append(_table(kind, 0, keys, [rows[i] for i in there], None))
        for kind, name in zip((Kind.PERSON_NEAR, Kind.GARMENT_NEAR), HASHES, strict=True):
            there = [i for i, value in enumerate(columns[name]) if value] if self._bands else []
            codes = codes_of([columns[name][i] for i in there])
            values = band_values(codes)
            for band in range(self._bands):
                keys = _mixed((np.uint64(kind << 8 | band) << np.uint64(16)) | values[:, band])
                tables.append(_table(kind, band, keys, [rows[i] for i in there], codes))
        return len(rows), _concat(tables)


def _flags(split: str | None, person_hash: str | None, garment_hash: str | None) -> int:
    own = SPLITS.index(split) + 1 if split in SPLITS else 0
    return own | (Flag.PERSON if person_hash else 0) | (Flag.GARMENT if garment_hash else 0)


def _key_of(kind: Kind, value: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{kind}:{value}".encode(), digest_size=8).digest(), "big")


def _mixed(values: Any) -> Any:
    """The finaliser of SplitMix64: neighbours end far apart, so that partitions fill evenly."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _table(kind: Kind, band: int, keys: Any, rows: list[tuple[int, str, int]], codes: Any) -> pa.Table:
    import pyarrow as pa

    count = len(rows)
    code = pa.nulls(count, pa.binary(CODE_BYTES))
    if codes is not None and count:
        code = pa.FixedSizeBinaryArray.from_buffers(pa.binary(CODE_BYTES), count, [None, pa.py_buffer(codes.tobytes())])
    return pa.table(
        {
            "kind": pa.array(np.full(count, int(kind), np.uint8)),
            "band": pa.array(np.full(count, band, np.uint8)),
            "key": pa.array(keys.astype(np.uint64)),
            "node": pa.array([node for node, _, _ in rows], pa.int64()),
            "flags": pa.array([flags for _, _, flags in rows], pa.uint8()),
            "id": pa.array([row_id for _, row_id, _ in rows], pa.string()),
            "code": code,
        }
    )


def _concat(tables: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables).combine_chunks()


class LinkWorker:
    """Links the records of one partition that share a key."""

    def __init__(self, uri: str, key: str, num_runs: int, config: DuplicateConfig) -> None:
        self._uri = uri
        self._key = key
        self._num_runs = num_runs
        self._config = config

    def process(self, shard: int, task: int) -> ShardReport:
        """Writes the partition's links, unless they are there."""
        path = links_uri(self._uri, shard)
        told = told_by(path, self._key)
        if told is None:
            records = read_partition(work_folder(storage.join(self._uri, LINKS)), self._num_runs, task, self._key)
            records = records.sort_by([(name, "ascending") for name in ("kind", "band", "key", "node")])
            links = sorted(self._links(records))
            found = Counter(kind for kind, *_ in links)
            told = {"key": self._key, "counts": {kind.name.lower(): found[kind] for kind in Kind}}
            write_table(path, _link_table(records, links), told)
        rows, digest = sum(told["counts"].values()), storage.sha256(storage.read_bytes(path))
        return ShardReport(shard, rows, rows, 0, digest, payload=json.dumps(told["counts"]))

    def _links(self, records: pa.Table) -> Iterator[tuple[int, int, int, int, int]]:
        """(kind, place of a, place of b, structure bits, colour bits) with places in `records`."""
        keys = [records.column(name).to_numpy() for name in ("kind", "band", "key")]
        if not len(keys[0]):
            return
        changes = np.any([column[1:] != column[:-1] for column in keys], axis=0)
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        sizes = np.diff(np.append(starts, len(records)))
        exact = keys[0][starts] < Kind.PERSON_NEAR
        for first, size in zip(starts[exact & (sizes > 1)].tolist(), sizes[exact & (sizes > 1)].tolist(), strict=True):
            yield from ((int(keys[0][first]), first, other, 0, 0) for other in range(first + 1, first + size))
        skip = int(np.searchsorted(keys[0], Kind.PERSON_NEAR))  # sorted by kind: those that have a code come last
        near = self._near(_codes(records["code"].slice(skip)), keys[1][skip:], starts[~exact] - skip, sizes[~exact])
        for i, j, structure, colour in near:
            yield int(keys[0][skip + i]), skip + i, skip + j, structure, colour

    def _near(self, codes: Any, bands: Any, starts: Any, sizes: Any) -> Iterator[tuple[int, int, int, int]]:
        most = self._config.max_structure, self._config.max_colour
        if most[0] is None:
            return
        small = (sizes > 1) & (sizes <= SMALL)
        yield from near_pairs(codes, starts[small], sizes[small], most[0], most[1])
        for first, size in zip(starts[sizes > SMALL].tolist(), sizes[sizes > SMALL].tolist(), strict=True):
            for i, j, structure, colour in near_links(codes[first : first + size], int(bands[first]), most[0], most[1]):
                yield first + i, first + j, structure, colour


def _codes(column: pa.ChunkedArray) -> Any:
    """Fixed-size binary values as uint8 (N, 48), not copied if they are in one chunk."""
    import pyarrow as pa

    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    values = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
    return values[array.offset * CODE_BYTES : (array.offset + len(array)) * CODE_BYTES].reshape(-1, CODE_BYTES)


def _link_table(records: pa.Table, links: list[tuple[int, int, int, int, int]]) -> pa.Table:
    import pyarrow as pa

    kind, a, b, structure, colour = (
        np.array(column, dtype=np.int64) for column in (zip(*links, strict=True) if links else [[]] * 5)
    )
    out = {"kind": pa.array(kind.astype(np.uint8))}
    for side, places in (("a", a), ("b", b)):
        rows = records.select(["node", "id", "flags"]).take(pa.array(places))
        out |= {f"{name}_{side}": rows.column(name) for name in rows.column_names}
    out |= {"structure": pa.array(structure.astype(np.uint16)), "colour": pa.array(colour.astype(np.uint16))}
    return pa.table(out)
