"""What a source is, and finding the right one for a URI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from tryon import storage
from tryon.errors import DataError
from tryon.sample import Row

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class Source(Protocol):
    """Samples, cut into tasks of one shard each. Picklable: it travels to the actors.

    Attributes:
        fields: fields that rows of this source may bring; a row may lack some (None).
        licence: of the photos.
    """

    fields: tuple[str, ...]
    licence: str

    def tasks(self) -> Iterable[Any]:
        """One picklable task a shard, in a fixed order; streamed, so that a listing of millions is never held.

        `repr` of a task decides whether a shard of an earlier run can be taken: it says all that the task is.
        """

    def read(self, task: Any) -> list[Row]:
        """The rows of a shard. A sample that cannot be read comes as a row with the error fields set."""

    def content_hash(self) -> str:
        """Changes when the samples behind equal tasks have changed; empty where that is not known cheaply."""


def chunk(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cuts a sequence into pieces of at most `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def error_row(row_id: str, error: DataError | ValueError, code: str, stage: str) -> Row:
    """A row that stands for a sample that could not be read."""
    return {"id": row_id, "error_code": code, "error": str(error), "error_stage": stage}


def open_source(uri: str) -> Source:
    """Finds out what lies at a URI: an annotated data set, a VITON-HD folder or a folder of person photos.

    Raises:
        DataError: nothing there, or nothing that is known.
    """
    from tryon.data.shards import MANIFEST
    from tryon.data.sources.folder import FolderSource
    from tryon.data.sources.shards import ShardSource
    from tryon.data.sources.viton_hd import VitonHdSource, find_split

    if not storage.exists(uri):
        raise DataError(f"{uri} does not exist", code="data-missing", field="IN")
    if storage.exists(storage.join(uri, MANIFEST)):
        return ShardSource(uri)
    split = find_split(uri)
    if split is not None:
        return VitonHdSource(split)
    photos = storage.list_files(uri, PHOTO_SUFFIXES)
    if not photos:
        text = f"{uri} holds no photos ({', '.join(PHOTO_SUFFIXES)}), no VITON-HD layout and no {MANIFEST}"
        raise DataError(text, code="data-empty", field="IN")
    return FolderSource(uri, photos)
