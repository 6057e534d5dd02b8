"""Shards: Parquet files of samples with a manifest beside them.

<uri>/_manifest.json             counts, fields, config, licence, content hash
<uri>/shard-00000.parquet        rows in order
<uri>/_quarantine/shard-00000.parquet   rows that could not be used, with the reason
"""

from __future__ import annotations

import io
import json
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
ROWS_PER_SHARD = 32
ROWS_PER_GROUP = 8  # streamed readers hold one row group: 8 samples at 1024x768 are about 30 MB
QUARANTINE_FIELDS = ("id", "error_code", "error", "error_stage")
_META = b"tryon_report"


class Manifest(Config):
    """What `_manifest.json` holds."""

    schema_version: int = Field(description="of `tryon.sample`")
    tryon_version: str = Field(description="that wrote it")
    fields: tuple[str, ...] = Field(description="columns of each shard")
    rows_in: int = Field(ge=0, description="rows read; rows_in = rows + quarantined")
    rows: int = Field(ge=0, description="rows written")
    quarantined: int = Field(ge=0, description="rows set aside with a reason")
    num_shards: int = Field(ge=0, description="Parquet files")
    config: Mapping[str, Any] = Field(default_factory=dict, description="what the run was told to do")
    licence: str = Field("unstated", description="of the source")
    sha256: str = Field(description="over the shards' own hashes, in order")


def shard_uri(uri: str, shard: int) -> str:
    """URI of a shard's file."""
    return storage.join(uri, f"shard-{shard:05d}.parquet")


def quarantine_uri(uri: str, shard: int) -> str:
    """URI of the quarantined rows of a shard."""
    return storage.join(uri, "_quarantine", f"shard-{shard:05d}.parquet")


def write_shard(uri: str, shard: int, batch: Batch, fields: tuple[str, ...], config_hash: str) -> ShardReport:
    """Writes the good rows of a batch as a shard and the others into quarantine.

    The same batch gives the same bytes. The shard's file carries its report, so that a rerun can take it as done.

    Args:
        uri: the data set's folder.
        shard: number of the shard.
        batch: decoded columns, with the error fields.
        fields: columns to write.
        config_hash: of the run; a shard of another hash is made anew.
    """
    total = num_rows(batch)
    good = [i for i in range(total) if batch["error_code"][i] is None]
    bad = [i for i in range(total) if batch["error_code"][i] is not None]
    if bad:
        rows = {name: [batch[name][i] for i in bad] for name in QUARANTINE_FIELDS}
        storage.write_bytes(quarantine_uri(uri, shard), _parquet(rows, QUARANTINE_FIELDS, {}))
    columns = {name: [batch[name][i] for i in good] for name in fields}
    counts = {"rows_in": total, "rows_out": len(good), "quarantined": len(bad), "config_hash": config_hash}
    data = _parquet(encode_batch(columns, fields), fields, counts)
    storage.write_bytes(shard_uri(uri, shard), data)
    return ShardReport(shard, total, len(good), len(bad), storage.sha256(data))


def _parquet(columns: Mapping[str, list[Any]], fields: tuple[str, ...], report: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(fields)
    schema = schema.with_metadata({**(schema.metadata or {}), _META: json.dumps(report, sort_keys=True).encode()})
    table = pa.table([pa.array(columns[name], schema.field(name).type) for name in fields], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=ROWS_PER_GROUP, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def finished_shard(uri: str, shard: int, config_hash: str) -> ShardReport | None:
    """The report of a shard that an earlier run with the same config finished, else None."""
    import pyarrow.parquet as pq

    path = shard_uri(uri, shard)
    if not storage.exists(path):
        return None
    data = storage.read_bytes(path)
    counts = json.loads((pq.read_schema(io.BytesIO(data)).metadata or {}).get(_META, b"{}"))
    if counts.pop("config_hash", None) != config_hash:
        return None
    return ShardReport(shard, sha256=storage.sha256(data), reused=True, **counts)


def write_manifest(
    uri: str, reports: Sequence[ShardReport], fields: tuple[str, ...], config: Mapping[str, Any], licence: str
) -> Manifest:
    """Writes `_manifest.json` from the reports of all shards, and removes shards of an earlier, longer run."""
    ordered = sorted(reports, key=lambda report: report.shard)
    names = {f"shard-{report.shard:05d}.parquet" for report in ordered}
    for path in storage.list_files(uri, (".parquet",)):
        if path.rsplit("/", 1)[-1] not in names:
            storage.delete(path)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        tryon_version=__version__,
        fields=fields,
        rows_in=sum(r.rows_in for r in ordered),
        rows=sum(r.rows_out for r in ordered),
        quarantined=sum(r.quarantined for r in ordered),
        num_shards=len(ordered),
        config=config,
        licence=licence,
        sha256=storage.sha256("\n".join(r.sha256 for r in ordered).encode()),
    )
    storage.write_bytes(storage.join(uri, MANIFEST), manifest.model_dump_json(indent=2).encode())
    return manifest


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
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(storage.read_bytes(uri)), columns=list(columns) if columns else None)
    return decode_batch(table.to_pydict(), tuple(table.column_names))


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
