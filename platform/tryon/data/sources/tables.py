"""Rows of Parquet, CSV and JSON-lines files, streamed: no more than a block is held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tryon import storage
from tryon.errors import DataError, StorageError
from tryon.listing import plain_name

PARQUET, TABS = (".parquet",), (".tsv", ".tsv.gz")
CSV = (".csv", ".csv.gz", *TABS)
JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson")
TABLE_SUFFIXES = (*PARQUET, *CSV, *JSON_LINES)
BLOCK_BYTES = 1 << 20
ROWS_PER_BATCH = 1024
_SHOWN = 120  # characters of a row, in messages

Raw = dict[str, Any] | str  # a row, or what is wrong with it


def table_columns(uri: str) -> list[str]:
    """Names of a table's columns; of JSON lines those of the first object.

    Raises:
        DataError: no such table.
        StorageError: it cannot be read.
    """
    if uri.lower().endswith(JSON_LINES):
        first = next(table_rows(uri), {})
        return list(first) if isinstance(first, dict) else []
    return [str(name) for name in _naming_faults(uri, _columns)]


def table_rows(uri: str) -> Iterator[Raw]:
    """Rows in order; one that cannot be understood comes as a sentence that says why.

    Raises:
        DataError: no such table.
        StorageError: it cannot be read.
    """
    lower = uri.lower()
    reader = _parquet_rows if lower.endswith(PARQUET) else _json_rows if lower.endswith(JSON_LINES) else _csv_rows
    return _naming_faults(uri, reader)


def _naming_faults(uri: str, reader: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from reader(uri)
    except (pa.ArrowInvalid, UnicodeDecodeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{uri} is no table that can be read: {reason}", code="manifest-invalid") from error
    except FileNotFoundError as error:
        raise StorageError(f"{uri} does not exist", code="uri-missing") from error
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error


def _columns(uri: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    if uri.lower().endswith(PARQUET):
        filesystem, path = storage.resolve(uri)
        with filesystem.open_input_file(path) as file:
            yield from pq.read_schema(file).names
    else:
        yield from _open_csv(uri, {}, []).schema.names


def _parquet_rows(uri: str) -> Iterator[Raw]:
    import pyarrow.parquet as pq

    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=ROWS_PER_BATCH):
            yield from batch.to_pylist()


def _open_csv(uri: str, types: dict[str, Any], bad: list[str]) -> Any:
    from pyarrow import csv

    def on_bad_row(row: Any) -> str:
        bad.append(f"{row.actual_columns} columns, {row.expected_columns} are named: {plain_name(row.text[:_SHOWN])!r}")
        return "skip"

    filesystem, path = storage.resolve(uri)
    stream = filesystem.open_input_stream(path, compression="gzip" if uri.lower().endswith(".gz") else None)
    tabs = uri.lower().endswith(TABS)
    return csv.open_csv(
        stream,
        read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(
            delimiter="\t" if tabs else ",", newlines_in_values=True, invalid_row_handler=on_bad_row
        ),
        convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
    )


def _csv_rows(uri: str) -> Iterator[Raw]:
    import pyarrow as pa

    # All columns as text: an id 007 must not become a 7, nor a column change its type between blocks.
    types = {name: pa.string() for name in _columns(uri)}
    bad: list[str] = []
    for batch in _open_csv(uri, types, bad):
        yield from batch.to_pylist()
        yield from bad
        bad.clear()
    yield from bad


def _json_rows(uri: str) -> Iterator[Raw]:
    filesystem, path = storage.resolve(uri)
    stream = filesystem.open_input_stream(path, compression="gzip" if uri.lower().endswith(".gz") else None)
    with stream:
        for line in _lines(stream):
            if line.strip():
                yield _json_row(line)


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def _json_row(line: bytes) -> Raw:
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"no JSON: {error}"
    return row if isinstance(row, dict) else "no JSON object"
