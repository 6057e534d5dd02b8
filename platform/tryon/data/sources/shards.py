"""An annotated data set as a source: annotation goes on from the layers that are there."""

from __future__ import annotations

from collections.abc import Iterator

from tryon import storage
from tryon.data.shards import read_manifest, read_shard, shard_uris
from tryon.data.sources.base import Source
from tryon.sample import Row


class ShardSource(Source):
    """Rows of a data set's shards, one task a shard."""

    def __init__(self, uri: str) -> None:
        """Reads the manifest.

        Raises:
            DataError: no data set, or another schema version.
        """
        self._uri = storage.absolute(uri)
        self._manifest = read_manifest(self._uri)
        self.fields = self._manifest.fields
        self.complete = tuple(name for name in self.fields if not self._manifest.nulls.get(name))
        self.licence = self._manifest.licence

    def tasks(self) -> Iterator[str]:
        yield from shard_uris(self._uri, self._manifest)

    def read(self, task: str) -> list[Row]:
        batch = read_shard(task)
        names = list(batch)
        return [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]

    def content_hash(self) -> str:
        return self._manifest.sha256
