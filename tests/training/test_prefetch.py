"""Batches made ahead in a thread: order, position, faults and the end are those of the same loop without a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from tryon.training import ray_batches
from tryon.training.prefetch import Ahead
from tryon.training.ray_batches import RayEpochs

SIZE = (64, 48)


def threads() -> int:
    return sum(thread.name == "tryon-ahead" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends_with_them() -> None:
    with Ahead(range(50)) as items:
        assert list(items) == list(range(50))
    assert threads() == 0


def test_an_item_is_made_while_the_one_before_is_used() -> None:
    made: list[int] = []

    def slowly() -> Iterator[int]:
        for i in range(3):
            made.append(i)
            yield i

    with Ahead(slowly()) as items:
        assert next(items) == 0
        end = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert made == [0, 1, 2], "one waits, one is being made"


def test_a_fault_comes_where_its_item_would_have() -> None:
    def faulty() -> Iterator[int]:
        yield 1
        raise ValueError("the second is damaged")

    with Ahead(faulty()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="the second is damaged"):
            next(items)
    assert threads() == 0


def test_leaving_in_the_middle_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with Ahead(endless()) as items:
        next(items)
    assert closed.is_set()
    assert threads() == 0


class Shard:
    """A data shard of so many rows in blocks of seven; counts how often it was begun."""

    def __init__(self, num: int) -> None:
        self.num = num
        self.begun = 0

    def iter_batches(self, **_: Any) -> Iterator[Mapping[str, Any]]:
        self.begun += 1
        ids = np.array([f"row-{i}" for i in range(self.num)], dtype=object)
        images = np.arange(self.num, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
        for start in range(0, self.num, 7):
            yield {"id": ids[start : start + 7], "person": images[start : start + 7]}


def epoch_of(epochs: RayEpochs, epoch: int) -> list[list[str]]:
    return [batch["id"] for batch in epochs(epoch)]


def test_an_epoch_has_each_row_once_and_is_the_same_in_every_run() -> None:
    epochs = RayEpochs(Shard(40), 4, SIZE, seed=3)
    first, second = epoch_of(epochs, 0), epoch_of(epochs, 1)
    for batches in (first, second):
        assert sorted(row for batch in batches for row in batch) == sorted(f"row-{i}" for i in range(40))
    assert first != second
    assert epoch_of(RayEpochs(Shard(40), 4, SIZE, seed=3), 1) == second, "a run that goes on at epoch 1"
    assert epoch_of(RayEpochs(Shard(40), 4, SIZE, seed=4), 0) != first


def test_values_stay_with_their_ids_and_a_smaller_last_batch_is_dropped() -> None:
    batches = list(RayEpochs(Shard(23), 4, SIZE, seed=0)(0))
    assert [len(batch["id"]) for batch in batches] == [4] * 5
    for batch in batches:
        assert [f"row-{image[0, 0, 0]}" for image in batch["person"]] == batch["id"]


def test_a_buffer_smaller_than_the_epoch_still_gives_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batches, "SHUFFLE_ROWS", 8)
    batches = epoch_of(RayEpochs(Shard(40), 4, SIZE, seed=3), 0)
    assert sorted(row for batch in batches for row in batch) == sorted(f"row-{i}" for i in range(40))


def test_the_next_epoch_is_begun_while_this_one_is_used() -> None:
    shard = Shard(40)
    epoch = RayEpochs(shard, 4, SIZE, seed=0)(0)
    next(epoch)
    end = time.monotonic() + 5
    while shard.begun < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert shard.begun >= 2
