"""What stages found out about a photo, kept by the photo's hash: another garment on the same person skips it."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tryon.engines.in_process import OnStage, Pipeline
from tryon.sample import Batch, num_rows
from tryon.stages.base import Stage

PHOTOS = ("person_file", "garment_file")
TOLD = ("category",)
OVERHEAD = 1000  # bytes that an entry is counted with beside its arrays
OnLookup = Callable[[str, bool], None]


@dataclass
class _Entry:
    values: Mapping[str, Any]
    num_bytes: int


class PhotoCache:
    """The values of the photos used last, bounded in bytes; safe to use from several threads.

    Attributes:
        max_bytes: the bound; 0: nothing is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        """Keeps nothing yet.

        Args:
            max_bytes: of the values together; larger ones are not kept.
        """
        self.max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """That are kept."""
        return self._num_bytes

    def get(self, key: str) -> Mapping[str, Any] | None:
        """Values of a photo, its arrays read-only; None: they are not here."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry.values

    def put(self, key: str, values: Mapping[str, Any]) -> None:
        """Keeps the values of a photo; drops those not used for longest where there is no room."""
        kept = {name: _read_only(value) for name, value in values.items()}
        num_bytes = OVERHEAD + sum(_num_bytes(value) for value in kept.values())
        if num_bytes > self.max_bytes:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self._num_bytes += num_bytes - (old.num_bytes if old else 0)
            self._entries[key] = _Entry(kept, num_bytes)
            while self._num_bytes > self.max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._num_bytes -= dropped.num_bytes


@dataclass(frozen=True)
class Source:
    """What a stage's output is a function of.

    Attributes:
        photo: field of the one photo.
        told: fields that came with the photo and are no photo, such as the category.
    """

    photo: str
    told: tuple[str, ...] = ()

    def key(self, batch: Batch, i: int, digest: str) -> str:
        """Of a row whose photo has this hash."""
        return "-".join((self.photo, digest, *(repr(batch[name][i]) for name in self.told)))


class CachingPipeline:
    """A pipeline whose stages that look at one photo alone are run once a photo, and once a category of it.

    Args:
        pipeline: its stages are used, in their order.
        cache: of the values.
        on_lookup: told which photo was looked up, and whether it was there.
    """

    def __init__(self, pipeline: Pipeline, cache: PhotoCache, on_lookup: OnLookup = lambda photo, hit: None) -> None:
        self._pipeline = pipeline
        self._cache = cache
        self._on_lookup = on_lookup
        self._source_of = sources_of(pipeline.stages, pipeline.given)
        self._fields: dict[Source, tuple[str, ...]] = {}
        for stage in pipeline.stages:
            source = self._source_of.get(stage.name)
            if source is not None:
                self._fields[source] = tuple(dict.fromkeys((*self._fields.get(source, ()), *stage.adds)))

    def __call__(self, batch: Batch, on_stage: OnStage | None = None) -> Batch:
        """As `Pipeline.__call__`. Rows that share a photo with one before them go after it, and take what it found."""
        photos = dict.fromkeys(source.photo for source in self._fields)
        digests = {photo: [hashlib.sha256(data or b"").hexdigest() for data in batch[photo]] for photo in photos}
        keys = {
            source: [source.key(batch, i, digest) for i, digest in enumerate(digests[source.photo])]
            for source in self._fields
        }
        turns = self._turns([set(row) for row in zip(*keys.values(), strict=True)])
        if len(turns) <= 1:
            return self._run(batch, keys, on_stage)
        out: Batch = {}
        for rows in turns:
            part = {name: [column[i] for i in rows] for name, column in batch.items()}
            made = self._run(part, {source: [one[i] for i in rows] for source, one in keys.items()}, on_stage)
            for name, column in made.items():
                whole = out.setdefault(name, [None] * num_rows(batch))
                for i, value in zip(rows, column, strict=True):
                    whole[i] = value
        return out

    def _turns(self, keys: Sequence[set[str]]) -> list[list[int]]:
        """Rows that run together: none needs what another of its turn finds, and could take from the cache."""
        known = {key for key in set().union(*keys) if self._cache.get(key) is not None}
        turns, left = [], list(range(len(keys)))
        while left and self._cache.max_bytes:
            claimed: set[str] = set()
            turn, later = [], []
            for i in left:
                new = keys[i] - known
                if new & claimed:
                    later.append(i)
                else:
                    turn.append(i)
                    claimed |= new
            turns.append(turn)
            known |= claimed
            left = later
        return turns

    def _run(self, batch: Batch, keys: Mapping[Source, Sequence[str]], on_stage: OnStage | None) -> Batch:
        missed: list[tuple[Source, int, str]] = []
        given = dict(batch)
        for source, fields in self._fields.items():
            columns: dict[str, list[Any]] = {name: [None] * num_rows(batch) for name in fields}
            for i, key in enumerate(keys[source]):
                found = self._cache.get(key)
                if not source.told:
                    self._on_lookup(source.photo, found is not None)
                if found is None:
                    missed.append((source, i, key))
                    continue
                for name in fields:
                    columns[name][i] = found[name]
            given |= columns
        out = self._pipeline(given, on_stage, keeps=self._source_of.keys())
        for source, i, key in missed:
            if out["error_code"][i] is None:
                self._cache.put(key, {name: out[name][i] for name in self._fields[source]})
        return out


def sources_of(stages: Sequence[Stage], given: Sequence[str]) -> dict[str, Source]:
    """Stages whose output is a function of one photo and what was told with it, by name."""
    roots: dict[str, frozenset[str]] = {name: frozenset({name}) for name in given if name in (*PHOTOS, *TOLD)}
    found: dict[str, Source] = {}
    for stage in stages:
        reads = [name for name in (*stage.reads, *stage.optional) if name in stage.reads or name not in stage.adds]
        source = _source([roots.get(name) for name in reads])
        if source is not None and not set(stage.adds) & set(stage.reads):
            found[stage.name] = source
            roots |= dict.fromkeys(stage.adds, frozenset({source.photo, *source.told}))
        else:
            for name in stage.adds:
                roots.pop(name, None)
    return found


def _source(roots: Sequence[frozenset[str] | None]) -> Source | None:
    """Of fields with these roots; None where one has none, or they are not of one photo."""
    known = [one for one in roots if one is not None]
    together = frozenset[str]().union(*known)
    photos = [name for name in PHOTOS if name in together]
    if len(known) < len(roots) or len(photos) != 1:
        return None
    return Source(photos[0], tuple(sorted(together.difference(photos))))


def _read_only(value: Any) -> Any:
    """A value that later stages cannot change; a view is copied, so that what it is a part of is not kept."""
    if isinstance(value, np.ndarray):
        value = value.copy() if value.base is not None else value
        value.flags.writeable = False
    return value


def _num_bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, str | bytes) else 8
