"""Splits without leaks: rows that are linked in any way are on one side, and adding data moves no other row.

<uri>/_splits/shard-00012.parquet   id, split, component, duplicate_of, garment_group; in the data shard's order
<uri>/_splits/_manifest.json        config, counts, the data set's own hash
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

from pydantic import Field, model_validator

from tryon import storage
from tryon.config import Config
from tryon.data.curate.components import ComponentWorker, Label, read_labels
from tryon.data.curate.duplicates import find_duplicates
from tryon.data.curate.links import HASHES, SPLITS, DuplicateConfig
from tryon.data.curate.steps import (
    NODE_BITS,
    OnStep,
    actors_for,
    check_fresh,
    drop_work,
    finish,
    read_columns,
    read_made,
    read_table,
    run_key,
    run_step,
    shard_groups,
    summed_hash,
    told_by,
    work_folder,
    write_table,
)
from tryon.data.shards import MANIFEST, Manifest, read_manifest
from tryon.engines.dataset import ShardReport
from tryon.errors import DataError

FOLDER = "_splits"
VERSION = 1  # goes up when the same data set and config give another split


class SplitConfig(Config):
    """How rows are put on sides."""

    val_fraction: float = Field(0.1, ge=0, le=1, description="of the components")
    test_fraction: float = Field(0.0, ge=0, le=1, description="of the components")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="another seed, another split")
    keep: bool = Field(True, description="rows whose source names a split stay there, and what is linked follows")
    duplicates: DuplicateConfig = Field(default_factory=DuplicateConfig, description="what counts as the same photo")

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction + test_fraction must be less than 1")
        return self


class Side(Config):
    """What lies on one side; what is not a duplicate is counted by category too."""

    rows: int = Field(0, ge=0, description="rows")
    duplicates: int = Field(0, ge=0, description="rows that another one stands for")
    persons: Mapping[str, int] = Field(default_factory=dict, description="by category")
    garments: Mapping[str, int] = Field(default_factory=dict, description="by category")
    pairs: Mapping[str, int] = Field(default_factory=dict, description="rows that have both, by category")


class SplitManifest(Config):
    """What `_splits/_manifest.json` holds."""

    version: int = Field(description="of the format and the method")
    data_sha256: str = Field(description="content hash of the data set")
    config: SplitConfig = Field(description="what the run was told")
    num_shards: int = Field(ge=0, description="Parquet files, one a data shard")
    sides: Mapping[str, Side] = Field(description="train, val and test")
    linked: int = Field(ge=0, description="rows that have a link")
    components: int = Field(ge=0, description="rows and groups of linked rows")
    largest: int = Field(ge=0, description="rows of the largest component")
    conflicts: int = Field(ge=0, description="components whose rows come with different splits, so that they leak")
    conflict_examples: tuple[str, ...] = Field(description="names of the first of them")
    sha256: str = Field(description="over the files")


def split_uri(uri: str, shard: int) -> str:
    """URI of the file beside a data shard."""
    return storage.join(uri, FOLDER, f"shard-{shard:05d}.parquet")


def side_of(component: str, config: SplitConfig) -> str:
    """The side that a component is put on, by its name alone."""
    digest = hashlib.sha256(f"{config.seed}:{component}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test_fraction:
        return "test"
    return "val" if place < config.test_fraction + config.val_fraction else "train"


def split_data(
    uri: str, config: SplitConfig | None = None, *, num_actors: int | None = None, on_step: OnStep | None = None
) -> SplitManifest:
    """Puts every row of a data set on a side, and writes that beside its shards.

    No person, garment or photo is on two sides: rows are connected by person_id, garment_id, digest and near hash,
    and each component goes where the hash of its smallest id sends it. With ``keep``, rows that bring a split stay
    in it; where linked rows bring different ones that is a conflict, which the manifest counts and names.

    Args:
        uri: of the data set.
        config: fractions, seed, what counts as the same photo.
        num_actors: see `run_shards`; None does a small data set in this process.
        on_step: told of each task that is done.

    Raises:
        DataError: no data set, no rows, or no fingerprints.
    """
    uri, config = storage.absolute(uri), config or SplitConfig()
    manifest, folder = read_manifest(uri), storage.join(uri, FOLDER)
    links = find_duplicates(uri, config.duplicates, num_actors=num_actors, on_step=on_step)
    done = read_split_manifest(uri)
    if done is not None and (done.version, done.data_sha256, done.config) == (VERSION, manifest.sha256, config):
        drop_work(folder)
        return done
    storage.delete(storage.join(folder, MANIFEST))  # from here on the files are partly new
    num_actors = actors_for(num_actors, manifest)
    key = run_key("splits", VERSION, links.sha256, manifest.sha256, config.model_dump())
    labels = storage.join(work_folder(folder), "labels.parquet")
    connect = partial(ComponentWorker, uri, key, links.num_parts, labels)
    (report,) = run_step("connect", [None], connect, num_actors, on_step)
    found = json.loads(report.payload)
    worker = partial(SplitWorker, uri, key, labels, config)
    reports = list(run_step("split", shard_groups(manifest.num_shards), worker, num_actors, on_step))
    made = _manifest(manifest, config, found, reports)
    finish(folder, made, manifest.num_shards)
    return made


def _manifest(
    manifest: Manifest, config: SplitConfig, found: Mapping[str, Any], reports: Sequence[ShardReport]
) -> SplitManifest:
    counts = _summed(reports)
    rows = sum(report.rows_in for report in reports)
    assert rows == manifest.rows == sum(counts[side]["rows"] for side in SPLITS), "every row is on one side"
    return SplitManifest(
        version=VERSION,
        data_sha256=manifest.sha256,
        config=config,
        num_shards=manifest.num_shards,
        sides={name: Side.model_validate(side) for name, side in counts.items()},
        linked=found["rows"],
        components=found["components"] + rows - found["rows"],
        largest=max(found["largest"], 1),
        conflicts=found["conflicts"] if config.keep else 0,
        conflict_examples=tuple(found["examples"]) if config.keep else (),
        sha256=summed_hash(reports),
    )


def _summed(reports: Sequence[ShardReport]) -> dict[str, dict[str, Any]]:
    total: Counter[str] = Counter()
    for report in reports:
        total.update(json.loads(report.payload))
    sides: dict[str, dict[str, Any]] = {name: {"rows": 0, "duplicates": 0} for name in SPLITS}
    for path, count in sorted(total.items()):
        side, what, *category = path.split("/")
        if category:
            sides[side].setdefault(what, {})[category[0]] = count
        else:
            sides[side][what] = count
    return sides


class SplitWorker:
    """Writes the split of each row of a group of data shards."""

    def __init__(self, uri: str, key: str, labels: str, config: SplitConfig) -> None:
        self._uri = uri
        self._key = key
        self._labels = labels
        self._config = config

    def process(self, shard: int, task: range) -> ShardReport:
        """Writes the group's files, but for those that are there."""
        labels: dict[int, Label] | None = None
        counts: Counter[str] = Counter()
        hashes, rows = [], 0
        for number in task:
            path = split_uri(self._uri, number)
            told = told_by(path, self._key)
            if told is None:
                if labels is None:
                    labels = read_labels(self._labels, task.start << NODE_BITS, task.stop << NODE_BITS)
                told = self._write(path, number, labels)
            counts.update(told["counts"])
            rows += told["rows"]
            hashes.append(storage.sha256(storage.read_bytes(path)))
        digest = storage.sha256("\n".join(hashes).encode())
        return ShardReport(shard, rows, rows, 0, digest, payload=json.dumps(counts, sort_keys=True))

    def _write(self, path: str, shard: int, labels: Mapping[int, Label]) -> dict[str, Any]:
        import pyarrow as pa

        columns = read_columns(self._uri, shard, ("id", "split", "category", *HASHES))
        out: dict[str, list[Any]] = {name: [] for name in ("id", "split", "component", "duplicate_of", "garment_group")}
        counts: Counter[str] = Counter()
        for row, (row_id, own, category, person, garment) in enumerate(zip(*columns.values(), strict=True)):
            label = labels.get((shard << NODE_BITS) + row) or Label(row_id, row_id, None, 0)
            side = self._side(label, own)
            values = (row_id, side, label.component, label.duplicate_of, label.garment_group)
            for column, value in zip(out.values(), values, strict=True):
                column.append(value)
            counts.update(_counted(side, label.duplicate_of is not None, category, person, garment))
        told = {"key": self._key, "rows": len(out["id"]), "counts": counts}
        write_table(path, pa.table({name: pa.array(column, pa.string()) for name, column in out.items()}), told)
        return told

    def _side(self, label: Label, own: str | None) -> str:
        if self._config.keep and own in SPLITS:
            return str(own)
        if self._config.keep and label.kept:
            return SPLITS[label.kept - 1]
        return side_of(label.component, self._config)


def _counted(side: str, duplicate: bool, category: str | None, person: str | None, garment: str | None) -> list[str]:
    if duplicate:
        return [f"{side}/rows", f"{side}/duplicates"]
    kinds = {"persons": person, "garments": garment, "pairs": person and garment}
    return [f"{side}/rows", *(f"{side}/{kind}/{category or ''}" for kind, there in kinds.items() if there)]


def read_split_manifest(uri: str) -> SplitManifest | None:
    """What a data set's splits say of themselves, or None where there are none. They may be of older shards."""
    return read_made(storage.join(storage.absolute(uri), FOLDER), SplitManifest)


def check_split(uri: str) -> SplitManifest:
    """The manifest of splits that are there and belong to the shards as they are now.

    Raises:
        DataError: there are none, or the data set has changed since; the message says what to do.
    """
    made = read_split_manifest(uri)
    if made is None:
        raise DataError(f"{uri!r} is not split; `tryon data split {uri}` does it", code="data-fields", field="--data")
    check_fresh(uri, "splits", made.data_sha256, read_manifest(uri))
    return made


def read_split(uri: str, shard: int) -> dict[str, str] | None:
    """The split of each row of a data shard by its id, in the shard's order; None where the data set is not split.

    Whether the splits belong to the shards as they are now is `check_split`'s to say, once for all shards.
    """
    path = split_uri(storage.absolute(uri), shard)
    if not storage.exists(path):
        return None
    table = read_table(path, ("id", "split"))
    return dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
