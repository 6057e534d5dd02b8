"""Who gets whose garment: windows of garments, and turning a list of persons against one.

An unpaired list is a permutation in the small and windows of one in the large. Garments are dealt into windows of
about a thousand by a seeded hash of their id, so that a window is a fair sample of its split and category; each group
of data shards, some thousand persons, takes one window in turn. Inside, persons and garments are both laid out garment
group by garment group, in an order that the seed shuffles, and the one list is turned against the other by more than
its largest group: nobody gets a garment of their own group, and a garment comes up again only when the others have.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WINDOW = 1024  # garments that a group of shards chooses from
WINDOWS_A_FILE = 64
Kind = tuple[str, str]  # split, category


class Item(NamedTuple):
    """A person or a garment that is to be paired, sorted as it is laid out.

    Attributes:
        place: seeded hash of its garment group.
        group: its garment group.
        id: of its row.
    """

    place: int
    group: str
    id: str


class Windows:
    """Into how many windows the garments of each split and category are dealt, and how they are numbered."""

    def __init__(self, garments: Mapping[Kind, int], num_tasks: int) -> None:
        """Cuts the garments of each split and category, so many as given, for so many groups of data shards."""
        self._num_tasks = num_tasks
        self._first: dict[Kind, tuple[int, int]] = {}
        self.num = 0
        for kind, there in sorted(garments.items()):
            count = max(1, there // WINDOW)
            self._first[kind] = (self.num, count)
            self.num += count
        self.num_files = -(-self.num // WINDOWS_A_FILE)

    def of_garment(self, kind: Kind, share: float) -> int:
        """The window that a garment is dealt into.

        Args:
            kind: its split and category.
            share: 0 <= share < 1, from a hash of its id.
        """
        first, count = self._first[kind]
        return first + int(share * count)

    def of_task(self, kind: Kind, task: int) -> tuple[int, float] | None:
        """The window from which a group of data shards takes its garments, and where in it the group begins.

        Groups that share a window begin at even distances, so that they do not take the same garments.

        Returns:
            The window and a share 0..1 of its length, or None where there are no garments of the kind.
        """
        if kind not in self._first:
            return None
        first, count = self._first[kind]
        return first + task % count, task // count / -(-self._num_tasks // count)


def seeded(seed: int, *parts: str) -> int:
    """A hash of 64 bits, the same on every machine."""
    text = "\0".join((str(seed), *parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def turned(persons: Sequence[Item], garments: Sequence[Item], seed: int, begin: float = 0.0) -> dict[str, str]:
    """A garment of another group for each person, by turning one list against the other.

    Args:
        persons: sorted.
        garments: sorted.
        seed: decides how far they are turned.
        begin: where in the garments the persons begin, as a share of their number.

    Returns:
        The garment's row by the person's; persons for whom all garments are of their own group are left out.
    """
    num = len(garments)
    if not num:
        return {}
    largest = max(Counter(item.group for item in garments).values())
    queue = deque(garments)
    queue.rotate(-(largest + seed % max(1, num - 2 * largest + 1) + int(begin * num)))
    out = {}
    for person in persons:
        place = next((i for i, garment in enumerate(queue) if garment.group != person.group), None)
        if place is not None:
            garment = queue[place]
            del queue[place]
            queue.append(garment)
            out[person.id] = garment.id
    return out
