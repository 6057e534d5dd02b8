"""A folder of person photos; the id of a sample is its path inside the folder."""

from __future__ import annotations

from collections.abc import Sequence

from tryon import storage
from tryon.data.shards import ROWS_PER_SHARD
from tryon.data.sources.base import chunk, error_row
from tryon.errors import StorageError
from tryon.sample import Row


class FolderSource:
    """Person photos without garment photos."""

    fields: tuple[str, ...] = ("id", "category", "person_file")
    licence = "unstated"

    def __init__(self, uri: str, photos: Sequence[str]) -> None:
        """Takes the folder's URI and the URIs of the photos in it."""
        self._root = storage.absolute(uri)
        self._photos = [storage.absolute(photo) for photo in photos]

    def tasks(self) -> Sequence[Sequence[str]]:
        return chunk(self._photos, ROWS_PER_SHARD)

    def read(self, task: Sequence[str]) -> list[Row]:
        rows = []
        for uri in task:
            row_id = uri.removeprefix(self._root).lstrip("/") or uri.rsplit("/", 1)[-1]
            try:
                rows.append({"id": row_id, "category": "upper", "person_file": storage.read_bytes(uri)})
            except StorageError as error:
                rows.append(error_row(row_id, error, error.code, "source"))
        return rows

    def content_hash(self) -> str:
        return ""
