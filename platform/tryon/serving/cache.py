"""What stages found out about a photo alone, kept by the photo's hash: another garment on the same person skips it."""

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
OVERHEAD = 1000  # bytes that an entry is counted with beside its arrays
OnLookup = Callable[[str, bool], None]


@dataclass
class _Entry:
    values: Mapping[str, Any]
    num_bytes: int


class PhotoCache:
    """The values of the photos used last, bounded in bytes; safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        """Keeps nothing yet.

        Args:
            max_bytes: of the values together; larger ones are not kept.
        """
        self._max_bytes = max_bytes
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
        if num_bytes > self._max_bytes:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self._num_bytes += num_bytes - (old.num_bytes if old else 0)
            self._entries[key] = _Entry(kept, num_bytes)
            while self._num_bytes > self._max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._num_bytes -= dropped.num_bytes


class CachingPipeline:
    """A pipeline whose stages that look at one photo alone are run once a photo.

    Args:
        pipeline: its stages are used, in their order.
        cache: of the values.
        on_lookup: told which photo was looked up, and whether it was there.
    """

    def __init__(self, pipeline: Pipeline, cache: PhotoCache, on_lookup: OnLookup = lambda photo, hit: None) -> None:
        self._pipeline = pipeline
        self._cache = cache
        self._on_lookup = on_lookup
        self._photo_of = photos_of(pipeline.stages, pipeline.given)
        self._fields: dict[str, tuple[str, ...]] = {}
        for stage in pipeline.stages:
            photo = self._photo_of.get(stage.name)
            if photo is not None:
                self._fields[photo] = tuple(dict.fromkeys((*self._fields.get(photo, ()), *stage.adds)))

    def __call__(self, batch: Batch, on_stage: OnStage | None = None) -> Batch:
        """As `Pipeline.__call__`."""
        keys = {photo: [_key(photo, data) for data in batch[photo]] for photo in self._fields}
        missed: list[tuple[str, int]] = []
        given = dict(batch)
        for photo, fields in self._fields.items():
            columns: dict[str, list[Any]] = {name: [None] * num_rows(batch) for name in fields}
            for i, key in enumerate(keys[photo]):
                found = self._cache.get(key)
                self._on_lookup(photo, found is not None)
                if found is None:
                    missed.append((photo, i))
                    continue
                for name in fields:
                    columns[name][i] = found[name]
            given |= columns
        out = self._pipeline(given, on_stage, keeps=self._photo_of.keys())
        for photo, i in missed:
            if out["error_code"][i] is None:
                values = {name: out[name][i] for name in self._fields[photo]}
                self._cache.put(keys[photo][i], values)
        return out


def photos_of(stages: Sequence[Stage], given: Sequence[str]) -> dict[str, str]:
    """Stages that look at one photo alone, by name, and the field its file is in."""
    source = {name: name for name in PHOTOS if name in given}
    found: dict[str, str] = {}
    for stage in stages:
        reads = [name for name in (*stage.reads, *stage.optional) if name in stage.reads or name not in stage.adds]
        sources = {source.get(name) for name in reads}
        (only,) = sources if len(sources) == 1 else (None,)
        if only is not None and not set(stage.adds) & set(stage.reads):
            found[stage.name] = only
            source |= dict.fromkeys(stage.adds, only)
        else:
            for name in stage.adds:
                source.pop(name, None)
    return found


def _key(photo: str, data: bytes) -> str:
    return f"{photo}-{hashlib.sha256(data).hexdigest()}"


def _read_only(value: Any) -> Any:
    """A value that later stages cannot change; a view is copied, so that what it is a part of is not kept."""
    if isinstance(value, np.ndarray):
        value = value.copy() if value.base is not None else value
        value.flags.writeable = False
    return value


def _num_bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, str | bytes) else 8
