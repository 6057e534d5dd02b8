"""Lists of pairs: each person with its own garment, and with one of somebody else's of the same split and category.

<uri>/_pairs/shard-00012.parquet   split, setting, person, garment; for the persons of data shard 12, in its order
<uri>/_pairs/_manifest.json        config, counts, the hashes of the data set and its splits
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.curate.links import SPLITS
from tryon.data.curate.pair_steps import FOLDER, DealWorker, GatherWorker, PairConfig, PairWorker, pairs_uri
from tryon.data.curate.pairing import Windows
from tryon.data.curate.splits import check_split
from tryon.data.curate.steps import (
    OnStep,
    actors_for,
    check_fresh,
    drop_work,
    finish,
    read_made,
    read_table,
    run_key,
    run_step,
    shard_groups,
    summed_hash,
)
from tryon.data.shards import MANIFEST, read_manifest
from tryon.errors import DataError

VERSION = 1  # goes up when the same splits and config give other pairs
ROWS_A_GROUP = 2048  # two windows' worth: up to here an unpaired list is one permutation
Setting = Literal["paired", "unpaired"]
SETTINGS: tuple[Setting, ...] = ("paired", "unpaired")


class PairManifest(Config):
    """What `_pairs/_manifest.json` holds."""

    version: int = Field(description="of the format and the method")
    data_sha256: str = Field(description="content hash of the data set")
    splits_sha256: str = Field(description="content hash of its splits")
    config: PairConfig = Field(description="what the run was told")
    num_shards: int = Field(ge=0, description="Parquet files, one a data shard")
    counts: Mapping[str, Mapping[str, int]] = Field(
        description="by split: pairs of each setting, and unmatched: persons for whom there is no other garment"
    )
    sha256: str = Field(description="over the files")


def pair_data(
    uri: str, config: PairConfig | None = None, *, num_actors: int | None = None, on_step: OnStep | None = None
) -> PairManifest:
    """Writes the lists of pairs of a data set that `split_data` has split. Duplicates are not listed.

    Args:
        uri: of the data set.
        config: the seed.
        num_actors: see `run_shards`; None does a small data set in this process.
        on_step: told of each task that is done.

    Raises:
        DataError: the data set is not split, or has changed since.
    """
    uri, config = storage.absolute(uri), config or PairConfig()
    splits, manifest, folder = check_split(uri), read_manifest(uri), storage.join(uri, FOLDER)
    done = read_pair_manifest(uri)
    if done is not None and (done.version, done.splits_sha256, done.data_sha256, done.config) == (
        VERSION, splits.sha256, splits.data_sha256, config,
    ):  # fmt: skip
        drop_work(folder)
        return done
    storage.delete(storage.join(folder, MANIFEST))  # from here on the files are partly new
    num_actors = actors_for(num_actors, manifest)
    key = run_key("pairs", VERSION, splits.sha256, splits.data_sha256, config.model_dump())
    groups = shard_groups(manifest.num_shards, -(-ROWS_A_GROUP * manifest.num_shards // manifest.rows))
    garments = {(side, kind): num for side, one in splits.sides.items() for kind, num in one.garments.items()}
    windows = Windows(garments, len(groups))
    make = partial(DealWorker, uri, key, config, windows)
    list(run_step("deal", groups, make, num_actors, on_step))
    gather = partial(GatherWorker, uri, key, len(groups), windows)
    list(run_step("gather", range(windows.num_files), gather, num_actors, on_step))
    reports = list(run_step("pair", groups, partial(PairWorker, uri, key, config, windows), num_actors, on_step))
    total: Counter[str] = Counter()
    for report in reports:
        total.update(json.loads(report.payload))
    made = PairManifest(
        version=VERSION,
        data_sha256=splits.data_sha256,
        splits_sha256=splits.sha256,
        config=config,
        num_shards=manifest.num_shards,
        counts={side: {name: total[f"{side}/{name}"] for name in (*SETTINGS, "unmatched")} for side in SPLITS},
        sha256=summed_hash(reports),
    )
    finish(folder, made, manifest.num_shards)
    return made


def read_pair_manifest(uri: str) -> PairManifest | None:
    """What a data set's pairs say of themselves, or None where there are none. They may be of older shards."""
    return read_made(storage.join(storage.absolute(uri), FOLDER), PairManifest)


def read_pairs(uri: str, split: str, setting: Setting) -> Iterator[tuple[str, str]]:
    """Pairs of one split and setting, streamed in the order of the data set's persons.

    Args:
        uri: of the data set.
        split: ``"train"``, ``"val"`` or ``"test"``.
        setting: ``"paired"`` or ``"unpaired"``.

    Yields:
        Ids of the person's and the garment's row.

    Raises:
        DataError: there are no pairs, or the data set has changed since.
    """
    uri = storage.absolute(uri)
    made = read_pair_manifest(uri)
    if made is None:
        raise DataError(f"{uri!r} has no pairs; `tryon data split {uri}` makes them", code="data-fields")
    check_fresh(uri, "pairs", made.data_sha256, read_manifest(uri))
    for shard in range(made.num_shards):
        for row in read_table(pairs_uri(uri, shard)).to_pylist():
            if (row["split"], row["setting"]) == (split, setting):
                yield row["person"], row["garment"]
