"""Runs an export: shards to files in parallel, then the lists in the shards' order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.buckets import Buckets
from tryon.data.curate.pair_steps import pairs_uri
from tryon.data.curate.pairs import read_pair_manifest
from tryon.data.curate.splits import check_split, read_split, read_split_manifest
from tryon.data.curate.steps import check_fresh
from tryon.data.export.folder import FolderLayout
from tryon.data.export.layout import ExportConfig, Exported, Layout
from tryon.data.export.names import safe_stem
from tryon.data.export.output import open_output
from tryon.data.export.viton_hd import VitonHdLayout
from tryon.data.rows import iter_rows
from tryon.data.shards import read_manifest, shard_uri
from tryon.engines.dataset import ShardReport, run_shards
from tryon.errors import ConfigError, DataError
from tryon.sample import Row

LAYOUTS: Mapping[str, type[Layout]] = {"viton-hd": VitonHdLayout, "folder": FolderLayout}
RECORD = "_export.json"
PARTS = "_export"
SPLITS = ("train", "val", "test")
OnShard = Callable[[int, int], None]


class ExportResult(Config):
    """What an export wrote; also kept beside it in `_export.json`."""

    source: str = Field(description="URI of the data set")
    source_sha256: str = Field(description="of its content")
    layout: str = Field(description="by name")
    config: ExportConfig = Field(description="options")
    rows: int = Field(ge=0, description="rows of the data set")
    written: int = Field(ge=0, description="samples written; rows = written + left_out")
    left_out: int = Field(ge=0, description="samples of other categories than those asked for")
    splits: Mapping[str, int] = Field(description="samples written by folder")
    lists: Mapping[str, int] = Field(description="lines by list")
    notices: Mapping[str, int] = Field(description="what a reader should know, and of how many samples")


class ExportWorker:
    """Writes the files of one shard, and its part of the lists."""

    def __init__(self, uri: str, out: str, layout: str, config: ExportConfig) -> None:
        self._uri, self._out = uri, out
        self._split = read_split_manifest(uri) is not None
        self._paired = read_pair_manifest(uri) is not None
        self._layout = LAYOUTS[layout]()
        self._config = config

    def process(self, shard: int, task: int) -> ShardReport:
        """Writes shard `task`. The same shard gives the same files, so that a rerun changes nothing."""
        entries, stems, left_out = [], [], 0
        notices: Counter[str] = Counter()
        sides = read_split(self._uri, task) if self._split else None
        pairs = _Pairs(self._uri, task) if self._paired else None
        for row in iter_rows(shard_uri(self._uri, task), self._layout.reads):
            row["split"] = sides[row["id"]] if sides is not None else row.get("split")
            if row.get("category") not in (None, *self._config.categories):
                left_out += 1
                continue
            done, stem = self._export(row)
            if pairs is not None:
                pairs.mark(row["id"], done)
            for path, data in done.files.items():
                storage.write_bytes(storage.join(self._out, path), data)
            notices.update(done.notices)
            entries.append(done.entry)
            stems.append((done.entry["folder"], stem, row["id"]))
        storage.write_bytes(_part(self._out, task), "\n".join(json.dumps(e) for e in entries).encode())
        payload = json.dumps({"stems": stems, "notices": notices})
        return ShardReport(task, len(entries) + left_out, len(entries), left_out, payload=payload)

    def _export(self, row: Row) -> tuple[Exported, str]:
        stem = safe_stem(row["id"])
        split = row.get("split") or self._config.default_split
        if split not in SPLITS:
            raise DataError(f"{row['id']} has split {split!r}; train, val and test are known", code="split-unknown")
        return self._layout.export(row, stem, split, self._config), stem


class _Pairs:
    """What `tryon data split` paired the persons of a shard with."""

    def __init__(self, uri: str, shard: int) -> None:
        self._garments: dict[tuple[str, str], str] = {}
        for row in iter_rows(pairs_uri(uri, shard)):
            self._garments[row["setting"], row["person"]] = row["garment"]

    def mark(self, row_id: str, done: Exported) -> None:
        """Says in a sample's entry which lists it is on."""
        own, other = (self._garments.get((setting, row_id)) for setting in ("paired", "unpaired"))
        done.entry["unpaired"] = None if other is None else safe_stem(other)
        if own is None and done.entry.get("paired"):
            done.entry["paired"] = False
            done.notices.append("stands back for a duplicate: in no pair list")


def export(
    uri: str,
    out: str,
    layout: str = "viton-hd",
    config: ExportConfig | None = None,
    *,
    num_actors: int | None = None,
    on_shard: OnShard | None = None,
) -> ExportResult:
    """Writes a data set as files.

    Rows go into the folders that `tryon data split` gave them, else the source, else `default_split`. The lists of
    pairs are those it made, else every sample with two photos is listed with its own garment.

    Photos that the shards hold as JPEG are written byte for byte. Every file is written whole or not at all, and a run
    that was cut off, started again, writes the same. Lists come last: what they name is there.

    Args:
        uri: of the data set.
        out: folder, local or `s3://`; new, or of an earlier export of the same data set.
        layout: a name in `LAYOUTS`.
        config: options.
        num_actors: see `run_shards`.
        on_shard: told the shards written and their number.

    Raises:
        ConfigError: an unknown layout.
        DataError: no data set, splits or pairs of older shards, an id that occurs twice, or something else at `out`.
        StorageError: a place cannot be read or written.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is not one of {', '.join(LAYOUTS)}", code="layout-unknown")
    uri, out, config = storage.absolute(uri), storage.absolute(out), config or ExportConfig()
    manifest = read_manifest(uri)
    if read_split_manifest(uri) is not None:
        check_split(uri)
    made = read_pair_manifest(uri)
    if made is not None:
        check_fresh(uri, "pairs", made.data_sha256, manifest)
    told: dict[str, Any] = {"source": uri, "source_sha256": manifest.sha256, "layout": layout, "config": config}
    _check_out(out, manifest.sha256, layout)
    worker = partial(ExportWorker, uri, out, layout, config)
    notices: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    left_out = 0
    with Buckets(manifest.rows) as names:
        reports = run_shards(range(manifest.num_shards), worker, num_actors=num_actors)
        for done, report in enumerate(reports, 1):
            payload = json.loads(report.payload)
            notices.update(payload["notices"])
            left_out += report.quarantined
            for folder, stem, row_id in payload["stems"]:
                splits[folder] += 1
                names.add(f"{folder}/{stem}", row_id)
            if on_shard is not None:
                on_shard(done, manifest.num_shards)
        _check_names(uri, names)
    lists = _write_lists(out, LAYOUTS[layout](), manifest.num_shards)
    written = sum(splits.values())
    counts = {"rows": written + left_out, "written": written, "left_out": left_out}
    result = ExportResult(**told, **counts, splits=_sorted(splits), lists=lists, notices=_sorted(notices))
    storage.write_bytes(storage.join(out, RECORD), result.model_dump_json(indent=2).encode())
    storage.delete(storage.join(out, PARTS))
    return result


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _part(out: str, shard: int) -> str:
    return storage.join(out, PARTS, f"shard-{shard:05d}.jsonl")


def _check_out(out: str, sha256: str, layout: str) -> None:
    """Refuses a folder with files that are no earlier export of this data set: they would be mixed up.

    The record is written first, too, so that a run that was cut off is known again.
    """
    path = storage.join(out, RECORD)
    mark = {"source_sha256": sha256, "layout": layout}
    if storage.exists(path):
        told = json.loads(storage.read_bytes(path))
        if any(told.get(key) != value for key, value in mark.items()):
            raise DataError(f"{out} holds another export; give a new folder", code="out-taken", field="--out")
    elif any(storage.exists(storage.join(out, split)) for split in SPLITS):
        text = f"{out} holds {' or '.join(SPLITS)} that no export wrote; give a new folder"
        raise DataError(text, code="out-taken", field="--out")
    storage.write_bytes(path, json.dumps(mark).encode())


def _check_names(uri: str, names: Buckets) -> None:
    for name, ids in names.groups():
        if len(ids) > 1:
            text = f"{uri}: {len(ids)} rows would be written as {name} (ids {', '.join(map(repr, sorted(set(ids))))})"
            raise DataError(f"{text}; `tryon data validate` lists such rows", code="id-duplicate", field="--data")


def _write_lists(out: str, layout: Layout, num_shards: int) -> dict[str, int]:
    """Writes all lists in the shards' order, streamed; returns their lines."""
    paths: Counter[str] = Counter()
    for path, _ in _lines(out, layout, num_shards):
        paths[path] += 1
    for wanted in paths:
        with open_output(storage.join(out, wanted)) as file:
            for path, line in _lines(out, layout, num_shards):
                if path == wanted:
                    file.write(f"{line}\n".encode())
    return dict(sorted(paths.items()))


def _lines(out: str, layout: Layout, num_shards: int) -> Iterator[tuple[str, str]]:
    for shard in range(num_shards):
        for line in storage.read_bytes(_part(out, shard)).splitlines():
            yield from layout.lines(json.loads(line)).items()
