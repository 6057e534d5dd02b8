"""Validation of one shard: its rows, its counts, its content and its quarantine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tryon import storage
from tryon.codec import decode_value
from tryon.data.curate.splits import read_split, read_split_manifest
from tryon.data.look.checks import ValidateConfig, check_row
from tryon.data.look.info import image_size
from tryon.data.rows import iter_rows, open_parquet
from tryon.data.shards import Manifest, content_sha256, quarantine_uri, shard_report, shard_uri
from tryon.engines.dataset import ShardReport
from tryon.errors import TryonError
from tryon.sample import FIELDS, Kind, Row

DECODES = "decodes"
Findings = dict[str, "tuple[int, list[tuple[str, str]]]"]  # by check: rows looked at, (id, what is wrong)


class ValidateWorker:
    """Looks at one shard and its quarantine."""

    def __init__(self, uri: str, manifest: Manifest, config: ValidateConfig) -> None:
        self._uri = uri
        self._fields = manifest.fields
        self._split = read_split_manifest(uri) is not None
        self._config = config

    def process(self, shard: int, task: int) -> ShardReport:
        """Payload: ids, and by check how many rows were looked at and what is wrong with which."""
        path = shard_uri(self._uri, task)
        name = path.rsplit("/", 1)[-1]
        found: Findings = {}
        ids: list[str] = []
        told, sha256 = ShardReport(task, 0, 0, 0), ""
        try:
            told, _ = shard_report(self._uri, task)
            for row in iter_rows(path):
                ids.append(row.get("id") or "")
                self._look(row, found)
            sha256 = self._content(path)
            _note(found, "shards-readable", name, self._schema_fault(path))
            _note(found, "content-hash", name, None if sha256 == told.sha256 else "the values are not those written")
            _note(found, "counts", name, _count_fault(told, len(ids)))
        except TryonError as error:
            _note(found, "shards-readable", name, error.message)
        _note(found, "quarantine", name, _quarantine_fault(self._uri, task, told))
        if self._split:
            _note(found, "splits", name, _split_fault(self._uri, task, ids))
        payload = json.dumps({"ids": ids, "found": found})
        return ShardReport(task, told.rows_in, len(ids), told.quarantined, sha256, payload=payload)

    def _look(self, row: Row, found: Findings) -> None:
        where = row.get("id") or "(no id)"
        decoded, fault = _decode(row)
        _note(found, DECODES, where, fault)
        if fault is None:
            for name, wrong in check_row(decoded, self._config).items():
                _note(found, name, where, wrong)

    def _content(self, path: str) -> str:
        with open_parquet(path) as file:
            return content_sha256(_Columns(file), [n for n in self._fields if n in file.schema_arrow.names])

    def _schema_fault(self, path: str) -> str | None:
        with open_parquet(path) as file:
            names = tuple(file.schema_arrow.names)
        return (
            None if names == self._fields else f"holds {', '.join(names)}; the manifest says {', '.join(self._fields)}"
        )


class _Columns(Mapping[str, Sequence[Any]]):
    """A shard's columns, each read when it is asked for, so that no more than one is held."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Sequence[Any]:
        values: Sequence[Any] = self._file.read(columns=[name]).column(0).to_pylist()
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.schema_arrow.names)

    def __len__(self) -> int:
        return len(self._file.schema_arrow.names)


def _note(found: Findings, check: str, where: str, wrong: str | None) -> None:
    checked, faults = found.get(check, (0, []))
    if wrong is not None:
        faults.append((where, wrong))
    found[check] = checked + 1, faults


def _decode(row: Row) -> tuple[Row, str | None]:
    decoded: Row = {}
    for name, value in row.items():
        if name not in FIELDS or value is None:
            continue
        try:
            decoded[name] = decode_value(name, value)
        except (TryonError, ValueError, OSError) as error:
            return decoded, f"{name} cannot be decoded: {error}"
        if FIELDS[name].kind is Kind.FILE and image_size(value) is None:
            return decoded, f"{name} is no image that can be read"
    return decoded, None


def _count_fault(told: ShardReport, rows: int) -> str | None:
    if told.rows_in != told.rows_out + told.quarantined:
        return f"{told.rows_in} rows in are not {told.rows_out} out + {told.quarantined} quarantined"
    return None if rows == told.rows_out else f"holds {rows} rows and says {told.rows_out}"


def _quarantine_fault(uri: str, shard: int, told: ShardReport) -> str | None:
    path = quarantine_uri(uri, shard)
    if not storage.exists(path):
        return f"{told.quarantined} rows were set aside, but their table is missing" if told.quarantined else None
    try:
        rows = list(iter_rows(path, ["id", "error_code", "error"]))
    except TryonError as error:
        return error.message
    bare = [row for row in rows if not (row.get("id") and row.get("error_code") and row.get("error"))]
    if bare:
        return f"{len(bare)} rows have no id or no reason"
    return None if len(rows) == told.quarantined else f"holds {len(rows)} rows; the shard says {told.quarantined}"


def _split_fault(uri: str, shard: int, ids: Sequence[str]) -> str | None:
    sides = read_split(uri, shard)
    if sides is None:
        return "its split is missing"
    return None if list(sides) == list(ids) else "its split is of other rows; `tryon data split` makes it anew"
