"""Shards: Parquet files of samples with a manifest beside them.

<uri>/_manifest.json             counts, fields, config, annotators, parents, licence, content hash
<uri>/shard-00000.parquet        rows in order
<uri>/_quarantine/shard-00000.parquet   rows that could not be used, with the reason
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from tryon import __version__, storage
from tryon.codec import decode_batch, encode_batch
from tryon.config import Config, explain
from tryon.engines.dataset import ShardReport
from tryon.errors import DataError
from tryon.images import resize
from tryon.sample import FIELDS, SCHEMA_VERSION, Batch, Kind, Row, arrow_schema, num_rows

MANIFEST = "_manifest.json"
QUARANTINE = "_quarantine"
ROWS_PER_SHARD = 32
ROWS_PER_GROUP = 8  # streamed readers hold one row group: 8 samples at 1024x768 are about 15 MB
QUARANTINE_FIELDS = ("id", "person_uri", "garment_uri", "quality", "error_code", "error", "error_stage")
_META = b"tryon_report"
_SUM_BITS = 256


class Parent(Config):
    """What a data set was made from."""

    uri: str = Field(description="of the data set, folder or file")
    sha256: str = Field("", description="its content hash, where it is known cheaply")


class Manifest(Config):
    """What `_manifest.json` holds."""

    schema_version: int = Field(description="of `tryon.sample`")
    tryon_version: str = Field(description="that wrote it")
    fields: tuple[str, ...] = Field(description="columns of each shard")
    rows_in: int = Field(ge=0, description="rows read; rows_in = rows + quarantined")
    rows: int = Field(ge=0, description="rows written")
    quarantined: int = Field(ge=0, description="rows set aside with a reason")
    reasons: Mapping[str, int] = Field(default_factory=dict, description="quarantined rows by error code")
    nulls: Mapping[str, int] = Field(default_factory=dict, description="rows without a field, where there are such")
    num_shards: int = Field(ge=0, description="Parquet files")
    config: Mapping[str, Any] = Field(default_factory=dict, description="what the run was told to do")
    annotators: Mapping[str, int] = Field(default_factory=dict, description="version of each stage the rows went by")
    parents: tuple[Parent, ...] = Field((), description="what the rows were made from")
    licence: str = Field("unstated", description="of the source")
    sha256: str = Field(description="of the content: see `ContentHash`")


def shard_uri(uri: str, shard: int) -> str:
    """URI of a shard's file."""
    return storage.join(uri, f"shard-{shard:05d}.parquet")


def quarantine_uri(uri: str, shard: int) -> str:
    """URI of the quarantined rows of a shard."""
    return storage.join(uri, QUARANTINE, f"shard-{shard:05d}.parquet")


def shard_number(uri: str) -> int:
    """Number of the shard that a file holds, by its name."""
    return int(uri.rsplit("/", 1)[-1].removeprefix("shard-").removesuffix(".parquet"))


class ContentHash:
    """A hash over shards that does not ask for their order: the sum of each one's sha256 with its number, mod 2^256."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, shard: int, sha256: str) -> None:
        """Takes in one shard, once."""
        digest = hashlib.sha256(f"{shard}:{sha256}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % 2**_SUM_BITS

    def hexdigest(self) -> str:
        """The hash of what was added, 64 hex digits."""
        return f"{self._sum:064x}"


def content_sha256(columns: Mapping[str, Sequence[Any]], fields: Sequence[str]) -> str:
    """Over a shard's values in encoded form; the same however the Parquet file around them was written."""
    digest = hashlib.sha256()
    for name in fields:
        digest.update(f"\n{name}\n".encode())
        for value in columns[name]:
            data = b"\0" if value is None else value if isinstance(value, bytes) else repr(value).encode()
            digest.update(f"{len(data)}:".encode())
            digest.update(data)
    return digest.hexdigest()


def write_shard(uri: str, shard: int, batch: Batch, fields: tuple[str, ...], config_hash: str) -> ShardReport:
    """Writes the good rows of a batch as a shard and the others into quarantine.

    The same batch gives the same bytes. The shard's file carries its report, so that a rerun can take it as done.

    Args:
        uri: the data set's folder.
        shard: number of the shard.
        batch: decoded columns, with the error fields.
        fields: columns to write.
        config_hash: of the run; a shard of another hash is made anew.

    Raises:
        StorageError: the place cannot be written (denied, full).
    """
    total = num_rows(batch)
    good = [i for i in range(total) if batch["error_code"][i] is None]
    bad = [i for i in range(total) if batch["error_code"][i] is not None]
    _write_quarantine(uri, shard, batch, bad)
    columns = encode_batch({name: [column[i] for i in good] for name, column in batch.items()}, fields)
    sha256 = content_sha256(columns, fields)
    payload = json.dumps({
        "nulls": {name: nulls for name in fields if (nulls := sum(value is None for value in columns[name]))},
        "reasons": Counter(sorted(batch["error_code"][i] for i in bad)),
    })  # fmt: skip
    counts = {"rows_in": total, "rows_out": len(good), "quarantined": len(bad), "sha256": sha256, "payload": payload}
    storage.write_bytes(shard_uri(uri, shard), _parquet(columns, fields, {**counts, "config_hash": config_hash}))
    return ShardReport(shard, total, len(good), len(bad), sha256, payload=payload)


def _write_quarantine(uri: str, shard: int, batch: Batch, bad: Sequence[int]) -> None:
    path = quarantine_uri(uri, shard)
    if bad:
        empty = [None] * num_rows(batch)
        rows = {name: [batch.get(name, empty)[i] for i in bad] for name in QUARANTINE_FIELDS}
        storage.write_bytes(path, _parquet(rows, QUARANTINE_FIELDS, {}))
    elif storage.exists(path):  # of an earlier run with another config
        storage.delete(path)


def _parquet(columns: Mapping[str, list[Any]], fields: tuple[str, ...], report: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(fields)
    schema = schema.with_metadata({**(schema.metadata or {}), _META: json.dumps(report, sort_keys=True).encode()})
    table = pa.table([pa.array(columns[name], schema.field(name).type) for name in fields], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def shard_report(uri: str, shard: int) -> tuple[ShardReport, str]:
    """What a shard's file says of itself, from its footer alone, and the hash of the config it was made with.

    Raises:
        DataError: the file is no shard, or damaged.
        StorageError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = shard_uri(uri, shard)
    try:
        with storage.open_file(path) as file:
            told = json.loads((pq.read_schema(file).metadata or {})[_META])
        config_hash = told.pop("config_hash")
        return ShardReport(shard, reused=True, **told), config_hash
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no shard, or damaged: {error}", code="shard-corrupt", field="--data") from error


def finished_shard(uri: str, shard: int, config_hash: str) -> ShardReport | None:
    """The report of a shard that an earlier run with the same config finished, else None."""
    if not storage.exists(shard_uri(uri, shard)):
        return None
    try:
        report, made_with = shard_report(uri, shard)
    except DataError:
        return None
    return report if made_with == config_hash else None


class ManifestWriter:
    """Adds up the reports of a run's shards, in any order, and writes `_manifest.json` at the end."""

    def __init__(
        self,
        uri: str,
        fields: tuple[str, ...],
        config: Mapping[str, Any],
        annotators: Mapping[str, int],
        parents: tuple[Parent, ...],
        licence: str,
    ) -> None:
        """Takes what the manifest says beside counts; see `Manifest`."""
        self._uri = uri
        self._told = {"config": config, "annotators": annotators, "parents": parents, "licence": licence}
        self._fields = fields
        self._hash = ContentHash()
        self._reasons: Counter[str] = Counter()
        self._nulls: Counter[str] = Counter()
        self._rows_in = self._rows = self._quarantined = self._shards = 0

    def add(self, report: ShardReport) -> None:
        """Takes in one shard, once."""
        assert report.rows_in == report.rows_out + report.quarantined, "rows in = rows out + quarantined"
        self._rows_in += report.rows_in
        self._rows += report.rows_out
        self._quarantined += report.quarantined
        self._shards += 1
        told = json.loads(report.payload)
        self._reasons.update(told["reasons"])
        self._nulls.update(told["nulls"])
        self._hash.add(report.shard, report.sha256)

    def finish(self) -> Manifest:
        """Removes shards of an earlier, longer run, and writes the manifest."""
        for folder in (self._uri, storage.join(self._uri, QUARANTINE)):
            self._remove_later_shards(folder)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            tryon_version=__version__,
            fields=self._fields,
            rows_in=self._rows_in,
            rows=self._rows,
            quarantined=self._quarantined,
            reasons=dict(sorted(self._reasons.items())),
            nulls=dict(sorted(self._nulls.items())),
            num_shards=self._shards,
            sha256=self._hash.hexdigest(),
            **self._told,
        )
        storage.write_bytes(storage.join(self._uri, MANIFEST), manifest.model_dump_json(indent=2).encode())
        return manifest

    def _remove_later_shards(self, folder: str) -> None:
        if not storage.exists(folder):
            return
        for path in storage.list_files(folder, (".parquet",), recursive=False):
            number = path.rsplit("/", 1)[-1].removeprefix("shard-").removesuffix(".parquet")
            if number.isdigit() and int(number) >= self._shards:
                storage.delete(path)


def read_manifest(uri: str) -> Manifest:
    """Reads the manifest of a data set.

    Raises:
        DataError: nothing there, not a data set, or another schema version; the message says what to do.
    """
    path = storage.join(uri, MANIFEST)
    if not storage.exists(path):
        why = "does not exist" if not storage.exists(uri) else f"holds no {MANIFEST}, so it is no annotated data set"
        text = f"data set {uri!r} {why}; `tryon data annotate` or `tryon data synth` makes one"
        raise DataError(text, code="data-missing", field="--data")
    try:
        manifest = Manifest.model_validate_json(storage.read_bytes(path))
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error, MANIFEST)}", code="data-corrupt", field="--data") from error
    if manifest.schema_version != SCHEMA_VERSION:
        text = f"data set {uri!r} has schema version {manifest.schema_version}; this release reads {SCHEMA_VERSION}"
        raise DataError(text, code="data-schema", field="--data")
    return manifest


def shard_uris(uri: str, manifest: Manifest) -> list[str]:
    """URIs of a data set's shards, in order."""
    return [shard_uri(uri, shard) for shard in range(manifest.num_shards)]


def read_shard(uri: str, columns: Sequence[str] | None = None) -> Batch:
    """Reads and decodes one shard's file.

    Args:
        uri: of the file.
        columns: fields to read; None reads all.
    """
    encoded = read_encoded(uri, columns)
    return decode_batch(encoded, tuple(encoded))


def read_encoded(uri: str, columns: Sequence[str] | None = None) -> Batch:
    """Reads one shard's file without decoding what it holds; arguments as of `read_shard`."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(storage.read_bytes(uri)), columns=list(columns) if columns else None)
    encoded: Batch = table.to_pydict()
    return encoded


def resize_row(row: Row, size: tuple[int, int]) -> Row:
    """A sample with every layer brought to (height, width) px, keypoints and flow scaled along.

    The sample's own size is that of its first image layer; images of another aspect are stretched.
    """
    out: Row = {}
    for name, value in row.items():
        out[name] = value if value is None or name not in FIELDS else _resize_value(row, name, value, size)
    return out


def _resize_value(row: Row, name: str, value: Any, size: tuple[int, int]) -> Any:
    kind = FIELDS[name].kind
    if kind in (Kind.IMAGE, Kind.ALPHA):
        return resize(value, *size)
    if kind in (Kind.MASK, Kind.LABELS, Kind.IUV):
        return resize(value, *size, nearest=True)
    if kind in (Kind.KEYPOINTS, Kind.FLOW):
        height, width = _own_size(row)
        scale = np.array([size[1] / width, size[0] / height], dtype=np.float32)
        if kind is Kind.FLOW:
            return resize(value, *size, nearest=True) * scale
        return value * np.append(scale, np.float32(1))
    return value


def _own_size(row: Row) -> tuple[int, int]:
    layers: Iterable[str] = ("person", "agnostic", "parse", "agnostic_mask", "true_flow")
    for name in layers:
        if row.get(name) is not None:
            height, width = row[name].shape[:2]
            return int(height), int(width)
    raise DataError("the sample has keypoints but no image layer to scale them with", code="data-incomplete")
