"""Does a data set hold what it says? Files against the manifest, ids against each other, layers against each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.buckets import Buckets
from tryon.data.curate.splits import read_split_manifest
from tryon.data.look.checks import CHECKS, MEANINGS, SIZES, TEXT, ValidateConfig
from tryon.data.look.validate_shard import DECODES, ValidateWorker
from tryon.data.shards import QUARANTINE, ContentHash, Manifest, read_manifest, shard_uri
from tryon.engines.dataset import ShardReport, run_shards

EXAMPLES = 5
FILE_CHECKS: Mapping[str, str] = {
    "shards-present": "every shard of the manifest is there, and no other",
    "shards-readable": "every shard is whole and holds the manifest's fields",
    "counts": "rows in = rows + quarantined, as manifest and shards say",
    "content-hash": "the values are those that were written",
    "quarantine": "readable, a reason for every row",
    "splits": "if there are any: a side for every row, made from these shards",
    "ids-unique": "every row has an id, no two the same",
    DECODES: "every image and vector can be decoded",
}
OnShard = Callable[[int, int], None]


class Finding(Config):
    """One fault."""

    where: str = Field(description="a row's id or a file's name")
    what: str = Field(description="a sentence")


class CheckResult(Config):
    """What one check found."""

    name: str = Field(description="of the check")
    meaning: str = Field(description="what must hold")
    checked: int = Field(ge=0, description="rows or files looked at")
    failed: int = Field(ge=0, description="of these, at fault")
    first: tuple[Finding, ...] = Field((), description="the first faults, in the data set's order")


class ValidationResult(Config):
    """What `tryon data validate` found."""

    uri: str = Field(description="of the data set")
    rows: int = Field(ge=0, description="rows looked at")
    checks: tuple[CheckResult, ...] = Field(description="those that had something to look at")

    @property
    def ok(self) -> bool:
        """No check failed."""
        return not any(check.failed for check in self.checks)


def validate(
    uri: str,
    config: ValidateConfig | None = None,
    *,
    num_actors: int | None = None,
    on_shard: OnShard | None = None,
) -> ValidationResult:
    """Runs every check over every row of a data set. What is held here does not grow with the rows.

    Args:
        uri: of the data set.
        config: thresholds.
        num_actors: see `run_shards`.
        on_shard: told the shards looked at and their number.

    Raises:
        DataError: no data set, a damaged manifest or another schema version.
        StorageError: the place cannot be read.
    """
    uri = storage.absolute(uri)
    manifest = read_manifest(uri)
    present, tally = _present(uri, manifest), _Tally()
    tally.add(-1, {"shards-present": (manifest.num_shards, _strays(uri, manifest, present))})
    worker = partial(ValidateWorker, uri, manifest, config or ValidateConfig())
    content = ContentHash()
    with Buckets(manifest.rows) as ids:
        for done, report in enumerate(run_shards(sorted(present), worker, num_actors=num_actors), 1):
            told = json.loads(report.payload)
            for row_id in told["ids"]:
                ids.add(row_id, report.shard)
            tally.add(report.shard, told["found"], rows=report.rows_out)
            tally.count(report)
            content.add(report.shard, report.sha256)
            if on_shard is not None:
                on_shard(done, len(present))
        _check_ids(ids, tally)
    tally.add(-1, {"counts": (1, tally.count_faults(manifest))})
    made = read_split_manifest(uri)
    if made is not None:
        stale = made.data_sha256 != manifest.sha256
        text = "made before the shards changed; `tryon data split` makes it anew"
        tally.add(-1, {"splits": (1, [("_splits/_manifest.json", text)] if stale else [])})
    whole = content.hexdigest() == manifest.sha256
    tally.add(-1, {"content-hash": (1, [] if whole else [("_manifest.json", "its hash is not that of the shards")])})
    return ValidationResult(uri=uri, rows=tally.rows, checks=tally.results())


def _present(uri: str, manifest: Manifest) -> set[int]:
    """Numbers of the shards that are there, of those the manifest names."""
    names = {path.rsplit("/", 1)[-1] for path in storage.list_files(uri, (".parquet",), recursive=False)}
    return {shard for shard in range(manifest.num_shards) if shard_uri("", shard).rsplit("/", 1)[-1] in names}


def _strays(uri: str, manifest: Manifest, present: set[int]) -> list[tuple[str, str]]:
    """Shards that are missing, and Parquet files that the manifest does not know."""
    names = {shard: shard_uri("", shard).rsplit("/", 1)[-1] for shard in range(manifest.num_shards)}
    known = set(names.values())
    faults = [(name, "is missing") for shard, name in names.items() if shard not in present]
    for folder in (uri, storage.join(uri, QUARANTINE)):
        paths = storage.list_files(folder, (".parquet",), recursive=False) if storage.exists(folder) else []
        place = f"{QUARANTINE}/" if folder != uri else ""
        extra = [path.rsplit("/", 1)[-1] for path in paths]
        faults += [(place + name, "is not in the manifest") for name in extra if name not in known]
    return faults


def _check_ids(ids: Buckets, tally: _Tally) -> None:
    for row_id, shards in ids.groups():
        wrong = "rows without an id" if not row_id else f"in shards {', '.join(map(str, shards[:8]))}"
        bad = not row_id or len(shards) > 1
        text = [(row_id or "(no id)", f"{len(shards)} {wrong}" if not row_id else f"{len(shards)} rows, {wrong}")]
        tally.add(shards[0], {"ids-unique": (len(shards), text if bad else [])})


class _Tally:
    """Findings of all shards, added up: counts, and the first few of each check."""

    def __init__(self) -> None:
        self.rows = 0
        self._in = self._quarantined = 0
        self._checked: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._first: dict[str, list[tuple[int, int, str, str]]] = {}

    def add(self, shard: int, found: Mapping[str, Sequence[Any]], *, rows: int = 0) -> None:
        """Takes in what was found in a shard; the first few are those of the lowest shards, whatever the order."""
        self.rows += rows
        for name, (checked, faults) in found.items():
            self._checked[name] = self._checked.get(name, 0) + checked
            self._failed[name] = self._failed.get(name, 0) + len(faults)
            new = [(shard, i, where, what) for i, (where, what) in enumerate(faults[:EXAMPLES])]
            self._first[name] = sorted(self._first.get(name, []) + new)[:EXAMPLES]

    def count(self, report: ShardReport) -> None:
        """Takes in what a shard says of its rows."""
        self._in += report.rows_in
        self._quarantined += report.quarantined

    def count_faults(self, manifest: Manifest) -> list[tuple[str, str]]:
        """Where the manifest's counts are not those of the shards."""
        pairs = {
            "rows_in": (manifest.rows_in, self._in),
            "rows": (manifest.rows, self.rows),
            "quarantined": (manifest.quarantined, self._quarantined),
            "the sum of reasons": (sum(manifest.reasons.values()), self._quarantined),
        }
        wrong = [
            f"{name} is {told}, the shards add up to {real}" for name, (told, real) in pairs.items() if told != real
        ]
        return [("_manifest.json", "; ".join(wrong))] if wrong else []

    def results(self) -> tuple[CheckResult, ...]:
        """By check, in a fixed order."""
        meanings = {**FILE_CHECKS, SIZES: MEANINGS[SIZES], **{c.name: c.meaning for c in CHECKS}, TEXT: MEANINGS[TEXT]}
        return tuple(
            CheckResult(
                name=name,
                meaning=meaning,
                checked=self._checked[name],
                failed=self._failed[name],
                first=tuple(Finding(where=where, what=what) for _, _, where, what in self._first[name]),
            )
            for name, meaning in meanings.items()
            if name in self._checked
        )
