"""Work that is done ahead in a thread: the next batch is read and prepared while the network computes on this one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from queue import Empty, Full, Queue
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from tryon.training.recipes.base import Batches, Recipe, Tensors

T = TypeVar("T")
POLL_S = 0.1
JOIN_S = 5.0


class Ahead(Generic[T]):
    """Items of an iterable, taken from it in a thread of their own.

    Use it as a context manager, and the thread ends with it; iterated without, it ends with the process. Order is
    kept; an exception comes where its item would have.

    Args:
        items: taken one by one; closed in the thread where it is a generator.
        depth: items that wait to be used; one more is being made.
    """

    def __init__(self, items: Iterable[T], depth: int = 1) -> None:
        self._items = items
        self._ready: Queue[tuple[T] | BaseException | None] = Queue(depth)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="tryon-ahead", daemon=True)

    def __enter__(self) -> Iterator[T]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)  # a read that hangs does not hold up the end: the thread is a daemon

    def __iter__(self) -> Iterator[T]:
        self._thread.start()  # with the first item that is asked for
        while True:
            try:
                found = self._ready.get(timeout=POLL_S)
            except Empty:
                if not self._thread.is_alive() and self._ready.empty():
                    return
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found[0]

    def _fill(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for the item
            self._put(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _put(self, found: tuple[T] | BaseException | None) -> bool:
        while not self._ends.is_set():
            try:
                self._ready.put(found, timeout=POLL_S)
            except Full:
                continue
            return True
        return False


class Fetched(NamedTuple):
    """A batch that is to be used.

    Attributes:
        epoch: it is of.
        batch: batches of that epoch that are used once this one is.
        columns: as read; empty where the tensors are there.
        tensors: that the recipe has prepared; empty where it has to do so in the loop's own thread.
    """

    epoch: int
    batch: int
    columns: Mapping[str, Any]
    tensors: Tensors


def endless(recipe: Recipe, batches: Batches, epoch: int, batch: int, device: torch.device) -> Iterator[Fetched]:
    """Batches for ever, from a position on; a continued epoch passes by what it has used.

    Raises:
        ValueError: an epoch has no full batch.
    """
    while True:
        used = batch
        for columns in islice(batches(epoch), batch, None):
            used += 1
            if recipe.prepare_draws:
                yield Fetched(epoch, used, columns, {})
            else:
                tensors = recipe.prepare(columns)
                pinned = {n: v.pin_memory() for n, v in tensors.items()} if device.type == "cuda" else tensors
                yield Fetched(epoch, used, {}, pinned)
        if used == 0:
            raise ValueError("an epoch gave no full batch: lower batch_size or give more samples")
        epoch, batch = epoch + 1, 0
