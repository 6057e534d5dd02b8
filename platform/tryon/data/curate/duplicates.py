"""Duplicates across shards, and the other links that keep rows on one side: the same person, the same product.

Two steps. *Index*: each row gives a record for its person_id, its garment_id, each photo's digest and each of the 16
bands of each photo's hash. *Link*: records with one key are brought together; where the key is an id or a digest they
are linked, where it is a band their hashes are compared. Links are few: stars of what is equal, forests of what is
near, and all pairs only among up to 16 rows of one band.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.curate.bits import BANDS
from tryon.data.curate.links import HASHES, LINKS, DuplicateConfig, IndexWorker, Kind, LinkWorker, links_uri
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
from tryon.data.shards import MANIFEST, Manifest, read_manifest
from tryon.errors import DataError

VERSION = 1  # goes up when the same data set gives other links
RECORDS_A_PARTITION = 1_000_000  # about 150 MB


class LinksManifest(Config):
    """What `_links/_manifest.json` holds."""

    version: int = Field(description="of the format and the method")
    data_sha256: str = Field(description="content hash of the data set")
    config: DuplicateConfig = Field(description="what the run was told")
    rows: int = Field(ge=0, description="rows looked at")
    num_parts: int = Field(ge=0, description="Parquet files")
    counts: dict[str, int] = Field(description="links by kind; a near one is counted in each band that finds it")
    sha256: str = Field(description="over the files")


class Link(NamedTuple):
    """Two rows that belong together.

    Attributes:
        kind: why.
        a: id of the row that comes first.
        b: id of the other.
        structure: differing bits of 256; 0 for links that are no near duplicates.
        colour: differing bits of 128.
    """

    kind: Kind
    a: str
    b: str
    structure: int
    colour: int


def check_hashes(uri: str, manifest: Manifest) -> None:
    """Makes sure that a data set can be searched for duplicates.

    Raises:
        DataError: it has no rows, or no fingerprints; the message says which command adds them.
    """
    if manifest.rows == 0:
        raise DataError(f"data set {uri!r} has no rows ({manifest.quarantined} quarantined)", code="data-empty")
    held = [name for name in HASHES if name.removesuffix("_hash") in manifest.fields] or list(HASHES)
    missing = [name for name in held if name not in manifest.fields]
    if missing:
        text = f"data set {uri!r} lacks {' and '.join(missing)}; `tryon data annotate {uri} --out …` adds them"
        raise DataError(text, code="data-fields", field="--data")


def find_duplicates(
    uri: str, config: DuplicateConfig | None = None, *, num_actors: int | None = None, on_step: OnStep | None = None
) -> LinksManifest:
    """Finds the links between rows of a data set and writes them to `<uri>/_links`.

    The same data set and config give the same files, whatever the number of actors. A run that was killed goes on
    from the files that are there; one that is done is not done again.

    Args:
        uri: of the data set.
        config: what counts as the same photo.
        num_actors: see `run_shards`; None does a small data set in this process.
        on_step: told of each task that is done.

    Raises:
        DataError: no data set, no rows, or no fingerprints.
    """
    uri, config = storage.absolute(uri), config or DuplicateConfig()
    manifest = read_manifest(uri)
    check_hashes(uri, manifest)
    done = _finished(uri, manifest, config)
    if done is not None:
        drop_work(storage.join(uri, LINKS))
        return done
    storage.delete(storage.join(uri, LINKS, MANIFEST))  # from here on the files are partly new
    num_actors = actors_for(num_actors, manifest)
    key = run_key("links", VERSION, manifest.sha256, config.model_dump())
    runs = shard_groups(manifest.num_shards)
    parts = max(1, -(-manifest.rows * (4 + 2 * BANDS) // RECORDS_A_PARTITION))
    index = partial(IndexWorker, uri, key, parts, config)
    rows = sum(report.rows_in for report in run_step("index", runs, index, num_actors, on_step))
    link = partial(LinkWorker, uri, key, len(runs), config)
    reports = list(run_step("link", range(parts), link, num_actors, on_step))
    counts = dict.fromkeys((kind.name.lower() for kind in Kind), 0)
    for report in reports:
        for name, count in json.loads(report.payload).items():
            counts[name] += count
    made = LinksManifest(
        version=VERSION, data_sha256=manifest.sha256, config=config, rows=rows, num_parts=parts, counts=counts,
        sha256=summed_hash(reports),
    )  # fmt: skip
    finish(storage.join(uri, LINKS), made, parts)
    return made


def _finished(uri: str, manifest: Manifest, config: DuplicateConfig) -> LinksManifest | None:
    made = read_made(storage.join(uri, LINKS), LinksManifest)
    if made is None:
        return None
    same = (made.version, made.data_sha256, made.config) == (VERSION, manifest.sha256, config)
    return made if same else None


def read_links(uri: str) -> Iterator[Link]:
    """The links of a data set, streamed; a near pair may come more than once.

    Raises:
        DataError: none were made, or the data set has changed since.
    """
    uri = storage.absolute(uri)
    made = read_made(storage.join(uri, LINKS), LinksManifest)
    if made is None:
        raise DataError(f"{uri!r} has no links; `tryon data split {uri}` finds them", code="data-fields")
    check_fresh(uri, "links", made.data_sha256, read_manifest(uri))
    for part in range(made.num_parts):
        for row in read_table(links_uri(uri, part)).to_pylist():
            yield Link(Kind(row["kind"]), row["id_a"], row["id_b"], row["structure"], row["colour"])
