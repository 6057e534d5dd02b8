"""What the sources share: cutting streams into tasks, rows that tell their fault, names that do not collide."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tryon.errors import StorageError, TryonError
from tryon.listing import folded, plain_name
from tryon.sample import Row

T = TypeVar("T")
STAGE = "source"  # what error rows name as the place of the fault

_CATEGORY_WORDS = {
    "upper": ("upper", "upper_body", "upper-body", "upperbody", "top", "tops"),
    "lower": ("lower", "lower_body", "lower-body", "lowerbody", "bottom", "bottoms"),
    "dress": ("dress", "dresses", "full", "full_body", "full-body"),
}
CATEGORY_OF = {word: category for category, words in _CATEGORY_WORDS.items() for word in words}


def chunks(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Cuts a stream into tuples of `size`; the last may be shorter."""
    stream = iter(items)
    while piece := tuple(itertools.islice(stream, size)):
        yield piece


def row_or_error(told: Row, make: Callable[[], Row]) -> Row:
    """What is known of a sample with what `make` reads of it, or with the reason why it cannot be read.

    Args:
        told: `id` and whatever else is known before a file is opened; a quarantined row keeps it.
        make: reads the rest.
    """
    try:
        return {**told, **make()}
    except TryonError as error:
        return {**told, "error_code": error.code, "error": error.message, "error_stage": STAGE}
    except UnicodeEncodeError:
        text = f"{told['id']}: its name holds bytes that are no UTF-8; rename it"
        return {**told, "error_code": "name-invalid", "error": text, "error_stage": STAGE}
    except OSError as error:  # a file system that says in its own words what storage has no word for
        fault = StorageError(f"{told['id']} cannot be read: {error}", code="uri-unreadable")
        return {**told, "error_code": fault.code, "error": fault.message, "error_stage": STAGE}


def mark_duplicates(rows: list[Row]) -> list[Row]:
    """Puts an error on each row whose id another row of the same task has already."""
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen and row.get("error_code") is None:
            row["error_code"], row["error_stage"] = "id-duplicate", STAGE
            row["error"] = f"{row['id']}: another sample has this id already"
        seen.add(row["id"])
    return rows


class PathIds:
    """Ids from paths inside a folder, unique also where case and Unicode normalisation do not count.

    Paths have to come as `iter_files` gives them: names that collide are then neighbours in their folder, so that
    nothing but the last name of each level is held. The first of them keeps its name, the others get eight hex digits
    of its hash.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._made: list[str] = []
        self._last: list[dict[str, str]] = [{}]

    def __call__(self, path: str) -> str:
        """The id of the next path."""
        parts = path.split("/")
        same = 0
        while same < min(len(parts), len(self._parts)) - 1 and parts[same] == self._parts[same]:
            same += 1
        self._made, self._last = self._made[:same], self._last[: same + 1]
        for part in parts[same:]:
            self._made.append(self._name(part, self._last[-1]))
            self._last.append({})
        self._parts = parts
        return "/".join(self._made)

    @staticmethod
    def _name(part: str, last: dict[str, str]) -> str:
        key = folded(part)
        collides = key in last and last[key] != part
        if key not in last:
            last.clear()
            last[key] = part
        plain = plain_name(part)
        return _with_hash(plain, part) if collides else plain


def _with_hash(plain: str, part: str) -> str:
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    stem, dot, suffix = plain.rpartition(".")
    return f"{stem}~{digest}.{suffix}" if dot and stem else f"{plain}~{digest}"


def stem_of(name: str) -> str:
    """A file's name without its suffix."""
    return name.rsplit(".", 1)[0]


def merge_names(left: Iterable[str], right: Iterable[str]) -> Iterator[tuple[str | None, str | None]]:
    """Joins two streams of names in the order of `iter_files`: equal names together, others alone."""
    lefts, rights = iter(left), iter(right)
    a, b = next(lefts, None), next(rights, None)
    while a is not None or b is not None:
        if b is None or (a is not None and _order(a) < _order(b)):
            yield a, None
            a = next(lefts, None)
        elif a is None or _order(b) < _order(a):
            yield None, b
            b = next(rights, None)
        else:
            yield a, b
            a, b = next(lefts, None), next(rights, None)


def _order(name: str) -> tuple[str, str]:
    return folded(name), name
