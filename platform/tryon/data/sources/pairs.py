"""Pair lists: a person's and a garment's file name a line, as VITON-HD and DressCode write them."""

from __future__ import annotations

from collections.abc import Iterator

from tryon.errors import DataError
from tryon.listing import iter_lines, plain_name

Pair = tuple[str | None, str | None, str]  # person's name, garment's name, or what is wrong with the line
_SHOWN = 80  # characters of a line, in messages


def listed_lines(uri: str) -> Iterator[tuple[list[str], str]]:
    """Columns of each line that is not blank, with what to call the line in messages.

    Names may hold spaces where columns are parted by tabs.

    Raises:
        StorageError: the list cannot be read.
        DataError: it is no text.
    """
    name = uri.rsplit("/", 1)[-1]
    for number, line in enumerate(iter_lines(uri), start=1):
        columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
        if columns:
            yield columns, f"{name} line {number}: {plain_name(line[:_SHOWN])!r}"


def listed_pairs(uri: str, *, own_garment: bool) -> Iterator[Pair]:
    """Pairs of a list, streamed. A line that names no pair comes as one that `check_pair` refuses.

    Args:
        uri: of the list.
        own_garment: pair each person with the garment of the same name, whatever the second column says.
    """
    for columns, line in listed_lines(uri):
        if len(columns) < 2 or not is_inside(columns[0]) or not is_inside(columns[1]):
            yield None, None, line
        else:
            yield columns[0], columns[0] if own_garment else columns[1], ""


def is_inside(name: str) -> bool:
    """False for a name that leads out of its folder."""
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")


def check_pair(pair: Pair) -> None:
    """Refuses what stands for a line that names no pair.

    Raises:
        DataError: with the line.
    """
    if pair[2]:
        raise DataError(f"{pair[2]} names no person and garment", code="pair-invalid")
