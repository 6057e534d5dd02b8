"""Splits: nothing linked is on two sides, adding data moves nothing else, a source's own split is kept or reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.curated import flipped, photo_row, random_code, write_rows
from tests.data.test_duplicates import _killed_after, files_of
from tests.s3 import s3_bucket
from tryon import storage
from tryon.config import parse_config
from tryon.data.curate.splits import SplitConfig, check_split, read_split, split_data, split_uri
from tryon.data.curate.steps import finish, read_table
from tryon.data.shards import read_manifest
from tryon.errors import ConfigError, DataError


def random_rows(seed: int, num: int, people: int, products: int) -> list[dict[str, Any]]:
    """Rows linked at random: by ids, by equal digests and by near hashes."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(num):
        row = photo_row(f"r{i:04d}", rng)
        for name, count in (("person_id", people), ("garment_id", products)):
            if rng.random() < 0.5:
                row[name] = f"{name}-{rng.integers(count)}"
        for photo in ("person", "garment"):
            if rows and rng.random() < 0.1:
                other = rows[rng.integers(len(rows))]
                row[f"{photo}_hash"] = flipped(other[f"{photo}_hash"] or random_code(rng), rng, 4, 2)
            if rows and rng.random() < 0.05:
                row[f"{photo}_digest"] = rows[rng.integers(len(rows))][f"{photo}_digest"]
        if rng.random() < 0.2:
            row["person_hash"] = row["person_digest"] = row["person_id"] = None
        elif rng.random() < 0.2:
            row["garment_hash"] = row["garment_digest"] = row["garment_id"] = None
        rows.append(row)
    return rows


def table_of(uri: str) -> dict[str, dict[str, Any]]:
    """The rows of the split files by id."""
    tables = [read_table(split_uri(uri, shard)).to_pylist() for shard in range(read_manifest(uri).num_shards)]
    return {row["id"]: row for rows in tables for row in rows}


def near(a: str | None, b: str | None) -> bool:
    if not a or not b:
        return False
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(a), np.uint8) ^ np.frombuffer(bytes.fromhex(b), np.uint8))
    return bool(bits[:256].sum() <= 32 and bits[256:].sum() <= 12)


def linked(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two rows may not be on two sides; compares all with all, by no code of the package."""
    ids = ("person_id", "garment_id", "person_digest", "garment_digest")
    return any(a[n] and a[n] == b[n] for n in (n for n in ids if n in a and n in b)) or any(
        near(a[name], b[name]) for name in ("person_hash", "garment_hash")
    )


@pytest.mark.parametrize("seed", range(4))
def test_nothing_linked_is_on_two_sides(tmp_path: Path, seed: int) -> None:
    rows = random_rows(seed, 160, 60 + 40 * seed, 90)
    uri = write_rows(tmp_path / "data", rows, rows_per_shard=5 + seed)
    made = split_data(uri, SplitConfig(val_fraction=0.3, test_fraction=0.2, seed=seed))
    side = {row_id: row["split"] for row_id, row in table_of(uri).items()}
    assert list(side) == [row["id"] for row in rows]
    together = [(a["id"], b["id"]) for i, a in enumerate(rows) for b in rows[:i] if linked(a, b)]
    assert len(together) > 50
    assert all(side[a] == side[b] for a, b in together)
    assert {name: part.rows for name, part in made.sides.items()} == {
        name: list(side.values()).count(name) for name in ("train", "val", "test")
    }
    components = {row["component"] for row in table_of(uri).values()}
    assert made.components == len(components) > 20
    assert len(set(side.values())) == 3


def test_fractions_are_met_and_seeds_differ(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [photo_row(f"r{i:05d}", rng) for i in range(1500)]
    uri = write_rows(tmp_path / "data", rows, rows_per_shard=100)
    made = split_data(uri)
    assert made.sides["test"].rows == 0
    assert 110 <= made.sides["val"].rows <= 190
    assert (made.linked, made.components, made.largest) == (0, 1500, 1)
    first = {row_id: row["split"] for row_id, row in table_of(uri).items()}
    split_data(uri, SplitConfig(seed=1))
    second = {row_id: row["split"] for row_id, row in table_of(uri).items()}
    moved = sum(first[i] != second[i] for i in first)
    assert 180 <= moved <= 360, "a tenth and a tenth, but for those in both"


def test_adding_data_moves_nothing_else(tmp_path: Path) -> None:
    rows = random_rows(5, 200, 120, 120)
    old = write_rows(tmp_path / "old", rows[:140])
    new = write_rows(tmp_path / "new", rows[140:] + rows[:140], rows_per_shard=9)
    split_data(old)
    split_data(new)
    before, after = table_of(old), table_of(new)
    same = [i for i in before if before[i]["component"] == after[i]["component"]]
    assert len(same) > 60
    assert all(before[i]["split"] == after[i]["split"] for i in same)


def test_duplicates_name_the_row_that_stands_for_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    a = photo_row("a", rng)
    nothing: dict[str, Any] = {"garment_hash": None, "garment_digest": None}
    copy = {
        **photo_row("b", rng),
        "person_digest": a["person_digest"],
        "garment_hash": flipped(a["garment_hash"], rng, 3),
    }
    rows = [
        copy,
        a,
        {**a, "id": "other-garment", "garment_hash": random_code(rng), "garment_digest": "77", "category": "lower"},
        {**a, "id": "0-person-only", **nothing},
        {**a, "id": "0-garment-only", "person_hash": None, "person_digest": None},
        photo_row("z", rng),
        {**photo_row("lone-1", rng), **nothing, "person_digest": "55"},
        {**photo_row("lone-2", rng), **nothing, "person_digest": "55"},
    ]
    uri = write_rows(tmp_path / "data", rows)
    made = split_data(uri)
    table = table_of(uri)
    assert {row_id: row["duplicate_of"] for row_id, row in table.items() if row["duplicate_of"]} == {
        "b": "a", "0-person-only": "a", "0-garment-only": "a", "lone-2": "lone-1",
    }  # fmt: skip
    assert sum(side.duplicates for side in made.sides.values()) == 4
    assert table["other-garment"]["garment_group"] == table["a"]["garment_group"] != table["z"]["garment_group"]
    assert table["z"]["component"] == table["z"]["garment_group"] == "z"


def test_the_sources_split_is_kept_and_followed(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    rows = [photo_row(f"r{i}", rng, split=["train", "test"][i % 2]) for i in range(10)]
    rows += [photo_row("follows", rng, person_id="x"), photo_row("free", rng)]
    rows[1]["person_id"] = "x"
    rows[4]["garment_id"] = rows[7]["garment_id"] = rows[9]["garment_id"] = "y"
    rows.append(photo_row("torn", rng, garment_id="y"))
    uri = write_rows(tmp_path / "data", rows)
    made = split_data(uri)
    side = read_all(uri)
    assert [side[f"r{i}"] for i in range(10)] == ["train", "test"] * 5
    assert side["follows"] == "test"
    assert side["torn"] == "test", "most of what it is linked with is there"
    assert (made.conflicts, made.conflict_examples) == (1, ("r4",))
    loose = split_data(uri, SplitConfig(keep=False, val_fraction=0.4))
    side = read_all(uri)
    assert loose.conflicts == 0
    assert len({side[name] for name in ("r4", "r7", "r9", "torn")}) == 1


def read_all(uri: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for shard in range(check_split(uri).num_shards):
        out |= read_split(uri, shard) or {}
    return out


@pytest.mark.ray
def test_workers_and_kills_change_nothing(tmp_path: Path, ray_local: None) -> None:
    rows = random_rows(8, 150, 80, 80)
    one, two, three = (write_rows(tmp_path / name / "data", rows) for name in ("one", "two", "three"))
    made = split_data(one, num_actors=0)
    assert split_data(two, num_actors=2) == made
    for step, done in (("index", 2), ("connect", 1), ("split", 2)):
        with pytest.raises(KeyboardInterrupt):
            split_data(three, num_actors=0, on_step=_killed_after(step, done))
    assert split_data(three, num_actors=0) == made
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") == files_of(tmp_path / "three")
    again: list[str] = []
    assert split_data(three, on_step=lambda name, *_: again.append(name)) == made
    assert again == []


def test_a_smaller_data_set_leaves_no_old_files_and_stale_splits_are_told(tmp_path: Path) -> None:
    rows = random_rows(9, 60, 30, 30)
    uri = write_rows(tmp_path / "data", rows)
    with pytest.raises(DataError, match="is not split; `tryon data split"):
        check_split(uri)
    assert read_split(uri, 0) is None
    split_data(uri)
    write_rows(uri, rows[:30])
    with pytest.raises(DataError, match="before the data set changed"):
        check_split(uri)
    split_data(uri)
    assert len(list((tmp_path / "data" / "_splits").glob("*.parquet"))) == read_manifest(uri).num_shards == 8
    assert len(read_all(uri)) == 30


def test_on_s3(tmp_path: Path) -> None:
    rows = random_rows(10, 40, 20, 20)
    local = write_rows(tmp_path / "data", rows)
    made = split_data(local)
    with s3_bucket("splits-test") as bucket:
        uri = write_rows(f"{bucket}/data", rows)
        assert split_data(uri) == made
        assert read_all(uri) == read_all(local)


def test_a_manifest_that_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "data", random_rows(11, 20, 10, 10))
    made = split_data(uri)
    for folder in ("_links", "_splits"):
        (tmp_path / "data" / folder / "_manifest.json").write_text('{"version": 0')
    with pytest.raises(DataError, match="is not split"):
        check_split(uri)
    assert split_data(uri) == made


def test_shards_are_numbered_past_five_digits(tmp_path: Path) -> None:
    folder = tmp_path / "_splits"
    for name in ("shard-00000", "shard-99999", "shard-100000", "shard-100001", "_work/labels"):
        storage.write_bytes(str(folder / f"{name}.parquet"), b"")
    finish(str(folder), SplitConfig(), 100_001)
    assert sorted(path.stem for path in folder.rglob("*.parquet")) == ["shard-00000", "shard-100000", "shard-99999"]


def test_fractions_must_leave_something_to_train_on() -> None:
    with pytest.raises(ConfigError, match="less than 1"):
        parse_config(SplitConfig, {"val_fraction": 0.6, "test_fraction": 0.4}, "split")
