"""Info: what is told is what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.assets import SIZE, clean_rows, write_clean, write_rows
from tryon.data.curate.splits import SplitConfig, split_data
from tryon.data.look.info import info
from tryon.data.shards import shard_uri
from tryon.errors import DataError, StorageError


@pytest.fixture
def data(tmp_path: Path) -> str:
    uri = str(tmp_path / "data")
    write_clean(uri, lambda row: row.update(garment=None, garment_mask=None, pose=None))
    return uri


def test_counts_fields_and_sizes(data: str) -> None:
    told = info(data, num_actors=0)
    assert (told.rows_in, told.rows, told.quarantined, told.num_shards) == (6, 5, 1, 2)
    assert told.bytes == sum(Path(shard_uri(data, shard)).stat().st_size for shard in range(2))
    assert (told.fields["person"].rows, told.fields["garment"].rows, told.fields["pose"].rows) == (5, 4, 4)
    assert told.fields["parse"].kind == "labels"
    assert sum(field.bytes for field in told.fields.values()) < told.bytes
    assert told.values["split"] == {"train": 4, "test": 1}
    assert sum(told.values["category"].values()) == 5
    assert told.sizes["person"] == {f"{SIZE[0]}x{SIZE[1]}": 2}
    assert told.reasons == {"image-truncated": 1}
    assert told.licence == "CC0-1.0"


def test_splits_are_told(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write_clean(uri)
    assert (info(uri, num_actors=0).splits, info(uri, num_actors=0).splits_stale) == ({}, False)
    split_data(uri, SplitConfig(keep=True), num_actors=0)
    assert info(uri, num_actors=0).splits == {"train": 4, "val": 0, "test": 1}
    write_clean(uri, lambda row: row.update(category="hat"))
    assert info(uri, num_actors=0).splits_stale


def test_shards_are_told_as_they_are_looked_at(data: str) -> None:
    seen: list[tuple[int, int]] = []
    info(data, num_actors=0, on_shard=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_rows_without_images(tmp_path: Path) -> None:
    rows = [{"id": row["id"], "category": None} for row in clean_rows()]
    uri = str(tmp_path / "data")
    write_rows(uri, rows)
    told = info(uri, num_actors=0)
    assert told.values["category"] == {"-": 5}
    assert told.sizes == {}


def test_missing_and_damaged_shards_are_named(data: str) -> None:
    path = Path(shard_uri(data, 1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"shard-00001\.parquet is damaged"):
        info(data, num_actors=0)
    path.unlink()
    with pytest.raises(StorageError, match=r"shard-00001\.parquet"):
        info(data, num_actors=0)
