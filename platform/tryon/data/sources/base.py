"""What a source is, and finding the right one for a URI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from tryon.errors import DataError
from tryon.sample import Row

if TYPE_CHECKING:
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

    def owns(self, task: Any, row_id: str) -> bool:
        """Whether a row of `read` is written; else it is read for the sake of those beside it."""
        del task, row_id
        return True

    def content_hash(self) -> str:
        """Changes when the samples behind equal tasks have changed; empty where that is not known cheaply."""
        return ""


def error_row(row_id: str, error: DataError | ValueError, code: str, stage: str) -> Row:
    """A row that stands for a sample that could not be read."""
    return {"id": row_id, "error_code": code, "error": str(error), "error_stage": stage}
