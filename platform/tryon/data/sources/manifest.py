"""A table of URIs: a file (Parquet, CSV, TSV, JSON lines; all but the first also gzipped) or a folder of Parquet parts.

URIs are absolute, of ``s3://``, ``http://`` or ``https://``, or relative to the table's folder. Columns that are not
understood are kept in `metadata`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from tryon import storage
from tryon.config import ImageLimits
from tryon.data.crawl.config import FetchLimits
from tryon.data.shards import ROWS_PER_SHARD
from tryon.data.sources.base import Source
from tryon.data.sources.common import CATEGORY_OF, chunks, mark_duplicates, row_or_error
from tryon.data.sources.tables import JSON_LINES, PARQUET, TABLE_SUFFIXES, Raw, table_columns, table_rows
from tryon.errors import DataError, TryonError
from tryon.listing import direct_files
from tryon.sample import Row

ROLES = ("person", "garment", "photo")
# What a column may be called, the best name first. Case does not count.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "person": ("person", "person_uri", "person_url", "person_image", "image"),
    "garment": ("garment", "garment_uri", "garment_url", "garment_image", "cloth"),
    "photo": ("photo", "photo_uri", "photo_url", "uri", "url"),
    "id": ("id",),
    "category": ("category",),
    "split": ("split",),
    "person_id": ("person_id",),
    "garment_id": ("garment_id",),
    "licence": ("licence", "license"),
}
SPLIT_OF = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

# Number of the row in the whole table, and its values by what they mean; or what is wrong with it.
Entry = tuple[int, Raw]
Task = tuple[Entry, ...]


def is_manifest(uri: str) -> bool:
    """True for a file of a table's suffix, and for a folder with Parquet files directly in it."""
    if uri.lower().endswith(TABLE_SUFFIXES):
        return True
    return bool(_parts(uri))


def _parts(uri: str) -> list[str]:
    return direct_files(uri, PARQUET)


class ManifestSource(Source):
    """Samples that a table names."""

    def __init__(self, uri: str, fetch: FetchLimits | None = None) -> None:
        """Looks at the columns.

        Ids are those of the table, else the number of the row. An id that comes twice among the rows of one task is
        set aside; rows further apart cannot be compared without holding them all: `data validate` finds those.

        Args:
            uri: of the table, or a folder of Parquet parts.
            fetch: behaviour towards http hosts; it holds for each worker.

        Raises:
            DataError: no column names a photo; the message lists those found and those understood.
            StorageError: the table cannot be read.
        """
        self._uri = storage.absolute(uri)
        self._is_file = self._uri.lower().endswith(TABLE_SUFFIXES)
        self._base = self._uri.rsplit("/", 1)[0] if self._is_file else self._uri
        self._fetch = fetch or FetchLimits()
        parts = [self._uri] if self._is_file else _parts(self._uri)
        if not parts:
            raise DataError(f"{uri} holds no Parquet file", code="data-empty", field="IN")
        names = _checked(table_columns(parts[0]), parts[0])
        self.licence = "stated for each row, in its metadata" if "licence" in names.values() else "unstated"
        roles = ROLES if self._uri.lower().endswith(JSON_LINES) else tuple(r for r in ROLES if r in names.values())
        self.fields: tuple[str, ...] = (
            "id", "category", "split", "person_id", "garment_id", "person_uri", "garment_uri", "metadata",
            *(f"{role}_file" for role in roles),
        )  # fmt: skip
        if next(self._rows(), None) is None:
            raise DataError(f"{uri} has no rows", code="data-empty", field="IN")

    def tasks(self) -> Iterator[Task]:
        yield from chunks(enumerate(self._rows()), ROWS_PER_SHARD)

    def read(self, task: Task) -> list[Row]:
        named = [(number, self._resolved(raw)) for number, raw in task]
        urls = [row[role] for _, row in named if isinstance(row, dict) for role in ROLES if _is_http(row.get(role))]
        fetched: Mapping[str, bytes | TryonError] = {}
        if urls:
            from tryon.data.crawl.many import fetch_images

            fetched = fetch_images(urls, self._fetch, ImageLimits().max_bytes)
        return mark_duplicates([_row(number, raw, fetched) for number, raw in named])

    def _rows(self) -> Iterator[Raw]:
        for part in [self._uri] if self._is_file else _parts(self._uri):
            names = _checked(table_columns(part), part)
            for raw in table_rows(part):
                if isinstance(raw, dict) and part.lower().endswith(JSON_LINES):
                    names = _understood(tuple(raw))  # each object has its own
                yield raw if isinstance(raw, str) else _meant(raw, names)

    def _resolved(self, raw: Raw) -> Raw:
        """Relative URIs made absolute."""
        if isinstance(raw, str):
            return raw
        return {**raw, **{role: _absolute(self._base, raw[role]) for role in ROLES if role in raw}}


@lru_cache
def _understood(columns: tuple[str, ...]) -> Mapping[str, str]:
    """Column to meaning, for those that are understood."""
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    found = ((meaning, next((by_name[n] for n in names if n in by_name), None)) for meaning, names in COLUMNS.items())
    return {column: meaning for meaning, column in found if column is not None}


def _checked(columns: list[str], uri: str) -> Mapping[str, str]:
    """Column to meaning.

    Raises:
        DataError: none of them names a photo.
    """
    names = _understood(tuple(columns))
    if not any(role in names.values() for role in ROLES):
        known = "; ".join(f"{role}: {', '.join(COLUMNS[role])}" for role in ROLES)
        text = f"{uri} has the columns {', '.join(columns) or '(none)'}; none of them names a photo ({known})"
        raise DataError(text, code="manifest-columns", field="IN")
    return names


def _meant(raw: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A row by meaning, without what is empty; the other columns under `metadata`."""
    row: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for column, value in raw.items():
        if value is None or value == "" or isinstance(value, bytes):
            continue
        if column in names and names[column] != "licence":
            row[names[column]] = str(value)
        else:
            other[names.get(column, column)] = value
    if row.get("category", "").lower() not in ("", *CATEGORY_OF):
        other["category"] = row.pop("category")  # a shop's own word, such as Women > Shirts
    if row.get("split", "").lower() not in ("", *SPLIT_OF):
        other["split"] = row.pop("split")
    return {**row, "metadata": other} if other else row


def _absolute(base: str, uri: str) -> str:
    if "://" in uri or uri.startswith(("/", "~")):
        return uri
    parts: list[str] = []
    for part in uri.split("/"):
        if part == "..":
            base, parts = (base, parts[:-1]) if parts else (base.rsplit("/", 1)[0], [])
        elif part not in ("", "."):
            parts.append(part)
    return storage.join(base, *parts)


def _is_http(uri: Any) -> bool:
    return isinstance(uri, str) and uri.lower().startswith(("http://", "https://"))


def _row(number: int, raw: Raw, fetched: Mapping[str, bytes | TryonError]) -> Row:
    if isinstance(raw, str):
        told: Row = {"id": f"row-{number:08d}"}
        return row_or_error(told, lambda: _raise(f"row {number} cannot be understood: {raw}", "row-invalid"))
    uris = {role: raw[role] for role in ROLES if role in raw}
    told = {
        "id": raw.get("id") or f"row-{number:08d}",
        "category": CATEGORY_OF.get(raw.get("category", "").lower()),
        "split": SPLIT_OF.get(raw.get("split", "").lower()),
        "person_id": raw.get("person_id"),
        "garment_id": raw.get("garment_id"),
        "person_uri": uris.get("person") or uris.get("photo"),
        "garment_uri": uris.get("garment") or uris.get("photo"),
        "metadata": _as_json(raw["metadata"]) if "metadata" in raw else None,
    }

    def make() -> Row:
        if not uris:
            _raise(f"row {number} names no photo", "row-empty")
        return {f"{role}_file": _read(uri, fetched) for role, uri in uris.items()}

    return row_or_error(told, make)


def _read(uri: str, fetched: Mapping[str, bytes | TryonError]) -> bytes:
    if not _is_http(uri):
        return storage.read_bytes(uri)
    outcome = fetched[uri]
    if isinstance(outcome, TryonError):
        raise outcome
    return outcome


def _raise(sentence: str, code: str) -> Row:
    raise DataError(sentence, code=code)


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
