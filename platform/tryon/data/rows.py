"""Rows of a data set's shards, streamed: one row group in memory at a time, values still encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tryon import storage
from tryon.codec import decode_value
from tryon.data.shards import ROWS_PER_GROUP
from tryon.errors import DataError
from tryon.sample import Row


@contextmanager
def open_parquet(uri: str) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` that reads only what is asked for: a footer costs no more than the footer.

    Raises:
        DataError: no Parquet file or a damaged one (``"shard-corrupt"``); faults met while reading inside the
            block are named the same way.
        StorageError: the file is missing or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with storage.open_file(uri) as file:
            yield pq.ParquetFile(file, pre_buffer=True)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{uri} is damaged: {reason}", code="shard-corrupt", field="--data") from error


def iter_rows(uri: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows of one Parquet file in their encoded form, in order.

    Args:
        uri: of the file.
        columns: fields to read; those the file lacks are left out; None reads all.

    Raises:
        DataError: see `open_parquet`.
        StorageError: see `open_parquet`.
    """
    with open_parquet(uri) as file:
        yield from rows_of(file, columns)


def rows_of(file: Any, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows of an open `ParquetFile` in their encoded form; see `iter_rows`."""
    present = file.schema_arrow.names
    wanted = present if columns is None else [name for name in columns if name in present]
    if not wanted:
        yield from ({} for _ in range(file.metadata.num_rows))
        return
    for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=wanted):
        yield from batch.to_pylist()


def iter_decoded(uri: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows of one Parquet file, decoded one at a time, so that no more than one sample's images are held.

    Raises:
        DataError: see `open_parquet`; or a value that is no image.
    """
    for row in iter_rows(uri, columns):
        yield {name: decode_value(name, value) for name, value in row.items()}
