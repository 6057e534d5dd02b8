"""What a crawl keeps, under one URI.

<out>/photos/ab/abcdef....jpg         photos as they came, named by their sha256
<out>/manifest-00000.parquet          a row a photo, with what its page said of it; `ManifestSource` reads them
<out>/_failures/part-00000.parquet    pages and photos that were not read, with the reason
<out>/_crawl/config.json              of the last run; written first
<out>/_crawl/<kind>/ab/abcdef....json one record for each URL asked for: the crawl's memory
<out>/_crawl.json                     the report; written last, so a crawl without it is not finished

A record is written whole or not at all, and once it is there its URL is never asked for again. A crawl is a walk that
depends on its configuration and on the records alone, so that one that was cut off, started again, replays what it has
and goes on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from tryon import storage
from tryon.data.crawl.config import CrawlConfig, CrawlReport
from tryon.data.crawl.guard import TRANSIENT
from tryon.data.sources.base import CRAWL_RECORDS, CRAWL_REPORT
from tryon.errors import StorageError

ROWS_PER_PART = 1000
MANIFEST_COLUMNS = (
    "id", "photo", "garment_id", "title", "brand", "price", "currency", "category", "alt", "page_uri", "image_uri",
    "width", "height",
)  # fmt: skip
FAILURE_COLUMNS = ("uri", "page_uri", "code", "reason")
_NUMBERS = ("width", "height")


class Records:
    """What is known of each URL."""

    def __init__(self, out: str, config: CrawlConfig) -> None:
        """Records depend on the limits that decide what is taken: with other limits a URL is asked for again."""
        self._out = out
        self._retry_failed = config.retry_failed
        self._limits = {
            "page": [config.max_page_bytes, config.max_sitemap_bytes, config.images],
            "image": config.image.model_dump(mode="json"),
        }

    def _uri(self, kind: str, url: str) -> str:
        key = storage.sha256(json.dumps([url, self._limits[kind]]).encode())[:32]
        return storage.join(self._out, CRAWL_RECORDS, kind, key[:2], f"{key}.json")

    def get(self, kind: str, url: str) -> dict[str, Any] | None:
        """The record of a URL, None if it has to be asked for."""
        try:
            record: dict[str, Any] = json.loads(storage.read_bytes(self._uri(kind, url)))
        except StorageError as error:
            if error.code == "uri-missing":
                return None
            raise
        return None if self._retry_failed and record.get("code") in TRANSIENT else record

    def put(self, kind: str, url: str, record: Mapping[str, Any]) -> None:
        """Keeps the record of a URL."""
        storage.write_bytes(self._uri(kind, url), json.dumps({"url": url, **record}, ensure_ascii=False).encode())


def write_photo(out: str, data: bytes, suffix: str) -> tuple[str, str]:
    """Keeps a photo; returns its sha256 and its path inside `out`."""
    digest = storage.sha256(data)
    path = f"photos/{digest[:2]}/{digest[:32]}.{suffix}"
    storage.write_bytes(storage.join(out, path), data)
    return digest, path


class Parts:
    """A table written in parts of a thousand rows, so that a crawl of millions holds one part."""

    def __init__(self, prefix: str, columns: tuple[str, ...]) -> None:
        """Takes the URI up to the part's number, and the columns."""
        self._prefix = prefix
        self._columns = columns
        self._rows: list[Mapping[str, Any]] = []
        self._num = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes in one row."""
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_PART:
            self._flush()

    def finish(self) -> None:
        """Writes what is left, and removes parts of an earlier, longer run."""
        if self._rows or self._num == 0:
            self._flush()
        while storage.exists(self._uri(self._num)):
            storage.delete(self._uri(self._num))
            self._num += 1

    def _uri(self, part: int) -> str:
        return f"{self._prefix}-{part:05d}.parquet"

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {name: pa.int32() if name in _NUMBERS else pa.string() for name in self._columns}
        table = pa.table({name: pa.array([row.get(name) for row in self._rows], kind) for name, kind in types.items()})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        storage.write_bytes(self._uri(self._num), sink.getvalue())
        self._rows = []
        self._num += 1


def write_config(out: str, config: CrawlConfig) -> None:
    """Marks a crawl as begun."""
    told = json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True)
    storage.write_bytes(storage.join(out, CRAWL_RECORDS, "config.json"), told.encode())


def write_report(out: str, config: CrawlConfig, report: CrawlReport) -> None:
    """Marks a crawl as finished."""
    told = {"config": config.model_dump(mode="json"), "report": report.model_dump(mode="json")}
    storage.write_bytes(storage.join(out, CRAWL_REPORT), json.dumps(told, indent=2, sort_keys=True).encode())
