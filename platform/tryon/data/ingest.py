"""Shards to training batches: decoded, brought to one size, split by a hash of the id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tryon import storage
from tryon.codec import decode_batch
from tryon.data.curate.splits import check_split, read_split, read_split_manifest
from tryon.data.derived import base_id
from tryon.data.shards import Manifest, read_encoded, read_shard, resize_row, shard_number, shard_uris
from tryon.errors import DataError
from tryon.sample import Batch, Row

if TYPE_CHECKING:
    from ray.data import Dataset

Split = Literal["train", "val"]
Cache = Literal["auto", "memory", "none"]
MATERIALIZE_BYTES = 4_000_000_000  # decoded sets up to this size are kept in memory between epochs
BYTES_A_PIXEL = 24  # of a decoded sample with the layers that training reads; 23 measured for `flow`


def in_split(row_id: str, split: Split, val_fraction: float) -> bool:
    """Which side of the split an id is on, where nothing else says so; the same on every machine and in every run.

    What was made from a sample (its variants) is on the sample's side.
    """
    # Not a CRC: on ids that count upwards its share strays (0.446 held out where 0.5 was asked, over 2,000).
    digest = hashlib.sha256(base_id(row_id).encode()).digest()
    held_out = int.from_bytes(digest[:8], "big") / 2**64 < val_fraction
    return held_out == (split == "val")


@dataclass(frozen=True)
class Sides:
    """Decides which rows of a data set are on the side that is asked for.

    `tryon data split` decides where it was run; else the `split` a row brings; else a hash of the id.

    Attributes:
        uri: of the data set.
        val_fraction: share of ids held out where the hash decides.
        is_split: `tryon data split` was run.
    """

    uri: str
    val_fraction: float
    is_split: bool

    def rows(self, shard: int, columns: Mapping[str, Sequence[Any]], split: Split) -> list[int]:
        """Places of the rows of a shard, whole or in part, that are on a side and lack no column but `split`."""
        ids = [str(row_id) for row_id in columns["id"]]
        told: Mapping[str, Any] = dict(zip(ids, columns["split"], strict=True)) if "split" in columns else {}
        if self.is_split:
            told = _read_split(self.uri, shard)
        needed = [column for name, column in columns.items() if name != "split"]
        return [
            i
            for i, row_id in enumerate(ids)
            if self._is_on(row_id, told.get(row_id), split) and all(column[i] is not None for column in needed)
        ]

    def _is_on(self, row_id: str, told: str | None, split: Split) -> bool:
        return told == split if told is not None else in_split(row_id, split, self.val_fraction)


@lru_cache(maxsize=4)
def _read_split(uri: str, shard: int) -> Mapping[str, str]:
    return read_split(uri, shard) or {}


def sides_of(uri: str, val_fraction: float) -> Sides:
    """How the rows of a data set fall on sides.

    Raises:
        DataError: it was split, but has changed since.
    """
    is_split = read_split_manifest(uri) is not None
    if is_split:
        check_split(uri)
    return Sides(storage.absolute(uri), val_fraction, is_split)


def check_fields(uri: str, manifest: Manifest, reads: Sequence[str]) -> None:
    """Makes sure a data set can be trained on.

    Raises:
        DataError: it is empty or lacks fields; the message names them and how to get them.
    """
    if manifest.rows == 0:
        raise DataError(f"data set {uri!r} has no rows ({manifest.quarantined} quarantined)", code="data-empty")
    missing = [name for name in reads if name not in manifest.fields]
    if missing:
        text = f"data set {uri!r} lacks {', '.join(missing)}; `tryon data annotate {uri} --out …` adds annotation"
        raise DataError(text, code="data-fields", field="--data")
    empty = [name for name in reads if manifest.nulls.get(name) == manifest.rows]
    if empty:
        text = f"no row of data set {uri!r} has {', '.join(empty)}: it holds {_what_it_holds(manifest)}"
        raise DataError(text, code="data-fields", field="--data")
    _check_sides(uri, manifest)


def _check_sides(uri: str, manifest: Manifest) -> None:
    made = read_split_manifest(uri)
    if made is not None:
        some = made.sides["train"].rows > 0
    elif "split" in manifest.fields:
        shards = (read_shard(path, ("split",))["split"] for path in shard_uris(uri, manifest))
        some = any(told in (None, "train") for column in shards for told in column)
    else:
        some = True
    if not some:
        text = f"no row of data set {uri!r} is for training: all are val or test; `tryon data split {uri}"
        raise DataError(f"{text} --set keep=false` deals them anew", code="data-empty", field="--data")


def _what_it_holds(manifest: Manifest) -> str:
    filled = [name for name in ("person", "garment") if name in manifest.fields]
    return " and ".join(f"{manifest.rows - manifest.nulls.get(name, 0)} {name} photos" for name in filled)


def decode_columns(columns: Mapping[str, Any], size: tuple[int, int], split: Split, sides: Sides) -> dict[str, Any]:
    """Encoded columns of a block to stacked arrays of one split at one size.

    Args:
        columns: of one or more shards, with the `path` of each row's shard.
        size: (height, width) px to bring every layer to.
        split: rows of the other side are left out, as are those that lack a column.
        sides: says which side a row is on.
    """
    paths = [str(path) for path in columns["path"]]
    encoded = {name: column for name, column in columns.items() if name != "path"}
    starts = [i for i, path in enumerate(paths) if i == 0 or path != paths[i - 1]]
    keep: list[int] = []
    for start, end in zip(starts, [*starts[1:], len(paths)], strict=True):
        rows = {name: column[start:end] for name, column in encoded.items()}
        keep += [start + i for i in sides.rows(shard_number(paths[start]), rows, split)]
    return stack_rows(_decoded(encoded, keep), size)


def _decoded(encoded: Mapping[str, Sequence[Any]], keep: Sequence[int]) -> Batch:
    """The rows at some places, decoded, without their `split`."""
    names = tuple(name for name in encoded if name != "split")
    return decode_batch({name: [encoded[name][i] for i in keep] for name in names}, names)


def _read_columns(manifest: Manifest, columns: Sequence[str]) -> list[str]:
    return [*columns, *(("split",) if "split" in manifest.fields else ())]


def stack_rows(batch: Batch, size: tuple[int, int]) -> dict[str, Any]:
    """Columns of arrays at one size; text columns stay lists."""
    rows = _resized(batch, size)
    out: dict[str, Any] = {}
    for name in batch:
        column = [row[name] for row in rows]
        out[name] = np.stack(column) if column and isinstance(column[0], np.ndarray) else np.array(column, dtype=object)
    return out


def _resized(batch: Batch, size: tuple[int, int]) -> list[Row]:
    return [resize_row(dict(zip(batch, values, strict=True)), size) for values in zip(*batch.values(), strict=True)]


def ray_dataset(
    uri: str,
    manifest: Manifest,
    columns: Sequence[str],
    size: tuple[int, int],
    split: Split,
    val_fraction: float,
    cache: Cache = "auto",
) -> Dataset:
    """A streaming Ray data set of decoded samples; kept in memory between epochs where it is small.

    Args:
        uri: of the annotated data set.
        manifest: of it.
        columns: fields to read.
        size: (height, width) px to bring every layer to.
        split: which side.
        val_fraction: share of ids held out.
        cache: whether decoded samples are kept in the object store between epochs.
    """
    import ray.data
    from ray.data import FileShuffleConfig

    filesystem, _ = storage.resolve(uri)
    paths = [storage.resolve(path)[1] for path in shard_uris(uri, manifest)]
    # The same order in every epoch and every run: what is begun anew in the middle must come to the same place.
    shuffle = FileShuffleConfig(seed=0, reseed_after_execution=False) if split == "train" else None
    # Without the override small files are merged into one block and read by one task.
    dataset = ray.data.read_parquet(
        paths,
        filesystem=filesystem,
        columns=_read_columns(manifest, columns),
        include_paths=True,
        override_num_blocks=min(len(paths), 256),
        shuffle=shuffle,
    ).map_batches(
        decode_columns, batch_size=None, fn_kwargs={"size": size, "split": split, "sides": sides_of(uri, val_fraction)}
    )
    dataset.context.execution_options.preserve_order = True  # else blocks are kept as they get ready
    return dataset.materialize() if _is_kept(manifest, size, cache) else dataset


class LocalBatches:
    """Batches without Ray: shards one after the other, decoded once where the whole set fits in memory."""

    def __init__(
        self,
        uri: str,
        manifest: Manifest,
        columns: Sequence[str],
        size: tuple[int, int],
        val_fraction: float,
        cache: Cache = "auto",
    ) -> None:
        """Remembers what to read.

        Args:
            uri: of the annotated data set.
            manifest: of it.
            columns: fields to read.
            size: (height, width) px to bring every layer to.
            val_fraction: share of ids held out.
            cache: whether decoded samples are kept in memory between epochs.
        """
        self._uris = shard_uris(uri, manifest)
        self._columns = _read_columns(manifest, columns)
        self._size = size
        self._sides = sides_of(uri, val_fraction)
        self._keep = _is_kept(manifest, size, cache)
        self._kept: dict[tuple[int, Split], list[Row]] = {}

    def __call__(self, split: Split, batch_size: int, seed: int | None) -> Iterator[Batch]:
        """One epoch; `seed` shuffles shards and rows inside each, None keeps the order and a last, smaller batch."""
        order = np.arange(len(self._uris))
        rng = np.random.default_rng(seed)
        if seed is not None:
            rng.shuffle(order)
        rest: list[Row] = []
        for shard in order:
            rows = list(self._rows(int(shard), split))
            if seed is not None:
                rng.shuffle(rows)  # type: ignore[arg-type]
            rest.extend(rows)
            while len(rest) >= batch_size:
                yield join_rows(rest[:batch_size])
                rest = rest[batch_size:]
        if rest and seed is None:
            yield join_rows(rest)

    def _rows(self, shard: int, split: Split) -> list[Row]:
        rows = self._kept.get((shard, split))
        if rows is None:
            encoded = read_encoded(self._uris[shard], self._columns)
            batch = _decoded(encoded, self._sides.rows(shard, encoded, split))
            rows = _resized(batch, self._size)
            if self._keep:
                self._kept[shard, split] = rows
        return rows


def _is_kept(manifest: Manifest, size: tuple[int, int], cache: Cache) -> bool:
    if cache != "auto":
        return cache == "memory"
    return manifest.rows * size[0] * size[1] * BYTES_A_PIXEL <= MATERIALIZE_BYTES


def join_rows(rows: Sequence[Row]) -> Batch:
    """Rows as a batch of columns, each a list; there is at least one row."""
    return {name: [row[name] for row in rows] for name in rows[0]}
