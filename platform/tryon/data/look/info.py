"""What a data set holds, from its manifest, the footers of its shards and their small columns."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.rows import open_parquet, rows_of
from tryon.data.shards import Manifest, Parent, read_manifest, shard_uri
from tryon.engines.dataset import ShardReport, run_shards
from tryon.sample import FIELDS, Row

SIZED = ("person", "garment", "photo_file", "person_file", "garment_file")
COUNTED = ("category", "split", "photo_kind", "generated_by")
SIZE_SHARDS = 64  # shards whose first row tells a size; spread evenly
OnShard = Callable[[int, int], None]


class FieldInfo(Config):
    """One column over all shards."""

    kind: str = Field(description="see `tryon.sample`")
    rows: int = Field(ge=0, description="rows that have it")
    bytes: int = Field(ge=0, description="in the shards, compressed")


class DataInfo(Config):
    """What `tryon data info` tells."""

    uri: str = Field(description="of the data set")
    schema_version: int = Field(description="of `tryon.sample`")
    tryon_version: str = Field(description="that wrote it")
    rows_in: int = Field(description="rows read; rows_in = rows + quarantined")
    rows: int = Field(description="rows in the shards")
    quarantined: int = Field(description="rows set aside")
    num_shards: int = Field(description="Parquet files")
    bytes: int = Field(description="of the shards' files, without the quarantine")
    fields: Mapping[str, FieldInfo] = Field(description="by name, in the shards' order")
    values: Mapping[str, Mapping[str, int]] = Field(description="rows by category, split, ...; '-' where none is said")
    sizes: Mapping[str, Mapping[str, int]] = Field(description="HEIGHTxWIDTH px by photo, of one row in a shard")
    reasons: Mapping[str, int] = Field(description="quarantined rows by code")
    splits: Mapping[str, int] = Field(description="rows on each side, if `tryon data split` was run")
    splits_stale: bool = Field(description="the shards have changed since")
    licence: str = Field(description="of the source")
    parents: tuple[Parent, ...] = Field(description="what it was made from")
    annotators: Mapping[str, int] = Field(description="version of each stage")
    config: Mapping[str, Any] = Field(description="what the run was told to do")
    sha256: str = Field(description="of the content")


class InfoWorker:
    """Reads one shard's footer, its short text columns, and for some shards the first row's image headers."""

    def process(self, shard: int, task: tuple[str, int, bool]) -> ShardReport:
        """Tells of one shard: task is the data set's URI, the shard's number, and whether to look at sizes."""
        uri, number, with_sizes = task
        path = shard_uri(uri, number)
        with open_parquet(path) as file:  # once: on S3 each opening is a request
            told = {
                "bytes": _file_bytes(path),
                "columns": _columns(file.metadata),
                "values": _values(file),
                "sizes": _sizes(file) if with_sizes else {},
            }
            rows = file.metadata.num_rows
        return ShardReport(number, rows, rows, 0, payload=json.dumps(told))


def info(uri: str, *, num_actors: int | None = None, on_shard: OnShard | None = None) -> DataInfo:
    """Looks a data set over without decoding an image.

    Args:
        uri: of the data set.
        num_actors: see `run_shards`.
        on_shard: told the shards looked at and their number.

    Raises:
        DataError: no data set, or a shard that is damaged.
        StorageError: a shard is missing or cannot be read.
    """
    uri = storage.absolute(uri)
    manifest = read_manifest(uri)
    every = max(1, manifest.num_shards // SIZE_SHARDS)
    tasks = ((uri, shard, shard % every == 0) for shard in range(manifest.num_shards))
    total = _Total()
    for done, report in enumerate(run_shards(tasks, InfoWorker, num_actors=num_actors), 1):
        total.add(report)
        if on_shard is not None:
            on_shard(done, manifest.num_shards)
    return total.info(uri, manifest)


class _Total:
    """What shards tell, added up."""

    def __init__(self) -> None:
        self._rows = self._bytes = 0
        self._columns: dict[str, list[int]] = {}
        self._counts: dict[str, dict[str, Counter[str]]] = {"values": {}, "sizes": {}}

    def add(self, report: ShardReport) -> None:
        told = json.loads(report.payload)
        self._rows += report.rows_out
        self._bytes += told["bytes"]
        for name, (rows, size) in told["columns"].items():
            old = self._columns.setdefault(name, [0, 0])
            self._columns[name] = [old[0] + rows, old[1] + size]
        for kind, by_name in self._counts.items():
            for name, counts in told[kind].items():
                by_name.setdefault(name, Counter()).update(counts)

    def info(self, uri: str, manifest: Manifest) -> DataInfo:
        columns = {name: self._columns.get(name, [0, 0]) for name in manifest.fields}
        return DataInfo(
            uri=uri,
            rows=self._rows,
            bytes=self._bytes,
            fields={
                name: FieldInfo(kind=FIELDS[name].kind.value if name in FIELDS else "unknown", rows=rows, bytes=size)
                for name, (rows, size) in columns.items()
            },
            **_splits(uri, manifest),
            **{kind: {n: _sorted(c) for n, c in sorted(named.items())} for kind, named in self._counts.items()},
            **manifest.model_dump(
                include={
                    "schema_version", "tryon_version", "rows_in", "quarantined", "num_shards", "licence", "parents",
                    "annotators", "config", "sha256", "reasons",
                }
            ),
        )  # fmt: skip


def _sorted(counts: Counter[str]) -> dict[str, int]:
    """Most frequent first; equal ones by name, so that the order does not depend on the shards'."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _file_bytes(uri: str) -> int:
    filesystem, path = storage.resolve(uri)
    return int(filesystem.get_file_info(path).size)


def _columns(footer: Any) -> dict[str, tuple[int, int]]:
    """By column: rows that are not null, and bytes, from the statistics that Parquet keeps."""
    found: dict[str, tuple[int, int]] = {}
    for g in range(footer.num_row_groups):
        group = footer.row_group(g)
        for c in range(footer.num_columns):
            column = group.column(c)
            name = column.path_in_schema.split(".")[0]  # a list's leaf is called name.list.element
            nulls = column.statistics.null_count if column.statistics is not None else 0
            rows, size = found.get(name, (0, 0))
            found[name] = (rows + group.num_rows - nulls, size + column.total_compressed_size)
    return found


def _values(file: Any) -> dict[str, Counter[str]]:
    names = [name for name in COUNTED if name in file.schema_arrow.names]
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for row in rows_of(file, names) if names else ():
        for name in names:
            counts[name][row[name] or "-"] += 1
    return counts


def _sizes(file: Any) -> dict[str, dict[str, int]]:
    names = [name for name in SIZED if name in file.schema_arrow.names]
    row: Row = next(rows_of(file, names), {}) if names else {}
    sizes = {name: image_size(row[name]) for name in names if row.get(name) is not None}
    return {name: {f"{size[0]}x{size[1]}": 1} for name, size in sizes.items() if size is not None}


def image_size(data: bytes) -> tuple[int, int] | None:
    """Height and width px from an image file's header; None if it is no image."""
    from PIL import Image, UnidentifiedImageError

    try:
        width, height = Image.open(io.BytesIO(data)).size
    except (UnidentifiedImageError, OSError):
        return None
    return height, width


def _splits(uri: str, manifest: Manifest) -> dict[str, Any]:
    from tryon.data.curate.splits import read_split_manifest

    made = read_split_manifest(uri)
    if made is None:
        return {"splits": {}, "splits_stale": False}
    sides = {name: side.rows for name, side in made.sides.items()}
    return {"splits": sides, "splits_stale": made.data_sha256 != manifest.sha256}
