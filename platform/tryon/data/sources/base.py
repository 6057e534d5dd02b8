"""What a source is, and finding the right one for a URI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from tryon import storage
from tryon.config import Category
from tryon.errors import DataError
from tryon.sample import Row

if TYPE_CHECKING:
    from tryon.data.crawl.config import FetchLimits
    from tryon.listing import LeftOut

Photos = Literal["auto", "person", "garment"]
Pairing = Literal["paired", "unpaired", "all"]
CRAWL_REPORT, CRAWL_RECORDS = "_crawl.json", "_crawl"
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


class Source(ABC):
    """Samples, cut into tasks of one shard each. Picklable: it travels to the actors.

    Attributes:
        fields: fields that rows of this source may bring; a row may lack some (None).
        complete: those of them that every row has, so that no stage needs to look for rows that lack them.
        licence: of the photos.
        left_out: files that the last complete listing passed by; None where nothing is listed.
    """

    fields: tuple[str, ...] = ()
    complete: tuple[str, ...] = ()
    licence: str = "unstated"
    left_out: LeftOut | None = None

    @abstractmethod
    def tasks(self) -> Iterable[Any]:
        """One picklable task a shard, in a fixed order; streamed, so that a listing of millions is never held.

        `repr` of a task decides whether a shard of an earlier run can be taken: it says all that the task is.
        """

    @abstractmethod
    def read(self, task: Any) -> list[Row]:
        """The rows of a shard. A sample that cannot be read comes as a row with the error fields set."""

    def content_hash(self) -> str:
        """Changes when the samples behind equal tasks have changed; empty where that is not known cheaply."""
        return ""


def error_row(row_id: str, error: DataError | ValueError, code: str, stage: str) -> Row:
    """A row that stands for a sample that could not be read."""
    return {"id": row_id, "error_code": code, "error": str(error), "error_stage": stage}


def open_source(
    uri: str,
    photos: Photos = "auto",
    *,
    pairing: Pairing = "paired",
    category: Category | None = None,
    fetch: FetchLimits | None = None,
) -> Source:
    """Finds out what lies at a URI.

    In this order: an annotated data set, what `tryon data crawl` wrote, a manifest (a table, or a folder with Parquet
    files in it), a VITON-HD folder, a DressCode folder, a folder of photos (or one photo).

    Args:
        uri: a path or ``s3://...``.
        photos: what the photos of a plain folder show; ``"auto"`` leaves it to sorting.
        pairing: which pairs of a VITON-HD or DressCode folder.
        category: of the garments in a plain folder, where that is known.
        fetch: behaviour towards the http hosts that a manifest names.

    Raises:
        DataError: nothing there, nothing that is known, or a crawl that is not finished.
        StorageError: access is denied, or the place cannot be reached.
    """
    from tryon.data.shards import MANIFEST
    from tryon.data.sources.dresscode import DressCodeSource, is_dresscode
    from tryon.data.sources.folder import FolderSource
    from tryon.data.sources.manifest import ManifestSource, is_manifest
    from tryon.data.sources.shards import ShardSource
    from tryon.data.sources.viton_hd import VitonHdSource, find_splits

    if not storage.exists(uri):
        raise DataError(f"{uri} does not exist", code="data-missing", field="IN")
    if storage.exists(storage.join(uri, MANIFEST)):
        return ShardSource(uri)
    if _is_unfinished_crawl(uri):
        text = f"{uri} holds a crawl that was cut off; the same `tryon data crawl` goes on from what is there"
        raise DataError(text, code="crawl-unfinished", field="IN")
    if is_manifest(uri):
        return ManifestSource(uri, fetch)
    if find_splits(uri):
        return VitonHdSource(uri, pairing)
    if is_dresscode(uri):
        return DressCodeSource(uri, pairing)
    try:
        return FolderSource(uri, photos, category)
    except DataError as error:
        text = f"{error.message}; and no {MANIFEST}, Parquet parts, VITON-HD or DressCode layout"
        raise DataError(text, code=error.code, field="IN") from error


def _is_unfinished_crawl(uri: str) -> bool:
    return storage.exists(storage.join(uri, CRAWL_RECORDS)) and not storage.exists(storage.join(uri, CRAWL_REPORT))
