"""An external shuffle through files: map tasks write runs cut by partition, reduce tasks read one partition of each.

A run is one Parquet file with a row group a partition, so a reader fetches its part and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.data.curate.steps import told_by, write_table
from tryon.data.rows import open_parquet

if TYPE_CHECKING:
    import pyarrow as pa


def run_uri(folder: str, run: int) -> str:
    """URI of a map task's run."""
    return storage.join(folder, f"run-{run:05d}.parquet")


def write_run(
    folder: str,
    run: int,
    table: pa.Table,
    partition: npt.NDArray[np.int64],
    num_partitions: int,
    told: Mapping[str, Any],
) -> None:
    """Writes what a map task has found, sorted by partition; inside one, rows keep their order.

    Args:
        folder: of the shuffle.
        run: the map task's number.
        table: rows in any order.
        partition: of each row, 0..num_partitions-1.
        num_partitions: of the whole shuffle.
        told: see `write_table`.
    """
    order = np.argsort(partition, kind="stable")
    counts = np.bincount(partition, minlength=num_partitions).tolist()
    write_table(run_uri(folder, run), table.take(order), {**told, "counts": counts}, counts)


def read_partition(folder: str, num_runs: int, partition: int, key: str) -> pa.Table:
    """One partition of all runs, in the order of the runs.

    Args:
        folder: of the shuffle.
        num_runs: map tasks there were, at least 1.
        partition: which.
        key: of the run that made the files.
    """
    import pyarrow as pa

    return pa.concat_tables(read_group(run_uri(folder, run), partition, key) for run in range(num_runs))


def read_group(uri: str, group: int, key: str) -> pa.Table:
    """One group of rows of a file that `write_table` has cut into groups.

    Args:
        uri: of the file; what it tells has the ``counts`` of its groups.
        group: which.
        key: of the run that made the file.
    """
    told = told_by(uri, key)
    assert told is not None, f"{uri} is missing or of another run"
    counts: Sequence[int] = told["counts"]
    with open_parquet(uri) as file:
        if not counts[group]:
            return file.schema_arrow.empty_table().replace_schema_metadata(None)
        place = sum(count > 0 for count in counts[:group])  # empty groups were not written
        return file.read_row_group(place).replace_schema_metadata(None)
