"""Shards to training batches: decoded, brought to one size, split by a hash of the id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tryon import storage
from tryon.codec import decode_batch
from tryon.data.shards import Manifest, read_shard, resize_row, shard_uris
from tryon.errors import DataError
from tryon.sample import Batch, num_rows

if TYPE_CHECKING:
    from ray.data import Dataset

Split = Literal["train", "val"]
MATERIALIZE_BYTES = 4_000_000_000  # decoded sets up to this size are kept in the object store between epochs


def in_split(row_id: str, split: Split, val_fraction: float) -> bool:
    """Which side of the split an id is on; the same on every machine and in every run."""
    # Not a CRC: on ids that count upwards its share strays (0.446 held out where 0.5 was asked, over 2,000).
    digest = hashlib.sha256(row_id.encode()).digest()
    held_out = int.from_bytes(digest[:8], "big") / 2**64 < val_fraction
    return held_out == (split == "val")


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


def _what_it_holds(manifest: Manifest) -> str:
    filled = [name for name in ("person", "garment") if name in manifest.fields]
    return " and ".join(f"{manifest.rows - manifest.nulls.get(name, 0)} {name} photos" for name in filled)


def decode_columns(
    columns: Mapping[str, Any], size: tuple[int, int], split: Split, val_fraction: float
) -> dict[str, Any]:
    """Encoded columns of a block to stacked arrays of one split at one size; rows that lack a column are left out."""
    ids = [str(row_id) for row_id in columns["id"]]
    names = tuple(columns)
    keep = [
        i
        for i, row_id in enumerate(ids)
        if in_split(row_id, split, val_fraction) and all(columns[name][i] is not None for name in names)
    ]
    batch = decode_batch({name: [columns[name][i] for i in keep] for name in names}, names)
    return stack_rows(batch, size)


def stack_rows(batch: Batch, size: tuple[int, int]) -> dict[str, Any]:
    """Columns of arrays at one size; text columns stay lists."""
    rows = [resize_row(dict(zip(batch, values, strict=True)), size) for values in zip(*batch.values(), strict=True)]
    out: dict[str, Any] = {}
    for name in batch:
        column = [row[name] for row in rows]
        out[name] = np.stack(column) if column and isinstance(column[0], np.ndarray) else np.array(column, dtype=object)
    return out


def ray_dataset(
    uri: str, manifest: Manifest, columns: Sequence[str], size: tuple[int, int], split: Split, val_fraction: float
) -> Dataset:
    """A streaming Ray data set of decoded samples; kept in memory between epochs where it is small.

    Args:
        uri: of the annotated data set.
        manifest: of it.
        columns: fields to read.
        size: (height, width) px to bring every layer to.
        split: which side.
        val_fraction: share of ids held out.
    """
    import ray.data
    from ray.data import FileShuffleConfig

    filesystem, _ = storage.resolve(uri)
    paths = [storage.resolve(path)[1] for path in shard_uris(uri, manifest)]
    shuffle = FileShuffleConfig(seed=0) if split == "train" else None
    # Without the override small files are merged into one block and read by one task.
    dataset = ray.data.read_parquet(
        paths, filesystem=filesystem, columns=list(columns), override_num_blocks=min(len(paths), 256), shuffle=shuffle
    ).map_batches(
        decode_columns, batch_size=None, fn_kwargs={"size": size, "split": split, "val_fraction": val_fraction}
    )
    bytes_a_row = size[0] * size[1] * 24
    return dataset.materialize() if manifest.rows * bytes_a_row <= MATERIALIZE_BYTES else dataset


def local_batches(
    uri: str,
    manifest: Manifest,
    columns: Sequence[str],
    size: tuple[int, int],
    split: Split,
    val_fraction: float,
    batch_size: int,
    seed: int | None,
) -> Iterator[Batch]:
    """Batches without Ray: reads shards one after the other; `seed` shuffles shards and rows inside each."""
    order = np.arange(manifest.num_shards)
    rng = np.random.default_rng(seed)
    if seed is not None:
        rng.shuffle(order)
    rest: list[dict[str, Any]] = []
    uris = shard_uris(uri, manifest)
    for shard in order:
        rows = _rows(read_shard(uris[shard], columns), size, split, val_fraction)
        if seed is not None:
            rng.shuffle(rows)  # type: ignore[arg-type]
        rest.extend(rows)
        while len(rest) >= batch_size:
            yield _join(rest[:batch_size])
            rest = rest[batch_size:]
    if rest and seed is None:
        yield _join(rest)


def _rows(batch: Batch, size: tuple[int, int], split: Split, val_fraction: float) -> list[dict[str, Any]]:
    if num_rows(batch) == 0:
        return []
    rows: Iterable[dict[str, Any]] = (
        dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)
    )
    whole = (row for row in rows if all(value is not None for value in row.values()))
    return [resize_row(row, size) for row in whole if in_split(row["id"], split, val_fraction)]


def _join(rows: Sequence[dict[str, Any]]) -> Batch:
    return {name: [row[name] for row in rows] for name in rows[0]}
