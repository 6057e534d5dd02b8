"""What differs between two data sets: rows by id, values by field, and by how much layers moved."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.buckets import Buckets
from tryon.data.look.measure import LayerChange, compare, summed
from tryon.data.rows import iter_rows
from tryon.data.shards import Manifest, read_manifest, shard_uri
from tryon.engines.dataset import ShardReport, run_shards
from tryon.errors import DataError
from tryon.sample import Row

EXAMPLES = 10
MEASURED = 4096  # changed rows that are measured; a uniform sample of them where there are more
HASH_BYTES = 8
OnShard = Callable[[str, int, int], None]
Changed = tuple[str, int, int]  # id, shard in a, shard in b


class DataDiff(Config):
    """What `tryon data diff` found."""

    a: str = Field(description="URI of the first data set")
    b: str = Field(description="URI of the second")
    rows: tuple[int, int] = Field(description="of both")
    quarantined: tuple[int, int] = Field(description="of both")
    same: int = Field(ge=0, description="rows that are equal in every field that both have")
    added: int = Field(ge=0, description="ids only in the second")
    removed: int = Field(ge=0, description="ids only in the first")
    changed: int = Field(ge=0, description="ids in both, with a value that differs")
    first: Mapping[str, tuple[str, ...]] = Field(description="the first ids that were added, removed, changed")
    fields_added: tuple[str, ...] = Field(description="only in the second")
    fields_removed: tuple[str, ...] = Field(description="only in the first")
    fields_changed: Mapping[str, int] = Field(description="rows whose value differs, by field")
    layers: Mapping[str, LayerChange] = Field(description="by how much, over the rows measured")
    measured: int = Field(ge=0, description="changed rows that `layers` is over")
    told: Mapping[str, tuple[Any, Any]] = Field(description="config, annotators, licence ... that differ, both values")

    @property
    def equal(self) -> bool:
        """The same rows with the same values, whatever the configuration says."""
        columns = self.fields_added or self.fields_removed
        return not (self.added or self.removed or self.changed or columns)


class HashWorker:
    """Hashes every value of a shard, for the fields given."""

    def process(self, shard: int, task: tuple[str, int, tuple[str, ...]]) -> ShardReport:
        """Payload: by row its id and the hashes, one field after the other."""
        uri, number, fields = task
        rows = [(row["id"], "".join(_hash(row[name]) for name in fields)) for row in iter_rows(shard_uri(uri, number))]
        return ShardReport(number, len(rows), len(rows), 0, payload=json.dumps(rows))


def _hash(value: Any) -> str:
    data = b"\0" if value is None else value if isinstance(value, bytes) else repr(value).encode()
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()


class MeasureWorker:
    """Measures by how much the layers of changed rows differ."""

    def process(self, shard: int, task: tuple[str, str, list[Changed], tuple[str, ...]]) -> ShardReport:
        """Payload: by row and layer what `compare` says. All rows of a task are in one shard of either data set."""
        uri_a, uri_b, changed, fields = task
        ids = {row_id for row_id, _, _ in changed}
        _, shard_a, shard_b = changed[0]
        old = _rows(shard_uri(uri_a, shard_a), ids, fields)
        found = []
        for row_id, row in sorted(_rows(shard_uri(uri_b, shard_b), ids, fields).items()):
            found.append({name: compare(name, old[row_id][name], row[name]) for name in fields})
        return ShardReport(shard, len(found), len(found), 0, payload=json.dumps(found))


def _rows(uri: str, ids: set[str], fields: tuple[str, ...]) -> dict[str, Row]:
    return {row["id"]: row for row in iter_rows(uri, ("id", *fields)) if row["id"] in ids}


def diff(a: str, b: str, *, num_actors: int | None = None, on_shard: OnShard | None = None) -> DataDiff:
    """Compares two data sets; neither the order of rows nor how they are cut into shards counts.

    What is held in memory does not grow with the rows: hashes are spilled to local files by the hash of the id.

    Args:
        a: URI of the first.
        b: URI of the second.
        num_actors: see `run_shards`.
        on_shard: told what is done, the shards done and their number.

    Raises:
        DataError: no data set, a shard that is damaged, or an id that occurs twice in one data set.
        StorageError: a shard is missing or cannot be read.
    """
    uris = storage.absolute(a), storage.absolute(b)
    sets = read_manifest(uris[0]), read_manifest(uris[1])
    fields = tuple(name for name in sets[0].fields if name in sets[1].fields and name != "id")
    with Buckets(sum(manifest.rows for manifest in sets)) as hashes:
        for side, (uri, manifest) in enumerate(zip(uris, sets, strict=True)):
            for row_id, shard, digest in _hashes(uri, manifest, fields, num_actors, on_shard):
                hashes.add(row_id, [side, shard, digest])
        tally = _Tally(uris, fields)
        for row_id, found in hashes.groups():
            tally.add(row_id, found)
    layers = _measure(uris, tally, num_actors, on_shard)
    return DataDiff(
        a=uris[0],
        b=uris[1],
        rows=(sets[0].rows, sets[1].rows),
        quarantined=(sets[0].quarantined, sets[1].quarantined),
        **tally.counts(),
        fields_added=tuple(name for name in sets[1].fields if name not in sets[0].fields),
        fields_removed=tuple(name for name in sets[0].fields if name not in sets[1].fields),
        layers=layers,
        measured=len(tally.sample()),
        told=_told(*sets),
    )


def _hashes(
    uri: str, manifest: Manifest, fields: tuple[str, ...], num_actors: int | None, on_shard: OnShard | None
) -> Iterator[tuple[str, int, str]]:
    tasks = ((uri, shard, fields) for shard in range(manifest.num_shards))
    for done, report in enumerate(run_shards(tasks, HashWorker, num_actors=num_actors), 1):
        for row_id, digest in json.loads(report.payload):
            yield row_id, report.shard, digest
        if on_shard is not None:
            on_shard("hash", done, manifest.num_shards)


class _Tally:
    """Rows compared by their hashes: counts, first examples, and a sample of those that changed."""

    def __init__(self, uris: tuple[str, str], fields: tuple[str, ...]) -> None:
        self._uris, self._fields = uris, fields
        self._counts: Counter[str] = Counter()
        self._fields_changed: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
        self._sample: list[tuple[int, Changed]] = []  # a heap: the rows whose ids have the smallest hashes

    def add(self, row_id: str, found: Sequence[Sequence[Any]]) -> None:
        """Takes in all that was found under an id: (0 or 1 for the data set, shard, hashes)."""
        sides = [side for side, _, _ in found]
        for side in (0, 1):
            if sides.count(side) > 1:
                text = f"{self._uris[side]} has {sides.count(side)} rows of the id {row_id!r}"
                raise DataError(f"{text}; `tryon data validate` lists such rows", code="id-duplicate")
        if len(found) == 1:
            self._note("removed" if sides == [0] else "added", row_id)
            return
        (_, shard_a, old), (_, shard_b, new) = found
        if old == new:
            self._counts["same"] += 1
            return
        self._note("changed", row_id)
        width = 2 * HASH_BYTES
        pieces = (
            (old[i * width : (i + 1) * width], new[i * width : (i + 1) * width]) for i in range(len(self._fields))
        )
        self._fields_changed.update(n for n, (x, y) in zip(self._fields, pieces, strict=True) if x != y)
        rank = int.from_bytes(hashlib.blake2b(row_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        heapq.heappush(self._sample, (-rank, (row_id, shard_a, shard_b)))
        if len(self._sample) > MEASURED:
            heapq.heappop(self._sample)

    def _note(self, kind: str, row_id: str) -> None:
        self._counts[kind] += 1
        self._first[kind] = sorted([*self._first[kind], row_id])[:EXAMPLES]

    @property
    def changed_fields(self) -> tuple[str, ...]:
        """Fields with a value that differs, in the schema's order."""
        return tuple(name for name in self._fields if self._fields_changed[name])

    def sample(self) -> list[Changed]:
        """The changed rows to measure, by id."""
        return sorted(changed for _, changed in self._sample)

    def counts(self) -> dict[str, Any]:
        """As `DataDiff` has them."""
        kinds = ("same", "added", "removed", "changed")
        return {
            **{kind: self._counts[kind] for kind in kinds},
            "first": {kind: tuple(ids) for kind, ids in self._first.items()},
            "fields_changed": {name: self._fields_changed[name] for name in self.changed_fields},
        }


def _measure(
    uris: tuple[str, str], tally: _Tally, num_actors: int | None, on_shard: OnShard | None
) -> dict[str, LayerChange]:
    fields = tally.changed_fields
    groups: dict[tuple[int, int], list[Changed]] = {}
    for changed in tally.sample():
        groups.setdefault(changed[1:], []).append(changed)
    if not groups:
        return {}
    tasks = [(*uris, group, fields) for _, group in sorted(groups.items())]
    by_task: list[list[Mapping[str, Any]]] = [[] for _ in tasks]  # small: a few numbers a layer of MEASURED rows
    for done, report in enumerate(run_shards(tasks, MeasureWorker, num_actors=num_actors), 1):
        by_task[report.shard] = json.loads(report.payload)
        if on_shard is not None:
            on_shard("measure", done, len(tasks))
    measured: Iterable[Mapping[str, Any]] = (row for rows in by_task for row in rows)
    return summed(fields, list(measured))


def _told(a: Manifest, b: Manifest) -> dict[str, tuple[Any, Any]]:
    """What the manifests say differently; nested keys are joined by dots."""
    keys = {"config", "annotators", "licence", "parents", "schema_version", "tryon_version"}
    flat = [_flat(manifest.model_dump(mode="json", include=keys)) for manifest in (a, b)]
    names = sorted({*flat[0], *flat[1]})
    return {n: (flat[0].get(n), flat[1].get(n)) for n in names if flat[0].get(n) != flat[1].get(n)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat
