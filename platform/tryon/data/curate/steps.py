"""What the steps of curation share: groups of shards as tasks, and files that know which run made them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from tryon import storage
from tryon.config import Config
from tryon.data.rows import open_parquet
from tryon.data.shards import MANIFEST, ContentHash, Manifest, shard_uri
from tryon.engines.dataset import ShardReport, ShardWorker, run_shards
from tryon.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

C = TypeVar("C", bound=Config)
OnStep = Callable[[str, int, int], None]  # the step's name, tasks done, tasks in all

GROUPS = 64  # tasks a data set is cut into at least, if it has the shards
MIN_GROUP, MAX_GROUP = 8, 1024  # shards a task
IN_PROCESS_ROWS = 10_000  # a data set this small is done before Ray has started its actors, in three seconds
NODE_BITS = 20  # rows a shard; a row's number in the data set is shard << NODE_BITS | row
_META = b"tryon_step"


def shard_groups(num_shards: int, least: int = MIN_GROUP) -> list[range]:
    """Data shards cut into tasks; depends on their number alone, so that results do not depend on the machine.

    Args:
        num_shards: of the data set.
        least: shards a task, where the data set has them.
    """
    size = min(MAX_GROUP, max(least, -(-num_shards // GROUPS)))
    return [range(first, min(first + size, num_shards)) for first in range(0, num_shards, size)]


def actors_for(num_actors: int | None, manifest: Manifest) -> int | None:
    """The number of actors: as asked, or none where the data set is so small that starting them takes longer."""
    return 0 if num_actors is None and manifest.rows <= IN_PROCESS_ROWS else num_actors


def run_step(
    name: str,
    tasks: Sequence[Any],
    make_worker: Callable[[], ShardWorker],
    num_actors: int | None,
    on_step: OnStep | None,
) -> Iterable[ShardReport]:
    """Runs the tasks of one step and tells of each that is done."""
    for done, report in enumerate(run_shards(tasks, make_worker, num_actors=num_actors), start=1):
        if on_step is not None:
            on_step(name, done, len(tasks))
        yield report


def summed_hash(reports: Iterable[ShardReport]) -> str:
    """The content hash of a step whose reports come in any order."""
    total = ContentHash()
    for report in reports:
        total.add(report.shard, report.sha256)
    return total.hexdigest()


def read_columns(uri: str, shard: int, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a data shard, and no other byte of it; a column that the data set lacks is full of None."""
    with open_parquet(shard_uri(uri, shard)) as file:
        present = [name for name in names if name in file.schema_arrow.names]
        found = file.read(columns=present).to_pydict() if present else {}
        return {name: found.get(name, [None] * file.metadata.num_rows) for name in names}


def write_table(uri: str, table: pa.Table, told: Mapping[str, Any], groups: Sequence[int] | None = None) -> str:
    """Writes a Parquet file that carries a JSON object.

    Args:
        uri: of the file.
        table: the rows.
        told: what the file says of itself; ``told["key"]`` names the run.
        groups: rows of each row group, in order, their sum the table's; empty ones are left out. None: by 8,192.

    Returns:
        sha256 of the file's bytes.
    """
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({_META: json.dumps(told, sort_keys=True).encode()})
    sink, first = io.BytesIO(), 0
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        if groups is None:
            writer.write_table(table, row_group_size=8192)
        for size in groups or ():
            if size:
                writer.write_table(table.slice(first, size), row_group_size=size)
            first += size
    data = sink.getvalue()
    storage.write_bytes(uri, data)
    return storage.sha256(data)


def told_by(uri: str, key: str) -> dict[str, Any] | None:
    """What a file of `write_table` says of itself, if it is there and of the run `key`."""
    if not storage.exists(uri):
        return None
    try:
        with open_parquet(uri) as file:
            told: dict[str, Any] = json.loads((file.schema_arrow.metadata or {}).get(_META, b"{}"))
    except DataError:
        return None
    return told if told.get("key") == key else None


def read_table(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a file of `write_table`."""
    with open_parquet(uri) as file:
        return file.read(columns=list(columns) if columns else None)


def run_key(*parts: Any) -> str:
    """Names a run by everything that decides its bytes."""
    return storage.sha256(json.dumps(parts, sort_keys=True, default=str).encode())[:16]


def finish(folder: str, made: Config, num_files: int) -> None:
    """Ends a step: removes files of an earlier, longer run, writes the manifest, and drops the work folder.

    Args:
        folder: of the step's files, numbered ``<name>-00012.parquet``.
        made: the manifest.
        num_files: that belong to this run.
    """
    for path in storage.list_files(folder, (".parquet",), recursive=False):
        if int(path.rsplit("-", 1)[-1].removesuffix(".parquet")) >= num_files:
            storage.delete(path)
    storage.write_bytes(storage.join(folder, MANIFEST), made.model_dump_json(indent=2).encode())
    drop_work(folder)


def read_made(folder: str, model: type[C]) -> C | None:
    """The manifest of a step; None where there is none, or where another release or a fault has written it."""
    path = storage.join(folder, MANIFEST)
    try:
        return model.model_validate_json(storage.read_bytes(path)) if storage.exists(path) else None
    except ValidationError:
        return None


def work_folder(folder: str) -> str:
    """Where a step keeps what nobody needs once it is done."""
    return storage.join(folder, "_work")


def drop_work(folder: str) -> None:
    """Removes a step's work folder; a run that was killed right after its manifest has left one."""
    storage.delete(work_folder(folder))


def check_fresh(uri: str, what: str, data_sha256: str, manifest: Manifest) -> None:
    """Makes sure that what lies beside the shards was made from these shards.

    Raises:
        DataError: the data set has changed since.
    """
    if data_sha256 != manifest.sha256:
        text = f"the {what} of {uri!r} were made before the data set changed; `tryon data split {uri}` makes new ones"
        raise DataError(text, code="data-stale", field="--data")
