"""Finding the right source for a URI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tryon import storage
from tryon.config import Category
from tryon.data.sources.base import CRAWL_RECORDS, CRAWL_REPORT, Pairing, Photos, Source
from tryon.errors import DataError

if TYPE_CHECKING:
    from tryon.data.crawl.config import FetchLimits


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
