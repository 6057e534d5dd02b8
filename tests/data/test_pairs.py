"""Pairs: with one's own garment, and with somebody else's of the same split and category; each garment as often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.curated import photo_row, write_rows
from tests.data.test_duplicates import _killed_after, files_of
from tests.data.test_splits import near, random_rows, table_of
from tests.s3 import s3_bucket
from tryon.data.curate.pair_steps import PairConfig
from tryon.data.curate.pairing import Item, turned
from tryon.data.curate.pairs import PairManifest, pair_data, read_pairs
from tryon.data.curate.splits import SplitConfig, split_data
from tryon.errors import DataError

SPLIT = SplitConfig(val_fraction=0.3)


def made_pairs(uri: str, **config: Any) -> tuple[PairManifest, dict[str, list[tuple[str, str]]]]:
    split_data(uri, SPLIT, num_actors=0)
    made = pair_data(uri, PairConfig(**config), num_actors=0)
    return made, {setting: list(read_pairs(uri, "train", setting)) + list(read_pairs(uri, "val", setting))
                  for setting in ("paired", "unpaired")}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_gets_their_own_garment_nor_one_of_another_side(tmp_path: Path, seed: int) -> None:
    rows = random_rows(seed, 200, 150, 60)
    rng = np.random.default_rng(seed)
    for row in rows:
        row["category"] = ["upper", "lower", None][rng.integers(3)]
    uri = write_rows(tmp_path / "data", rows)
    made, pairs = made_pairs(uri)
    by_id, sides = {row["id"]: row for row in rows}, table_of(uri)
    single = {row_id for row_id in by_id if sides[row_id]["duplicate_of"] is None}
    both = {i for i in single if by_id[i]["person_hash"] and by_id[i]["garment_hash"]}
    assert {a for a, b in pairs["paired"] if a == b} == both
    persons = {i for i in single if by_id[i]["person_hash"]}
    unmatched = sum(counts["unmatched"] for counts in made.counts.values())
    assert len({a for a, _ in pairs["unpaired"]}) == len(pairs["unpaired"]) == len(persons) - unmatched
    assert unmatched < 10
    for a, b in pairs["unpaired"]:
        person, garment = by_id[a], by_id[b]
        assert garment["garment_hash"], "the other row shows a garment"
        assert sides[a]["split"] == sides[b]["split"]
        assert person["category"] == garment["category"]
        assert sides[a]["garment_group"] != sides[b]["garment_group"]
        assert not (person.get("garment_id") and person["garment_id"] == garment.get("garment_id"))
        assert not near(person["garment_hash"], garment["garment_hash"])
    assert {a for a, _ in pairs["unpaired"]} - both, "persons without a garment are in the list"
    assert {b for _, b in pairs["unpaired"]} - both, "garments without a person are in the list"


def test_each_garment_is_used_once_where_all_rows_have_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    uri = write_rows(tmp_path / "data", [photo_row(f"r{i:03d}", rng) for i in range(90)])
    made, pairs = made_pairs(uri)
    assert set(Counter(b for _, b in pairs["unpaired"]).values()) == {1}
    assert made.counts["train"]["unpaired"] + made.counts["val"]["unpaired"] == 90
    assert [a for a, _ in pairs["unpaired"]] == [a for a, _ in pairs["paired"]]
    _, other = made_pairs(uri, seed=1)
    assert sum(a == b for a, b in zip(pairs["unpaired"], other["unpaired"], strict=True)) < 20


def test_windows_hold_and_garments_are_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.data.curate.pairing.WINDOW", 20)
    for module in ("pairing", "pair_steps"):
        monkeypatch.setattr(f"tryon.data.curate.{module}.WINDOWS_A_FILE", 3)
    monkeypatch.setattr("tryon.data.curate.pairs.ROWS_A_GROUP", 24)
    rng = np.random.default_rng(4)
    uri = write_rows(tmp_path / "data", [photo_row(f"r{i:03d}", rng) for i in range(400)])
    made, pairs = made_pairs(uri)
    uses = Counter(b for _, b in pairs["unpaired"])
    assert sum(counts["unmatched"] for counts in made.counts.values()) == 0
    assert all(a != b for a, b in pairs["unpaired"])
    assert len(uses) > 280
    assert max(uses.values()) <= 6


def test_where_there_is_nothing_else_persons_are_counted_as_unmatched(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = [photo_row(f"r{i}", rng, split="train", garment_id="same") for i in range(3)]
    rows.append(photo_row("dress", rng, split="train", category="dress"))
    made, pairs = made_pairs(write_rows(tmp_path / "data", rows))
    assert pairs["unpaired"] == []
    assert made.counts["train"] == {"paired": 4, "unpaired": 0, "unmatched": 4}


def test_turning_gives_each_garment_once_however_groups_are_sized() -> None:
    rng = np.random.default_rng(6)
    for seed in range(50):
        sizes = rng.integers(1, 6, size=rng.integers(2, 12))
        sizes = np.append(sizes, sizes.max())  # no group is more than half of all
        items = sorted(
            Item(int(hash((seed, g)) % 97), f"g{g}", f"{g}-{i}") for g, n in enumerate(sizes) for i in range(n)
        )
        out = turned(items, items, seed)
        assert sorted(out) == sorted(out.values()) == sorted(item.id for item in items)
        assert all(a.split("-")[0] != b.split("-")[0] for a, b in out.items())


@pytest.mark.ray
def test_workers_and_kills_change_nothing(tmp_path: Path, ray_local: None) -> None:
    rows = random_rows(8, 150, 120, 100)
    one, two, three = (write_rows(tmp_path / name / "data", rows) for name in ("one", "two", "three"))
    for uri in (one, two, three):
        split_data(uri, SPLIT, num_actors=0)
    made = pair_data(one, num_actors=0)
    assert pair_data(two, num_actors=2) == made
    for step in ("deal", "gather", "pair"):
        with pytest.raises(KeyboardInterrupt):
            pair_data(three, num_actors=0, on_step=_killed_after(step, 1))
    assert pair_data(three, num_actors=0) == made
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") == files_of(tmp_path / "three")
    again: list[str] = []
    assert pair_data(three, on_step=lambda name, *_: again.append(name)) == made
    assert again == []


def test_pairs_ask_for_splits_and_tell_when_they_are_stale(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    uri = write_rows(tmp_path / "data", [photo_row(f"r{i}", rng) for i in range(12)])
    with pytest.raises(DataError, match="is not split; `tryon data split"):
        pair_data(uri)
    made_pairs(uri)
    with pytest.raises(DataError, match="has no pairs"):
        next(read_pairs(write_rows(tmp_path / "other", [photo_row("a", rng)]), "train", "paired"))
    write_rows(uri, [photo_row(f"r{i}", rng) for i in range(6)])
    with pytest.raises(DataError, match="before the data set changed"):
        next(read_pairs(uri, "train", "paired"))
    made_pairs(uri)
    assert len(list((tmp_path / "data" / "_pairs").glob("*.parquet"))) == 2


def test_on_s3(tmp_path: Path) -> None:
    rows = random_rows(10, 40, 30, 30)
    local = write_rows(tmp_path / "data", rows)
    made, pairs = made_pairs(local)
    with s3_bucket("pairs-test") as bucket:
        assert made_pairs(write_rows(f"{bucket}/data", rows)) == (made, pairs)
