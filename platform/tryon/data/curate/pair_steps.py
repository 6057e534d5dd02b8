"""The three steps that make pairs: deal garments into windows, gather the windows, pair persons with them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.data.curate.links import HASHES
from tryon.data.curate.pairing import WINDOWS_A_FILE, Item, Kind, Windows, seeded, turned
from tryon.data.curate.shuffle import read_group, read_partition, run_uri, write_run
from tryon.data.curate.splits import split_uri
from tryon.data.curate.steps import read_columns, read_table, told_by, work_folder, write_table
from tryon.engines.dataset import ShardReport

FOLDER = "_pairs"


class PairConfig(Config):
    """How pairs are made."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="another seed, other garments for the unpaired list")


def pairs_uri(uri: str, shard: int) -> str:
    """URI of the pairs of a data shard's persons."""
    return storage.join(uri, FOLDER, f"shard-{shard:05d}.parquet")


def _gathered_uri(uri: str, file: int) -> str:
    return storage.join(work_folder(storage.join(uri, FOLDER)), f"windows-{file:05d}.parquet")


def _rows(uri: str, shard: int) -> Iterator[tuple[Kind, str, str, bool, bool]]:
    """((split, category), id, garment group, has a person, has a garment) of the rows that are no duplicates."""
    columns = read_columns(uri, shard, ("id", "category", *HASHES))
    sides = read_table(split_uri(uri, shard)).to_pydict()
    assert columns["id"] == sides["id"], "check_split has seen that the splits are of these shards"
    for row_id, category, person, garment, split, stands, group in zip(
        *columns.values(), *(sides[name] for name in ("split", "duplicate_of", "garment_group")), strict=True
    ):
        if stands is None:
            yield (split, category or ""), row_id, group, person is not None, garment is not None


class DealWorker:
    """Deals the garments of a group of data shards into windows."""

    def __init__(self, uri: str, key: str, config: PairConfig, windows: Windows) -> None:
        self._uri, self._key, self._config, self._windows = uri, key, config, windows
        self._folder = work_folder(storage.join(uri, FOLDER))

    def process(self, shard: int, task: range) -> ShardReport:
        """Writes the group's run, unless it is there."""
        import pyarrow as pa

        told = told_by(run_uri(self._folder, shard), self._key)
        if told is None:
            dealt = [
                (self._windows.of_garment(kind, seeded(self._config.seed, "window", row_id) / 2**64), row_id, group)
                for number in task
                for kind, row_id, group, _, has_garment in _rows(self._uri, number)
                if has_garment
            ]
            window = np.array([window for window, _, _ in dealt], dtype=np.int64)
            table = pa.table(
                {
                    "window": pa.array(window),
                    "id": pa.array([row_id for _, row_id, _ in dealt], pa.string()),
                    "group": pa.array([group for _, _, group in dealt], pa.string()),
                }
            )
            told = {"key": self._key, "rows": len(dealt)}
            files = max(1, self._windows.num_files)
            write_run(self._folder, shard, table, window // WINDOWS_A_FILE, files, told)
        return ShardReport(shard, told["rows"], told["rows"], 0)


class GatherWorker:
    """Brings the garments of some windows together from all runs."""

    def __init__(self, uri: str, key: str, num_runs: int, windows: Windows) -> None:
        self._uri, self._key, self._num_runs, self._windows = uri, key, num_runs, windows

    def process(self, shard: int, task: int) -> ShardReport:
        """Writes the windows to one file, a row group each, unless it is there."""
        path = _gathered_uri(self._uri, shard)
        told = told_by(path, self._key)
        if told is None:
            folder = work_folder(storage.join(self._uri, FOLDER))
            table = read_partition(folder, self._num_runs, task, self._key)
            table = table.sort_by([("window", "ascending"), ("id", "ascending")])
            counts = np.bincount(table["window"].to_numpy() - task * WINDOWS_A_FILE, minlength=WINDOWS_A_FILE).tolist()
            told = {"key": self._key, "rows": len(table), "counts": counts}
            write_table(path, table, told, counts)
        return ShardReport(shard, told["rows"], told["rows"], 0)


class PairWorker:
    """Pairs the persons of a group of data shards."""

    def __init__(self, uri: str, key: str, config: PairConfig, windows: Windows) -> None:
        self._uri, self._key, self._config, self._windows = uri, key, config, windows

    def process(self, shard: int, task: range) -> ShardReport:
        """Writes the group's files, but for those that are there."""
        paths = [pairs_uri(self._uri, number) for number in task]
        told = [told_by(path, self._key) for path in paths]
        if None in told:
            told = self._write(shard, task)
        counts: Counter[str] = Counter()
        for one in told:
            counts.update((one or {})["counts"])
        hashes = [storage.sha256(storage.read_bytes(path)) for path in paths]
        digest = storage.sha256("\n".join(hashes).encode())
        rows = sum(count for name, count in counts.items() if not name.endswith("unmatched"))
        return ShardReport(shard, rows, rows, 0, digest, payload=json.dumps(counts, sort_keys=True))

    def _write(self, task_number: int, task: range) -> list[dict[str, Any] | None]:
        shards = [list(_rows(self._uri, number)) for number in task]
        persons: dict[Kind, list[Item]] = defaultdict(list)
        for rows in shards:
            for kind, row_id, group, has_person, _ in rows:
                if has_person:
                    persons[kind].append(self._item(group, row_id))
        unpaired: dict[str, str] = {}
        for kind in sorted(persons):
            found = self._windows.of_task(kind, task_number)
            if found is not None:
                window, begin = found
                seed = seeded(self._config.seed, "turn", str(window))
                unpaired |= turned(sorted(persons[kind]), self._garments(window), seed, begin)
        return [self._write_shard(number, rows, unpaired) for number, rows in zip(task, shards, strict=True)]

    def _item(self, group: str, row_id: str) -> Item:
        return Item(seeded(self._config.seed, "group", group), group, row_id)

    def _garments(self, window: int) -> list[Item]:
        path, place = _gathered_uri(self._uri, window // WINDOWS_A_FILE), window % WINDOWS_A_FILE
        found = read_group(path, place, self._key).to_pylist()
        return sorted(self._item(row["group"], row["id"]) for row in found)

    def _write_shard(
        self, shard: int, rows: Sequence[tuple[Kind, str, str, bool, bool]], unpaired: Mapping[str, str]
    ) -> dict[str, Any]:
        import pyarrow as pa

        out: list[tuple[str, str, str, str]] = []
        counts: Counter[str] = Counter()
        for (split, _), row_id, _, has_person, has_garment in rows:
            if has_person and has_garment:
                out.append((split, "paired", row_id, row_id))
            if has_person and row_id in unpaired:
                out.append((split, "unpaired", row_id, unpaired[row_id]))
            counts[f"{split}/unmatched"] += has_person and row_id not in unpaired
        counts.update(f"{split}/{setting}" for split, setting, _, _ in out)
        columns = zip(*out, strict=True) if out else ([], [], [], [])
        names = ("split", "setting", "person", "garment")
        told = {"key": self._key, "counts": counts}
        table = pa.table({n: pa.array(list(c), pa.string()) for n, c in zip(names, columns, strict=True)})
        write_table(pairs_uri(self._uri, shard), table, told)
        return told
