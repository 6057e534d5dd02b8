"""A folder of photos; the id of a sample is its path inside the folder."""

from __future__ import annotations

from collections.abc import Iterator

from tryon import storage
from tryon.config import Category
from tryon.data.shards import ROWS_PER_SHARD
from tryon.data.sources.base import PHOTO_SUFFIXES, Photos, Source
from tryon.data.sources.common import PathIds, chunks, mark_duplicates, row_or_error
from tryon.errors import DataError
from tryon.listing import LeftOut, iter_files
from tryon.sample import Row

Task = tuple[tuple[str, str], ...]  # (id, path inside the folder) of each photo


class FolderSource(Source):
    """Photos in a folder and the folders below it, of persons, of garments, or of nobody knows what.

    Attributes:
        left_out: what the last complete listing passed by; None before.
    """

    licence = "unstated"

    def __init__(self, uri: str, photos: Photos = "auto", category: Category | None = None) -> None:
        """Looks for a first photo.

        Args:
            uri: the folder, or a single photo.
            photos: what they show: ``"person"``, ``"garment"``, or ``"auto"``, which leaves it to sorting.
            category: of all garments, where that is known; None leaves it to sorting too.

        Raises:
            DataError: no photo at all; the message says what was found instead.
            StorageError: the folder cannot be listed.
        """
        self._root = storage.absolute(uri)
        self._photos = photos
        self._category = category
        self.left_out: LeftOut | None = None
        self.fields: tuple[str, ...] = (
            "id",
            "category",
            *(f"{kind}_uri" for kind in self._kinds()),
            "photo_file" if photos == "auto" else f"{photos}_file",
        )
        left_out = LeftOut()
        if next(iter_files(self._root, PHOTO_SUFFIXES, left_out, ordered=False), None) is None:
            found = "; ".join(["", *left_out.notice().splitlines()])
            text = f"{uri} holds no photos ({', '.join(PHOTO_SUFFIXES)}){found}"
            raise DataError(text, code="data-empty", field="IN")

    def tasks(self) -> Iterator[Task]:
        left_out = LeftOut()
        yield from chunks(self._named(left_out), ROWS_PER_SHARD)
        self.left_out = left_out

    def read(self, task: Task) -> list[Row]:
        return mark_duplicates([self._row(row_id, path) for row_id, path in task])

    def _kinds(self) -> tuple[str, ...]:
        # An unsorted photo has both: sorting says which of them counts.
        return ("person", "garment") if self._photos == "auto" else (self._photos,)

    def _named(self, left_out: LeftOut) -> Iterator[tuple[str, str]]:
        make_id = PathIds()
        for uri in iter_files(self._root, PHOTO_SUFFIXES, left_out):
            path = "" if uri == self._root else uri.removeprefix(self._root.rstrip("/") + "/")
            yield make_id(path or uri.rsplit("/", 1)[-1]), path

    def _row(self, row_id: str, path: str) -> Row:
        uri = storage.join(self._root, path) if path else self._root
        field = "photo_file" if self._photos == "auto" else f"{self._photos}_file"
        told = {"id": row_id, "category": self._category, **{f"{kind}_uri": _writable(uri) for kind in self._kinds()}}
        return row_or_error(told, lambda: {field: storage.read_bytes(uri)})


def _writable(uri: str) -> str:
    """The URI as text that a table can hold; only a name that is no UTF-8, and so cannot be read, is changed by it."""
    return uri.encode("utf-8", "backslashreplace").decode()
